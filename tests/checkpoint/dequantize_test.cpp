// ggml's tensor types against the values of the gguf package (tests/data/checkpoint/make_ggml_blocks.py).
#include "checkpoint/dequantize.h"

#include <gtest/gtest.h>

#include <vector>

#include "checkpoint/safetensors.h"

namespace espalier {
namespace {

TEST(Dequantize, EveryTypeGivesTheValuesOfTheGgufPackage) {
  const SafetensorsSource file({std::string(ESPALIER_TEST_DATA) + "/checkpoint/ggml_blocks.safetensors"});
  const auto all = [&](const std::string& name) {
    std::vector<float> values(static_cast<size_t>(file.find(name)->elements()));
    file.read(name, values.data());
    return values;
  };
  int types = 0;
  for (uint32_t number = 0; number < 64; ++number) {
    const TensorType* type = find_tensor_type(number);
    if (!type) continue;
    ++types;
    const std::string name = type->name;
    ASSERT_NE(file.find(name + ".bytes"), nullptr) << name;
    const std::vector<float> stored = all(name + ".bytes"), expected = all(name + ".values");
    const int64_t blocks = static_cast<int64_t>(stored.size()) / type->block_bytes;
    ASSERT_EQ(blocks * type->block, static_cast<int64_t>(expected.size())) << name;
    for (const size_t offset : {size_t{0}, size_t{1}, size_t{3}}) {  // a file promises no alignment
      std::vector<std::byte> bytes(offset);
      for (const float byte : stored) bytes.push_back(static_cast<std::byte>(byte));
      std::vector<float> got(expected.size() + 1, 7.0f);
      type->convert(bytes.data() + offset, blocks, got.data());
      EXPECT_EQ(got.back(), 7.0f) << name << " writes too far";
      got.pop_back();
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i], expected[i]) << name << " element " << i;
      }
    }
  }
  EXPECT_EQ(types, 13);
}

}  // namespace
}  // namespace espalier
