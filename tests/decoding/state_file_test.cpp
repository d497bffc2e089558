#include "decoding/state_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "checkpoint/adapter.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "models/state_access.h"
#include "support/state_bytes.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::load_tiny_model;
using testing::random_tokens;
using testing::state_bytes;

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
      EXPECT_EQ(state_bytes(back.state), state_bytes(saved.state)) << spec << " " << length;
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

// InvalidArgument whose message names the file and the field.
void expect_refused(const std::string& bytes, const StateBinding& binding, const Model& model,
                    const std::string& field) {
  try {
    parse_state(bytes, binding, model, "past.state");
    ADD_FAILURE() << "accepted, although of another " << field;
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("past.state: " + field), std::string::npos) << error.what();
  }
}

TEST(StateFile, BelongsToItsModelAlone) {
  const auto model = load_tiny_model({.attention = {"window(group=8)"}});
  StateBinding with = binding_of(*model);
  with.adapter_sha256 = "a";
  with.lora_scale = 2;
  for (const StateBinding& right : {binding_of(*model), with}) {
    const std::string bytes = serialize_state(some_state(*model, 4), right);
    parse_state(bytes, right, *model, "x");
    const auto refused = [&](const std::string& field, auto&& change) {
      StateBinding other = right;
      change(other);
      expect_refused(bytes, other, *model, field);
      // The other way round as well: the file's field is the odd one.
      expect_refused(serialize_state(some_state(*model, 4), other), right, *model, field);
    };
    refused("base_sha256", [](StateBinding& b) { b.base_sha256 = "c"; });
    refused("base_sha256", [](StateBinding& b) { b.base_sha256 = ""; });
    refused("adapter_sha256", [](StateBinding& b) { b.adapter_sha256 = "b"; });
    refused("adapter_sha256", [](StateBinding& b) { b.adapter_sha256 = b.adapter_sha256.empty() ? "a" : ""; });
    refused("attention", [](StateBinding& b) { b.attention[0] = "softmax"; });
    refused("attention", [](StateBinding& b) { b.attention.back() = "window(group=16)"; });
    refused("attention", [](StateBinding& b) { b.attention.pop_back(); });
    refused("attention", [](StateBinding& b) { b.attention.push_back(b.attention[0]); });
    refused("weights", [](StateBinding& b) { b.weights = "bf16"; });
    if (right.lora_scale > 0) refused("lora_scale", [](StateBinding& b) { b.lora_scale = 2.5; });
  }
}

// A header that lacks a field, or holds another kind of value there.
TEST(StateFile, EveryFieldOfItsBindingMustBeThere) {
  const auto model = load_tiny_model({.attention = {"window(group=8)"}});
  StateBinding binding = binding_of(*model);
  binding.adapter_sha256 = "a";
  const std::string whole = serialize_state(some_state(*model, 4), binding);
  uint64_t size = 0;
  std::memcpy(&size, whole.data() + 8, 8);
  const nlohmann::json header = nlohmann::json::parse(whole.substr(16, size));
  const std::string rest = whole.substr(16 + size, whole.size() - kHash - 16 - size);
  const auto with_header = [&](const std::string& text) {
    const uint64_t bytes = text.size();
    return sealed(whole.substr(0, 8) + std::string(reinterpret_cast<const char*>(&bytes), 8) + text + rest);
  };
  parse_state(with_header(header.dump()), binding, *model, "x");
  nlohmann::json more = header;
  more["note"] = "what a later version adds";
  parse_state(with_header(more.dump()), binding, *model, "x");
  EXPECT_EQ(header.size(), 5u);
  for (const auto& [key, value] : header.items()) {
    nlohmann::json changed = header;
    changed.erase(key);
    expect_refused(with_header(changed.dump()), binding, *model, key);
    for (const nlohmann::json& other : {nlohmann::json(nullptr), nlohmann::json(3), nlohmann::json::array({value})}) {
      changed[key] = other;
      expect_refused(with_header(changed.dump()), binding, *model, key);
    }
  }
  for (const char* text : {"", "[]", "{", "3"}) {
    EXPECT_THROW(parse_state(with_header(text), binding, *model, "x"), CorruptFile) << text;
  }
}

