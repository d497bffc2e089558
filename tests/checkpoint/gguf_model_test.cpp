// What model files and tokenizer say of a GGUF file, with one key of it varied at a time.
#include <gtest/gtest.h>
#include <unistd.h>
#include <limits>
#include <set>

#include <filesystem>
#include <functional>
#include <numeric>

#include "checkpoint/gguf.h"
#include "checkpoint/hf_directory.h"
#include "checkpoint/hf_writer.h"
#include "core/error.h"
#include "support/description.h"
#include "support/gguf_writer.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::Description;
using testing::GgufTestFile;
using testing::text_of;
using Text = std::string;
using Texts = std::vector<std::string>;
using Numbers = std::vector<int32_t>;

constexpr int64_t kWidth = 12, kVocab = 12, kMlp = 10, kLayers = 2, kHeads = 3, kHeadDim = 4;

GgufTestFile::Tensor counted(std::vector<int64_t> shape, float first) {
  GgufTestFile::Tensor tensor{std::move(shape), {}, 0, {}};
  int64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= extent;
  tensor.values.resize(static_cast<size_t>(count));
  std::iota(tensor.values.begin(), tensor.values.end(), first);
  return tensor;
}

GgufTestFile base_file() {
  GgufTestFile file;
  file.values = {{"general.architecture", Text("llama")},
                 {"general.name", Text("a name that nobody reads")},
                 {"llama.embedding_length", uint32_t{kWidth}},
                 {"llama.feed_forward_length", uint32_t{kMlp}},
                 {"llama.block_count", uint32_t{kLayers}},
                 {"llama.attention.head_count", uint32_t{kHeads}},
                 {"llama.attention.head_count_kv", uint32_t{1}},
                 {"llama.context_length", uint32_t{64}},
                 {"llama.rope.freq_base", 500.0f},
                 {"llama.attention.layer_norm_rms_epsilon", 0.25f},
                 {"tokenizer.ggml.model", Text("gpt2")},
                 {"tokenizer.ggml.pre", Text("gpt-2")},
                 {"tokenizer.ggml.tokens",
                  Texts{"a", "b", "c", "ab", "abc", "<s>", "</s>", "<unk>", "<pad>", "<eot>", "<|im_end|>", "<user>"}},
                 {"tokenizer.ggml.merges", Texts{"a b", "ab c"}},
                 {"tokenizer.ggml.token_type", Numbers{1, 1, 1, 1, 1, 3, 1, 3, 3, 3, 3, 4}},
                 {"tokenizer.ggml.bos_token_id", uint32_t{5}},
                 {"tokenizer.ggml.eos_token_id", uint32_t{6}},
                 {"tokenizer.ggml.unknown_token_id", uint32_t{7}},
                 {"tokenizer.ggml.padding_token_id", uint32_t{8}},
                 {"tokenizer.ggml.eot_token_id", uint32_t{9}},
                 {"tokenizer.ggml.add_bos_token", true},
                 {"tokenizer.chat_template", Text("{{ a template }}")}};
  file.tensors["token_embd.weight"] = counted({kVocab, kWidth}, 0);
  file.tensors["output_norm.weight"] = counted({kWidth}, 1000);
  float first = 2000;
  for (int64_t l = 0; l < kLayers; ++l) {
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      file.tensors["blk." + std::to_string(l) + "." + name + ".weight"] = counted(std::move(shape), first);
      first += 1000;
    };
    add("attn_norm", {kWidth});
    add("ffn_norm", {kWidth});
    add("attn_q", {kHeads * kHeadDim, kWidth});
    add("attn_k", {kHeadDim, kWidth});
    add("attn_v", {kHeadDim, kWidth});
    add("attn_output", {kWidth, kHeads * kHeadDim});
    add("ffn_gate", {kMlp, kWidth});
    add("ffn_up", {kMlp, kWidth});
    add("ffn_down", {kWidth, kMlp});
  }
  return file;
}

