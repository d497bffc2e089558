// SHA-256 by the examples of its standard, and in pieces.
#include "core/hash.h"

#include <gtest/gtest.h>

#include <string>

namespace espalier {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Sha256, GivesTheNumbersOfItsStandard) {  // FIPS 180-4's examples
  EXPECT_EQ(sha256({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256(bytes_of("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(bytes_of(std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, OfPiecesIsThatOfTheWhole) {
  const std::string text(200, 'q');
  for (size_t cut = 0; cut <= text.size(); cut += 9) {
    Sha256 hash;
    hash.add(bytes_of(std::string_view(text).substr(0, cut)));
    hash.add({});
    hash.add(bytes_of(std::string_view(text).substr(cut)));
    EXPECT_EQ(hash.finish(), sha256(bytes_of(text))) << cut;
  }
}

}  // namespace
}  // namespace espalier