// What a binding is made of, from real files: two that differ in one thing have two bindings.
TEST(StateFile, BindingsTellModelsAndAdaptersApart) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / ("espalier-binding-" + std::to_string(::getpid()));
  const fs::path model = fs::path(ESPALIER_TEST_DATA) / "models" / "stories260K";
  const ModelFiles files = open_model(model);
  const StateBinding plain = state_binding(files, "", "bf16");
  const std::string content = read_text_file(model / "model.safetensors");
  EXPECT_EQ(plain.base_sha256, sha256(std::as_bytes(std::span(content.data(), content.size()))));
  EXPECT_EQ(plain.adapter_sha256, "");
  EXPECT_EQ(plain.weights, "bf16");
  EXPECT_EQ(plain.attention, std::vector<std::string>(5, "softmax"));
  EXPECT_EQ(state_binding(files, "", "bf16"), plain);
  EXPECT_EQ(state_binding(files, "", "int8").weights, "int8");

  const std::string name = "model.layers.1.self_attn.q_proj.lora_";
  const std::vector<int64_t> shape = files.tensors->find("model.layers.1.self_attn.q_proj.weight")->shape;
  const auto adapter = [&](const std::string& where, float value, double scale) {
    const std::vector<float> a(static_cast<size_t>(shape[1]), value), b(static_cast<size_t>(shape[0]), 0.5f);
    write_adapter(folder / where,
                  {.base_sha256 = base_hash(files), .attention = files.config.attention, .lora_scale = scale},
                  {{name + "a", {1, shape[1]}, a.data()}, {name + "b", {shape[0], 1}, b.data()}});
    ModelFiles adapted = open_model(model);
    apply_adapter(adapted, folder / where);
    return state_binding(adapted, folder / where, "bf16");
  };
  const StateBinding one = adapter("one", 0.25f, 2.0);
  const std::string tensors = read_text_file(folder / "one" / "adapter.safetensors");
  EXPECT_EQ(one.adapter_sha256, sha256(std::as_bytes(std::span(tensors.data(), tensors.size()))));
  EXPECT_EQ(one.base_sha256, plain.base_sha256);
  EXPECT_EQ(adapter("same", 0.25f, 2.0), one);
  EXPECT_NE(adapter("values", 0.5f, 2.0).adapter_sha256, one.adapter_sha256);
  // The same tensors, but another factor on them: another model.
  const StateBinding scaled = adapter("scale", 0.25f, 4.0);
  EXPECT_EQ(scaled.adapter_sha256, one.adapter_sha256);
  EXPECT_NE(scaled, one);
  EXPECT_EQ(scaled.lora_scale, 4.0);

  // The files decide, not their names: another base in the same place has another hash.
  fs::create_directories(folder / "base");
  for (const auto& part : fs::directory_iterator(model))
    fs::copy(part.path(), folder / "base" / part.path().filename());
  EXPECT_EQ(state_binding(open_model(folder / "base"), "", "bf16"), plain);
  std::string other = content;
  other.back() = static_cast<char>(other.back() ^ 1);
  write_file(folder / "base" / "model.safetensors", other);
  EXPECT_NE(state_binding(open_model(folder / "base"), "", "bf16").base_sha256, plain.base_sha256);
  fs::remove_all(folder);
}

// One number of the body at a time: each is refused by its name.
TEST(StateFile, TheBodyMustFitTheModel) {
  const auto model = load_tiny_model({.attention = {"window(group=8)"}});
  const StateBinding binding = binding_of(*model);
  const SavedState saved = some_state(*model, 4);
  const auto refused = [&](const SavedState& changed, const Model& reader, const std::string& part) {
    try {
      parse_state(serialize_state(changed, binding), binding, reader, "past.state");
      ADD_FAILURE() << "accepted: " << part;
    } catch (const CorruptFile& error) {
      EXPECT_NE(std::string(error.what()).find("past.state: " + part), std::string::npos) << error.what();
    }
  };
  const SavedState other = some_state(*model, 3);
  SavedState changed = saved;
  changed.tokens.back() = 97;  // the first id that is none
  refused(changed, *model, "token");
  changed = saved;
  changed.tokens.back() = 96;
  EXPECT_EQ(parse_state(serialize_state(changed, binding), binding, *model, "x").tokens.back(), 96);
  changed.tokens.resize(3);  // fewer than the state has seen
  refused(changed, *model, "state length");
  changed.tokens = {saved.tokens.begin(), saved.tokens.begin() + 4};  // as many: nothing waits
  EXPECT_EQ(parse_state(serialize_state(changed, binding), binding, *model, "x").state.length(), 4);
  changed = saved;
  StateAccess::layers(changed.state).pop_back();
  refused(changed, *model, "layer count");
  changed = saved;
  StateAccess::layers(changed.state).push_back(StateAccess::layers(changed.state)[0]);
  refused(changed, *model, "layer count");
  changed = saved;
  StateAccess::layers(changed.state)[1] = StateAccess::layers(other.state)[1];
  refused(changed, *model, "layer 1");
  changed = saved;
  StateAccess::layers(changed.state)[0] = StateAccess::layers(other.state)[0];
  refused(changed, *model, "layer 1");
  // The same bytes under models of other sizes.
  refused(saved, *load_tiny_model({.layers = 3, .attention = {"window(group=8)"}}), "layer count");
  refused(saved, *load_tiny_model({.layers = 1, .attention = {"window(group=8)"}}), "layer count");
  refused(saved, *load_tiny_model({.heads_kv = 3, .attention = {"window(group=8)"}}), "layer 0");
  refused(saved, *load_tiny_model({.head_dim = 8, .attention = {"window(group=8)"}}), "layer 0");
  refused(saved, *load_tiny_model({.vocab_size = 2, .attention = {"window(group=8)"}}), "token");
}

TEST(StateFile, EveryByteOfMagicAndChecksumCounts) {
  const auto model = load_tiny_model({.attention = {"window(group=8)"}});
  const StateBinding binding = binding_of(*model);
  const std::string whole = serialize_state(some_state(*model, 2), binding);
  const auto refused = [&](const std::string& bytes, const std::string& field) {
    try {
      parse_state(bytes, binding, *model, "x");
      ADD_FAILURE() << field;
    } catch (const CorruptFile& error) {
      EXPECT_NE(std::string(error.what()).find("x: " + field), std::string::npos) << error.what();
    }
  };
  for (size_t i = 0; i < 8; ++i) {  // the version is the last of these
    std::string damaged = whole;
    ++damaged[i];
    refused(sealed(damaged.substr(0, damaged.size() - kHash)), "magic");
  }
  for (size_t i = whole.size() - kHash; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = damaged[i] == '0' ? '1' : '0';
    refused(damaged, "checksum");
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
  EXPECT_EQ(state_bytes(ended.state), state_bytes(expected.state));
}

}  // namespace
}  // namespace espalier