class GgufModel : public ::testing::Test {
 protected:
  GgufModel() : path_(fs::path(::testing::TempDir()) / ("gguf_model_test_" + std::to_string(::getpid()) + ".gguf")) {}
  ~GgufModel() override { fs::remove(path_); }

  ModelFiles open(const GgufTestFile& file) const {
    file.write(path_);
    return open_gguf(path_);
  }

  fs::path path_;
};

Description description(const ModelFiles& files) {
  Description all = testing::description(files.config);
  all.merge(testing::description(files.tokenizer));
  return all;
}

TEST_F(GgufModel, TheBaseSaysWhatItHolds) {
  // The rest is as it is without a file.
  Description expected = description(ModelFiles{});
  const Description held = {{"family", "llama"},
                            {"vocab_size", "12"},
                            {"hidden_size", "12"},
                            {"intermediate_size", "10"},
                            {"layers", "2"},
                            {"heads", "3"},
                            {"heads_kv", "1"},
                            {"head_dim", "4"},
                            {"rotary_dim", "4"},
                            {"positions", "64"},
                            {"theta", "500"},
                            {"scaling", "0"},
                            {"factor", "1"},
                            {"eps", "0.25"},
                            {"tied", "true"},
                            {"attention", text_of(Texts{"softmax", "softmax"})},
                            {"model", "bpe"},
                            {"pre", "gpt2"},
                            {"pieces", text_of(std::get<Texts>(base_file().values["tokenizer.ggml.tokens"]))},
                            {"merges", text_of(std::vector<std::pair<Text, Text>>{{"a", "b"}, {"ab", "c"}})},
                            {"special", text_of(Numbers{5, 7, 8, 9, 10, 11})},
                            {"control", text_of(Numbers{5, 7, 8, 9, 10})},
                            {"bos", "5"},
                            {"eos", "6"},
                            {"unk", "7"},
                            {"pad", "8"},
                            {"ends", text_of(Numbers{6, 9, 10})},
                            {"prefix", text_of(Numbers{5})},
                            {"suffix", text_of(Numbers{})},
                            {"template", "{{ a template }}"}};
  for (const auto& [field, value] : held) expected[field] = value;
  EXPECT_EQ(description(open(base_file())), expected);
}

// A key varied (or left out), and all that it may change.
struct Variant {
  std::string what;
  std::function<void(GgufTestFile&)> change;
  Description changed;
};

std::function<void(GgufTestFile&)> with(const std::string& key, GgufTestFile::Value value) {
  return [=](GgufTestFile& file) { file.values[key] = value; };
}
std::function<void(GgufTestFile&)> without(const std::string& key) {
  return [=](GgufTestFile& file) { file.values.erase(key); };
}
template <class... Changes>
std::function<void(GgufTestFile&)> both(Changes... changes) {
  return [=](GgufTestFile& file) { (changes(file), ...); };
}
std::function<void(GgufTestFile&)> with_rows(const std::string& part, int64_t rows) {
  return [=](GgufTestFile& file) {
    for (int64_t l = 0; l < kLayers; ++l) {
      file.tensors["blk." + std::to_string(l) + "." + part + ".weight"] = counted({rows, kWidth}, 1);
    }
  };
}

