#include "decoding/state_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::load_tiny_model;
using testing::random_tokens;

constexpr size_t kHash = 64;

StateBinding binding_of(const Model& model) {
  return {.base_sha256 = "b", .attention = model.config().attention, .weights = "f32"};
}

SavedState some_state(const Model& model, int64_t length) {
  Workspace workspace(1);
  SavedState saved{model.new_state(), random_tokens(length + 1, 97, 3)};
  model.prefill(saved.state, std::span(saved.tokens).first(static_cast<size_t>(length)), workspace, nullptr, nullptr);
  return saved;
}

// As if the damage had happened before the checksum was made.
std::string sealed(std::string content) {
  return content + sha256(std::as_bytes(std::span(content.data(), content.size())));
}

std::string canonical(const SequenceState& state) {
  std::string bytes;
  for (const LayerState& layer : state.layers) layer.serialize(bytes);
  return bytes;
}

TEST(StateFile, ComesBackAsItWas) {
  for (const std::string spec : {"softmax", "window(group=8,sinks=2)", "lolcats(group=8)", "augmented(group=8)",
                                 "gated_delta(conv=4)", "gated_delta(conv=1)"}) {
    for (const int64_t length : {0, 1, 7, 8, 9, 16, 30}) {
      const auto model = load_tiny_model({.attention = {spec}});
      const SavedState saved = some_state(*model, length);
      const std::string bytes = serialize_state(saved, binding_of(*model));
      const SavedState back = parse_state(bytes, binding_of(*model), *model, "x");
      EXPECT_EQ(back.tokens, saved.tokens);
      EXPECT_EQ(back.state.length(), length);
      EXPECT_EQ(canonical(back.state), canonical(saved.state)) << spec << " " << length;
    }
  }
}

TEST(StateFile, EveryFlippedByteIsNoticed) {
  const auto model = load_tiny_model({.attention = {"window(group=8)"}});
  const std::string bytes = serialize_state(some_state(*model, 3), binding_of(*model));
  for (size_t i = 0; i < bytes.size(); i += 1 + i / 64) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_THROW(parse_state(damaged, binding_of(*model), *model, "x"), CorruptFile) << i;
  }
}

TEST(StateFile, EveryTruncationIsNoticedEvenWithARightChecksum) {
  const auto model = load_tiny_model({.attention = {"lolcats(group=8)"}});
  const std::string whole = serialize_state(some_state(*model, 11), binding_of(*model));
  const std::string content = whole.substr(0, whole.size() - kHash);
  for (size_t size = 0; size < content.size(); size += 1 + size / 50) {
    EXPECT_THROW(parse_state(whole.substr(0, size), binding_of(*model), *model, "x"), CorruptFile) << size;
    EXPECT_THROW(parse_state(sealed(content.substr(0, size)), binding_of(*model), *model, "x"), Error) << size;
  }
  EXPECT_THROW(parse_state(sealed(content + "x"), binding_of(*model), *model, "x"), CorruptFile);
}

TEST(StateFile, HostileNumbersAreRefusedBeforeMemoryIsTaken) {
  const auto model = load_tiny_model({.attention = {"softmax"}});
  const StateBinding binding = binding_of(*model);
  const std::string whole = serialize_state(some_state(*model, 5), binding);
  const std::string content = whole.substr(0, whole.size() - kHash);
  // Every 8 bytes from the magic on may be a size: overwrite each with values that overflow.
  for (const uint64_t value : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{1} << 31}) {
    for (size_t i = 8; i + 8 <= content.size(); ++i) {
      std::string hostile = content;
      for (int b = 0; b < 8; ++b) hostile[i + static_cast<size_t>(b)] = static_cast<char>(value >> (8 * b));
      try {
        const SavedState parsed = parse_state(sealed(hostile), binding, *model, "x");
        EXPECT_EQ(parsed.tokens.size(), 6u);  // rows may hold any number
      } catch (const Error&) {
      }
    }
  }
}

TEST(StateFile, BelongsToItsModelAlone) {
  const auto model = load_tiny_model({.attention = {"window(group=8)"}});
  const StateBinding right = binding_of(*model);
  const std::string bytes = serialize_state(some_state(*model, 4), right);
  for (int field = 0; field < 4; ++field) {
    StateBinding other = right;
    if (field == 0) other.base_sha256 = "c";
    if (field == 1) other.adapter_sha256 = "a";
    if (field == 2) other.attention[1] = "softmax";
    if (field == 3) other.weights = "bf16";
    EXPECT_THROW(parse_state(bytes, other, *model, "x"), InvalidArgument) << field;
  }
}

TEST(StateFile, GoesOnAsIfNothingHadHappened) {
  const auto model = load_tiny_model({.attention = {"lolcats(group=8)"}});
  Workspace workspace(1);
  Generator generator(*model, nullptr, workspace);
  const std::vector<int32_t> prompt = random_tokens(9, 97, 5);
  GenerateRequest whole = request_after({model->new_state(), {}}, prompt);
  whole.options = {.max_tokens = 30, .sampler = {.temperature = 1.0, .repeat_penalty = 1.2, .seed = 4}};
  const GenerateResult expected = generator.generate(whole);

  GenerateRequest first = whole;
  first.options.max_tokens = 13;
  const GenerateResult begun = generator.generate(first);
  const auto path = std::filesystem::temp_directory_path() / ("espalier-state-" + std::to_string(::getpid()));
  write_state_file(path, state_after(first, begun), binding_of(*model));
  const std::string bytes = read_text_file(path);
  GenerateRequest rest = request_after(parse_state(bytes, binding_of(*model), *model, path), {});
  std::filesystem::remove(path);
  rest.options = whole.options;
  rest.options.max_tokens = 17;
  const GenerateResult ended = generator.generate(rest);
  std::vector<int32_t> tokens = begun.tokens;
  tokens.insert(tokens.end(), ended.tokens.begin(), ended.tokens.end());
  EXPECT_EQ(tokens, expected.tokens);
  EXPECT_EQ(canonical(ended.state), canonical(expected.state));
}

}  // namespace
}  // namespace espalier