TEST_F(GgufModel, EachKeyChangesWhatItNamesAndNothingElse) {
  const std::string none = text_of(Numbers{});
  const Texts pieces = {"a", "b", "c", "ab", "abc", "<s>", "</s>", "<unk>", "<pad>", "<eot>", "<|eot_id|>", "<user>"};
  const std::vector<Variant> variants = {
      // The model's shape.
      {"width",
       both(with("llama.embedding_length", uint32_t{24}), with("llama.attention.key_length", uint32_t{4})),
       {{"hidden_size", "24"}}},
      {"width of heads", with("llama.attention.key_length", uint32_t{4}), {}},
      {"wider heads",
       both(with("llama.attention.key_length", uint32_t{6}), with_rows("attn_q", 18), with_rows("attn_k", 6)),
       {{"head_dim", "6"}, {"rotary_dim", "6"}}},
      {"mlp", with("llama.feed_forward_length", uint32_t{11}), {{"intermediate_size", "11"}}},
      {"layers", with("llama.block_count", uint32_t{1}), {{"layers", "1"}, {"attention", text_of(Texts{"softmax"})}}},
      {"heads",
       both(with("llama.attention.head_count", uint32_t{6}), with_rows("attn_k", 2)),
       {{"heads", "6"}, {"head_dim", "2"}, {"rotary_dim", "2"}}},
      {"kv heads",
       both(with("llama.attention.head_count_kv", uint32_t{3}), with_rows("attn_k", 12)),
       {{"heads_kv", "3"}}},
      {"no kv heads", both(without("llama.attention.head_count_kv"), with_rows("attn_k", 12)), {{"heads_kv", "3"}}},
      {"positions", with("llama.context_length", uint64_t{1} << 20), {{"positions", "1048576"}}},
      {"theta", with("llama.rope.freq_base", 10000.0), {{"theta", "10000"}}},
      {"no theta", without("llama.rope.freq_base"), {{"theta", "10000"}}},
      {"eps", with("llama.attention.layer_norm_rms_epsilon", 0.5), {{"eps", "0.5"}}},
      {"no eps", without("llama.attention.layer_norm_rms_epsilon"), {{"eps", text_of(1e-5)}}},
      {"rotary dimensions", with("llama.rope.dimension_count", uint32_t{4}), {}},
      {"no experts", with("llama.expert_count", uint32_t{0}), {}},
      {"vocabulary",
       [](GgufTestFile& file) {
         file.tensors["token_embd.weight"] = counted({13, kWidth}, 0);
       },
       {{"vocab_size", "13"}}},
      {"own head",
       [](GgufTestFile& file) {
         file.tensors["output.weight"] = counted({kVocab, kWidth}, 0);
       },
       {{"tied", "false"}}},
      // Positions stretched.
      {"unscaled", with("llama.rope.scaling.type", Text("none")), {}},
      {"unscaled whatever the factor",
       both(with("llama.rope.scaling.type", Text("none")), with("llama.rope.scaling.factor", 4.0f)),
       {}},
      {"linear",
       both(with("llama.rope.scaling.type", Text("linear")), with("llama.rope.scaling.factor", 4.0f)),
       {{"scaling", "1"}, {"factor", "4"}}},
      {"linear without a type", with("llama.rope.scaling.factor", 4.0f), {{"scaling", "1"}, {"factor", "4"}}},
      {"linear by its old name", with("llama.rope.scale_linear", 2.0f), {{"scaling", "1"}, {"factor", "2"}}},
      {"the new name counts",
       both(with("llama.rope.scale_linear", 2.0f), with("llama.rope.scaling.factor", 4.0f)),
       {{"scaling", "1"}, {"factor", "4"}}},
      {"linear without a factor", with("llama.rope.scaling.type", Text("linear")), {}},
      {"linear by 0", with("llama.rope.scaling.factor", 0.0f), {}},
      {"linear by 1", with("llama.rope.scaling.factor", 1.0f), {}},
      // The tokenizer.
      {"no tokenizer",
       without("tokenizer.ggml.model"),
       {{"model", ""},
        {"pre", ""},
        {"pieces", text_of(Texts{})},
        {"special", none},
        {"control", none},
        {"bos", "-1"},
        {"eos", "-1"},
        {"unk", "-1"},
        {"pad", "-1"},
        {"ends", none},
        {"prefix", none},
        {"template", ""},
        {"merges", text_of(std::vector<std::pair<Text, Text>>{})}}},
      {"smollm", with("tokenizer.ggml.pre", Text("smollm")), {{"pre", "smollm"}}},
      {"gpt2", with("tokenizer.ggml.pre", Text("gpt2")), {}},
      {"no pre", without("tokenizer.ggml.pre"), {}},
      {"default", with("tokenizer.ggml.pre", Text("default")), {}},
      {"llama-bpe", with("tokenizer.ggml.pre", Text("llama-bpe")), {{"pre", "llama3"}, {"whole_words", "true"}}},
      {"llama3", with("tokenizer.ggml.pre", Text("llama3")), {{"pre", "llama3"}, {"whole_words", "true"}}},
      {"llama-v3", with("tokenizer.ggml.pre", Text("llama-v3")), {{"pre", "llama3"}, {"whole_words", "true"}}},
      {"pieces", with("tokenizer.ggml.tokens", pieces), {{"pieces", text_of(pieces)}}},
      {"merges",
       with("tokenizer.ggml.merges", Texts{"b c", "a b"}),
       {{"merges", text_of(std::vector<std::pair<Text, Text>>{{"b", "c"}, {"a", "b"}})}}},
      {"a merge of spaces",
       with("tokenizer.ggml.merges", Texts{"  x", "a b"}),  // cut behind its first letter
       {{"merges", text_of(std::vector<std::pair<Text, Text>>{{" ", "x"}, {"a", "b"}})}}},
      {"kinds",
       with("tokenizer.ggml.token_type", Numbers{1, 1, 1, 1, 1, 4, 3, 2, 5, 6, 1, 3}),
       {{"special", text_of(Numbers{5, 6, 11})},
        {"control", text_of(Numbers{6, 11})},
        {"ends", text_of(Numbers{6, 9})}}},
      {"no kinds",
       without("tokenizer.ggml.token_type"),
       {{"special", none}, {"control", none}, {"ends", text_of(Numbers{6, 9})}}},
      {"fewer kinds",
       with("tokenizer.ggml.token_type", Numbers{1, 1, 1, 1, 1, 3}),
       {{"special", text_of(Numbers{5})}, {"control", text_of(Numbers{5})}, {"ends", text_of(Numbers{6, 9})}}},
      {"bos", with("tokenizer.ggml.bos_token_id", uint32_t{7}), {{"bos", "7"}, {"prefix", text_of(Numbers{7})}}},
      {"no bos", without("tokenizer.ggml.bos_token_id"), {{"bos", "-1"}, {"prefix", none}}},
      {"bos outside", with("tokenizer.ggml.bos_token_id", uint32_t{12}), {{"bos", "-1"}, {"prefix", none}}},
      {"last bos",
       with("tokenizer.ggml.bos_token_id", uint32_t{11}),
       {{"bos", "11"}, {"prefix", text_of(Numbers{11})}}},
      {"eos", with("tokenizer.ggml.eos_token_id", uint32_t{8}), {{"eos", "8"}, {"ends", text_of(Numbers{8, 9, 10})}}},
      {"eos 0", with("tokenizer.ggml.eos_token_id", uint32_t{0}), {{"eos", "0"}, {"ends", text_of(Numbers{0, 9, 10})}}},
      {"no eos", without("tokenizer.ggml.eos_token_id"), {{"eos", "-1"}, {"ends", text_of(Numbers{9, 10})}}},
      {"eot", with("tokenizer.ggml.eot_token_id", uint32_t{7}), {{"ends", text_of(Numbers{6, 7, 10})}}},
      {"no eot", without("tokenizer.ggml.eot_token_id"), {{"ends", text_of(Numbers{6, 10})}}},
      {"eom", with("tokenizer.ggml.eom_token_id", uint32_t{7}), {{"ends", text_of(Numbers{6, 7, 9, 10})}}},
      {"eot is eos", with("tokenizer.ggml.eot_token_id", uint32_t{6}), {{"ends", text_of(Numbers{6, 10})}}},
      {"unk", with("tokenizer.ggml.unknown_token_id", uint32_t{8}), {{"unk", "8"}}},
      {"no unk", without("tokenizer.ggml.unknown_token_id"), {{"unk", "-1"}}},
      {"pad", with("tokenizer.ggml.padding_token_id", uint32_t{7}), {{"pad", "7"}}},
      {"no pad", without("tokenizer.ggml.padding_token_id"), {{"pad", "-1"}}},
      {"not add bos", with("tokenizer.ggml.add_bos_token", false), {{"prefix", none}}},
      {"nothing of bos", without("tokenizer.ggml.add_bos_token"), {{"prefix", none}}},
      {"nothing of bos, llama3",
       both(without("tokenizer.ggml.add_bos_token"), with("tokenizer.ggml.pre", Text("llama-bpe"))),
       {{"pre", "llama3"}, {"whole_words", "true"}}},
      {"not add bos, llama3",
       both(with("tokenizer.ggml.add_bos_token", false), with("tokenizer.ggml.pre", Text("llama-bpe"))),
       {{"pre", "llama3"}, {"whole_words", "true"}, {"prefix", none}}},
      {"add eos", with("tokenizer.ggml.add_eos_token", true), {{"suffix", text_of(Numbers{6})}}},
      {"not add eos", with("tokenizer.ggml.add_eos_token", false), {}},
      {"add eos without one",
       both(with("tokenizer.ggml.add_eos_token", true), without("tokenizer.ggml.eos_token_id")),
       {{"eos", "-1"}, {"ends", text_of(Numbers{9, 10})}}},
      {"template", with("tokenizer.chat_template", Text("<|im_start|>")), {{"template", "<|im_start|>"}}},
      {"no template", without("tokenizer.chat_template"), {{"template", ""}}},
  };
  const Description base = description(open(base_file()));
  for (const Variant& variant : variants) {
    GgufTestFile file = base_file();
    variant.change(file);
    const Description expected = testing::with_changes(base, variant.changed);
    try {
      EXPECT_EQ(description(open(file)), expected) << variant.what;
    } catch (const Error& error) {
      ADD_FAILURE() << variant.what << ": " << error.what();
    }
  }
}

TEST_F(GgufModel, KnownEndsEndWhereTheyAreControlTokens) {
  for (const char* known : {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>"}) {
    GgufTestFile file = base_file();
    std::get<Texts>(file.values["tokenizer.ggml.tokens"])[10] = known;
    EXPECT_EQ(open(file).tokenizer.end_ids, (Numbers{6, 9, 10})) << known;
    std::get<Numbers>(file.values["tokenizer.ggml.token_type"])[10] = 1;
    EXPECT_EQ(open(file).tokenizer.end_ids, (Numbers{6, 9})) << known;
  }
}

TEST_F(GgufModel, IntegersAreReadOfEveryWidth) {
  for (const GgufTestFile::Value& value :
       {GgufTestFile::Value(uint32_t{7}), GgufTestFile::Value(int32_t{7}), GgufTestFile::Value(uint64_t{7})}) {
    GgufTestFile file = base_file();
    file.values["llama.context_length"] = value;
    EXPECT_EQ(open(file).config.max_position_embeddings, 7);
  }
}

TEST_F(GgufModel, RefusesByName) {
  struct Refusal {
    std::string named;  // in the message
    std::function<void(GgufTestFile&)> change;
    bool corrupt;  // CorruptFile, or NotSupported
  };
  const auto tensor_of_type = [](uint32_t type) {
    return [=](GgufTestFile& file) { file.tensors["rest"] = {{4}, {}, type, std::string(64, '\0')}; };
  };
  const std::vector<Refusal> refusals = {
      {"general.architecture", with("general.architecture", Text("qwen2")), false},
      {"general.architecture", without("general.architecture"), false},
      {"rope.scaling.type", with("llama.rope.scaling.type", Text("yarn")), false},
      {"rope.scaling.type", with("llama.rope.scaling.type", Text("longrope")), false},
      {"rope_freqs.weight", [](GgufTestFile& file) { file.tensors["rope_freqs.weight"] = counted({2}, 1); }, false},
      {"expert_count", with("llama.expert_count", uint32_t{8}), false},
      {"rope.dimension_count", with("llama.rope.dimension_count", uint32_t{2}), false},
      {"tokenizer.ggml.model", with("tokenizer.ggml.model", Text("llama")), false},
      {"tokenizer.ggml.pre", with("tokenizer.ggml.pre", Text("qwen2")), false},
      {"rest", tensor_of_type(99), false},
      {"rope.freq_base", with("llama.rope.freq_base", 0.0f), true},
      {"rope.freq_base", with("llama.rope.freq_base", std::numeric_limits<float>::quiet_NaN()), true},
      {"rope.scaling.factor", with("llama.rope.scaling.factor", 0.5f), true},
      {"rope.scaling.factor", with("llama.rope.scaling.factor", -1.0f), true},
      {"tokenizer.ggml.merges", with("tokenizer.ggml.merges", Texts{"ab"}), true},
      {"tokenizer.ggml.merges", with("tokenizer.ggml.merges", Texts{" ab"}), true},
      {"token_embd.weight", [](GgufTestFile& file) { file.tensors.erase("token_embd.weight"); }, true},
      {"token_embd.weight", [](GgufTestFile& file) { file.tensors["token_embd.weight"] = counted({12}, 1); }, true},
      {"blk.1.attn_q.weight",
       [](GgufTestFile& file) {
         file.tensors["blk.1.attn_q.weight"] = counted({8, 12}, 1);
       },
       true},
      {"blk.0.attn_k.weight",
       [](GgufTestFile& file) {
         file.tensors["blk.0.attn_k.weight"] = counted({8, 12}, 1);
       },
       true},
      {"head_count", with("llama.attention.head_count_kv", uint32_t{2}), true},
      {"head", with("llama.attention.key_length", uint32_t{3}), true},
      {"rope.freq_base", with("llama.rope.freq_base", uint32_t{500}), true},  // of another kind
      {"add_bos_token", with("tokenizer.ggml.add_bos_token", uint32_t{1}), true},
      {"tokenizer.ggml.tokens", with("tokenizer.ggml.tokens", Numbers{1, 2}), true},
      {"general.alignment", with("general.alignment", uint32_t{33}), true},
  };
  for (const Refusal& refusal : refusals) {
    GgufTestFile file = base_file();
    refusal.change(file);
    try {
      open(file);
      ADD_FAILURE() << refusal.named << " was taken";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(refusal.named), std::string::npos) << error.what();
      EXPECT_EQ(dynamic_cast<const CorruptFile*>(&error) != nullptr, refusal.corrupt) << error.what();
      EXPECT_EQ(dynamic_cast<const NotSupported*>(&error) == nullptr, refusal.corrupt) << error.what();
    }
  }
  // Sizes must be there, positive and within reason.
  for (const char* key : {"embedding_length", "feed_forward_length", "block_count", "attention.head_count",
                          "attention.head_count_kv", "attention.key_length", "context_length"}) {
    const std::string name = std::string("llama.") + key;
    for (const GgufTestFile::Value& value : {GgufTestFile::Value(uint32_t{0}), GgufTestFile::Value(int32_t{-1}),
                                             GgufTestFile::Value(uint64_t{1} << 33), GgufTestFile::Value(Text("3"))}) {
      GgufTestFile file = base_file();
      file.values[name] = value;
      EXPECT_THROW(open(file), CorruptFile) << name;
    }
    GgufTestFile file = base_file();
    file.values.erase(name);
    const bool optional = name.ends_with("head_count_kv") || name.ends_with("key_length");
    if (!optional) {
      EXPECT_THROW(open(file), CorruptFile) << name;
    }
  }
}

TEST_F(GgufModel, TensorsAreThoseOfTheFileUnderTheirNewNames) {
  const std::map<std::string, std::string> names = {
      {"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
      {"attn_v", "self_attn.v_proj"},   {"attn_output", "self_attn.o_proj"},
      {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}};
  GgufTestFile file = base_file();
  file.tensors["output.weight"] = counted({kVocab, kWidth}, 50000);
  file.tensors["blk.1.attn_v.bias"] = counted({4}, 60000);
  file.tensors["blk.1.unheard_of.weight"] = counted({4}, 70000);
  const ModelFiles files = open(file);
  const auto expect = [&](const std::string& own, const std::string& theirs) {
    const TensorInfo* info = files.tensors->find(own);
    ASSERT_NE(info, nullptr) << own;
    EXPECT_EQ(info->shape, file.tensors[theirs].shape);
    EXPECT_EQ(files.tensors->read_checked(own, info->shape), file.tensors[theirs].values) << own;
  };
  expect("model.embed_tokens.weight", "token_embd.weight");
  expect("model.norm.weight", "output_norm.weight");
  expect("lm_head.weight", "output.weight");
  expect("model.layers.1.self_attn.v_proj.bias", "blk.1.attn_v.bias");
  for (int64_t l = 0; l < kLayers; ++l) {
    const std::string number = std::to_string(l);
    for (const auto& [theirs, own] : names) {
      expect("model.layers." + number + "." + own + ".weight", "blk." + number + "." + theirs + ".weight");
    }
    // Within a head, row 2 i + h of the file is row h D/2 + i.
    for (const auto& [theirs, own, heads] :
         {std::tuple{"attn_q", "self_attn.q_proj", kHeads}, {"attn_k", "self_attn.k_proj", int64_t{1}}}) {
      const std::string name = "model.layers." + number + "." + own + ".weight";
      const std::vector<float>& stored = file.tensors["blk." + number + "." + theirs + ".weight"].values;
      const std::vector<float> read = files.tensors->read_checked(name, {heads * kHeadDim, kWidth});
      for (int64_t head = 0; head < heads; ++head) {
        for (int64_t half = 0; half < 2; ++half) {
          for (int64_t i = 0; i < kHeadDim / 2; ++i) {
            for (int64_t column = 0; column < kWidth; ++column) {
              EXPECT_EQ(read[(head * kHeadDim + half * kHeadDim / 2 + i) * kWidth + column],
                        stored[(head * kHeadDim + 2 * i + half) * kWidth + column]);
            }
          }
        }
      }
      for (int64_t first = 0; first < heads * kHeadDim; ++first) {  // any rows of it are these
        for (int64_t count = 1; first + count <= heads * kHeadDim; ++count) {
          std::vector<float> rows(static_cast<size_t>(count * kWidth));
          files.tensors->read_rows(name, first, count, rows.data());
          ASSERT_TRUE(std::equal(rows.begin(), rows.end(), read.begin() + first * kWidth));
        }
      }
    }
  }
  EXPECT_EQ(files.tensors->names().size(), file.tensors.size() - 1);  // all but the one unheard of
}

// What a directory written from a GGUF file says is what the file said.
TEST_F(GgufModel, ADirectoryWrittenFromItSaysTheSame) {
  for (const auto& change :
       {with("general.name", Text("as it is")), with("llama.rope.scaling.factor", 4.0f),
        with("tokenizer.ggml.add_eos_token", true), with("tokenizer.ggml.add_bos_token", false),
        with("tokenizer.ggml.pre", Text("llama-bpe")), with("tokenizer.ggml.pre", Text("smollm")),
        with("tokenizer.ggml.token_type", Numbers{1, 1, 1, 1, 1, 4, 3, 3, 3, 3, 1, 3}),
        both(with("tokenizer.ggml.add_bos_token", false), with("tokenizer.ggml.add_eos_token", true))}) {
    GgufTestFile file = base_file();
    change(file);
    const ModelFiles files = open(file);
    const fs::path directory = path_.string() + ".directory";
    fs::remove_all(directory);
    write_hf_directory(files, {}, directory);
    const ModelFiles back = open_hf_directory(directory);
    Description expected = description(files), got = description(back);
    fs::remove_all(directory);
    // eos comes first, and is named twice.
    EXPECT_EQ(std::set<int32_t>(back.tokenizer.end_ids.begin(), back.tokenizer.end_ids.end()),
              std::set<int32_t>(files.tokenizer.end_ids.begin(), files.tokenizer.end_ids.end()));
    expected.erase("ends");
    got.erase("ends");
    EXPECT_EQ(got, expected);
  }
}

}  // namespace
}  // namespace espalier
