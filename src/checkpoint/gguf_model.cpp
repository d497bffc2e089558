// From GGUF's names and layouts to Hugging Face's.
#include <algorithm>
#include <cmath>
#include <set>

#include "checkpoint/dequantize.h"
#include "checkpoint/gguf.h"
#include "core/error.h"

namespace espalier {
namespace {

struct NamePair {
  const char *gguf, *hugging_face;
};

constexpr NamePair kGlobalNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};
constexpr NamePair kLayerNames[] = {
    {"attn_norm.weight", "input_layernorm.weight"}, {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},   {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},   {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
};

class GgufTensorSource : public TensorSource {
 public:
  GgufTensorSource(std::shared_ptr<const GgufFile> file, const ModelConfig& config) : file_(std::move(file)) {
    for (const auto& [name, tensor] : file_->tensors()) {
      Entry entry{&tensor, 0};
      const std::string translated = translate(name);
      if (translated.ends_with("q_proj.weight")) entry.permuted_heads = config.num_attention_heads;
      if (translated.ends_with("k_proj.weight")) entry.permuted_heads = config.num_key_value_heads;
      const TensorInfo& info = tensor.info;
      if (entry.permuted_heads > 0 && info.elements() / info.shape.back() != entry.permuted_heads * config.head_dim) {
        throw CorruptFile(error_text(file_->name() + ": tensor " + name,
                                     std::to_string(entry.permuted_heads * config.head_dim) + " rows",
                                     std::to_string(info.elements() / info.shape.back())));
      }
      if (!translated.empty()) entries_.emplace(translated, entry);
    }
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const auto& [name, entry] : entries_) all.push_back(name);
    return all;
  }
  const TensorInfo* find(std::string_view name) const override {
    const auto it = entries_.find(name);
    return it == entries_.end() ? nullptr : &it->second.tensor->info;
  }
  void read(std::string_view name, float* out) const override {
    const TensorInfo* info = find(name);
    read_rows(name, 0, info ? info->rows() : 0, out);
  }
  bool reads_rows(std::string_view) const override { return true; }
  void read_rows(std::string_view name, int64_t first, int64_t count, float* out) const override {
    const auto it = entries_.find(name);
    if (it == entries_.end()) throw InvalidArgument(error_text(where(), "tensor " + std::string(name), "none"));
    const GgufFile::Tensor& tensor = *it->second.tensor;
    const TensorType* type = find_tensor_type(tensor.type);
    if (!type) {
      throw NotSupported(
          error_text(where() + ": tensor " + std::string(name), "a known tensor type", tensor.info.type));
    }
    const int64_t columns = tensor.info.columns(), row_blocks = columns / type->block;
    const int64_t row_bytes = row_blocks * type->block_bytes, heads = it->second.permuted_heads;
    const std::byte* data = tensor.data + first * row_bytes;
    if (heads == 0) {
      type->convert(data, count * row_blocks, out);
    } else {
      // Within a head, GGUF row 2 i + h is row h D/2 + i of the halves layout.
      const int64_t dim = tensor.info.rows() / heads;
      for (int64_t row = first; row < first + count; ++row) {
        const int64_t head = row / dim, half = row % dim / (dim / 2), i = row % (dim / 2);
        const int64_t from = head * dim + 2 * i + half;
        type->convert(tensor.data + from * row_bytes, row_blocks, out + (row - first) * columns);
      }
    }
    MappedFile::release({data, static_cast<size_t>(count * row_bytes)});  // it need not stay in memory
  }
  std::string where() const override { return file_->name(); }

 private:
  struct Entry {
    const GgufFile::Tensor* tensor;
    int64_t permuted_heads;
  };

  // Empty for tensors that a model does not use (rope_freqs and the like are refused when the config is read). Biases
  // are named, too: a model that has no place for them says so.
  static std::string translate(std::string name) {
    constexpr std::string_view kBias = ".bias", kWeight = ".weight";
    const bool bias = name.ends_with(kBias);
    if (bias) name.replace(name.size() - kBias.size(), kBias.size(), kWeight);
    std::string translated = translate_weight(name);
    if (bias && !translated.empty()) translated.replace(translated.size() - kWeight.size(), kWeight.size(), kBias);
    return translated;
  }
  static std::string translate_weight(const std::string& name) {
    for (const NamePair& pair : kGlobalNames) {
      if (name == pair.gguf) return pair.hugging_face;
    }
    if (!name.starts_with("blk.")) return "";
    const size_t dot = name.find('.', 4);
    if (dot == std::string::npos) return "";
    for (const NamePair& pair : kLayerNames) {
      if (std::string_view(name).substr(dot + 1) == pair.gguf) {
        return "model.layers." + name.substr(4, dot - 4) + "." + pair.hugging_face;
      }
    }
    return "";
  }

  std::shared_ptr<const GgufFile> file_;
  std::map<std::string, Entry, std::less<>> entries_;
};

int64_t positive(const GgufFile& file, const std::string& key, int64_t fallback, int64_t limit) {
  if (fallback < 0) file.required(key);
  const int64_t value = file.integer(key, fallback);
  if (value < 1 || value > limit) {
    throw CorruptFile(
        error_text(file.name() + ": " + key, "[1, " + std::to_string(limit) + "]", std::to_string(value)));
  }
  return value;
}

// As llama.cpp reads it: a factor without a type is linear, 0 is none, and there is an older name.
void read_rope(const GgufFile& file, const std::string& family, ModelConfig& config) {
  const auto key = [&](const char* name) { return family + ".rope." + name; };
  config.rope_theta = file.number(key("freq_base"), 10000.0);
  const std::string type = file.text(key("scaling.type"), "linear");
  if (type != "none" && type != "linear") {
    throw NotSupported(error_text(file.name() + ": " + key("scaling.type"), "none or linear", "'" + type + "'"));
  }
  if (file.tensors().contains("rope_freqs.weight")) {
    throw NotSupported(error_text(file.name() + ": rope_freqs.weight", "no factors of frequencies", "such a tensor"));
  }
  const double factor = file.number(key("scaling.factor"), file.number(key("scale_linear"), 0.0));
  if (!(config.rope_theta > 0.0) || !(factor == 0.0 || factor >= 1.0)) {
    throw CorruptFile(error_text(file.name() + ": rope.freq_base and rope.scaling.factor", "> 0, >= 1",
                                 std::to_string(config.rope_theta) + ", " + std::to_string(factor)));
  }
  if (type == "none" || factor == 0.0 || factor == 1.0) return;
  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = factor;
}

ModelConfig read_config(const GgufFile& file) {
  const std::string family = file.text("general.architecture", "");
  if (family != "llama") {
    throw NotSupported(error_text(file.name() + ": general.architecture", "llama", "'" + family + "'"));
  }
  const auto key = [&](const char* name) { return family + "." + name; };
  if (file.integer(key("expert_count"), 0) != 0) {
    throw NotSupported(error_text(file.name() + ": expert_count", "0", "a mixture of experts"));
  }
  ModelConfig config;
  config.family = family;
  const auto embed = file.tensors().find("token_embd.weight");
  if (embed == file.tensors().end() || embed->second.info.shape.size() != 2) {
    throw CorruptFile(error_text(file.name() + ": tensor token_embd.weight", "a matrix", "none"));
  }
  config.vocab_size = embed->second.info.shape[0];
  config.hidden_size = positive(file, key("embedding_length"), -1, 1 << 20);
  config.intermediate_size = positive(file, key("feed_forward_length"), -1, 1 << 22);
  config.num_hidden_layers = positive(file, key("block_count"), -1, 4096);
  config.num_attention_heads = positive(file, key("attention.head_count"), -1, 4096);
  config.num_key_value_heads = positive(file, key("attention.head_count_kv"), config.num_attention_heads, 4096);
  config.head_dim = positive(file, key("attention.key_length"), config.hidden_size / config.num_attention_heads, 4096);
  config.max_position_embeddings = positive(file, key("context_length"), -1, int64_t{1} << 32);
  read_rope(file, family, config);
  config.norm_eps = file.number(key("attention.layer_norm_rms_epsilon"), 1e-5);
  config.tie_word_embeddings = !file.tensors().contains("output.weight");
  const int64_t rotary = file.integer(key("rope.dimension_count"), config.head_dim);
  config.rotary_dim = config.head_dim;
  if (config.num_attention_heads % config.num_key_value_heads != 0 || config.head_dim % 2 != 0) {
    throw CorruptFile(
        error_text(file.name() + ": attention.head_count", "a multiple of head_count_kv, and an even head",
                   std::to_string(config.num_attention_heads) + " of " + std::to_string(config.head_dim)));
  }
  if (rotary != config.head_dim) {
    throw NotSupported(
        error_text(file.name() + ": rope.dimension_count", std::to_string(config.head_dim), std::to_string(rotary)));
  }
  config.attention.assign(static_cast<size_t>(config.num_hidden_layers), "softmax");
  return config;
}

std::string pre_tokenizer_of(const GgufFile& file) {
  const std::string name = file.text("tokenizer.ggml.pre", "default");
  if (name == "smollm") return "smollm";
  if (name == "gpt-2" || name == "gpt2" || name == "default") return "gpt2";
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") return "llama3";
  throw NotSupported(error_text(file.name() + ": tokenizer.ggml.pre", "smollm, gpt-2 or llama-bpe", "'" + name + "'"));
}

TokenizerData read_tokenizer(const GgufFile& file) {
  TokenizerData data;
  const std::string model = file.text("tokenizer.ggml.model", "");
  if (model.empty()) return data;
  if (model != "gpt2") {
    throw NotSupported(error_text(file.name() + ": tokenizer.ggml.model", "gpt2 (byte-level BPE)", "'" + model + "'"));
  }
  data.model = "bpe";
  data.pre_tokenizer = pre_tokenizer_of(file);
  data.pieces = file.list<std::string>("tokenizer.ggml.tokens");
  for (const std::string& merge : file.list<std::string>("tokenizer.ggml.merges")) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos) {
      throw CorruptFile(error_text(file.name() + ": tokenizer.ggml.merges", "two pieces", "'" + merge + "'"));
    }
    data.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  const std::vector<int64_t> types = file.list<int64_t>("tokenizer.ggml.token_type");
  constexpr int64_t kControl = 3, kUserDefined = 4;
  for (size_t id = 0; id < std::min(types.size(), data.pieces.size()); ++id) {
    if (types[id] == kControl) data.control_ids.push_back(static_cast<int32_t>(id));
    if (types[id] == kControl || types[id] == kUserDefined) data.special_ids.push_back(static_cast<int32_t>(id));
  }
  const auto id_of = [&](const char* key) {
    const int64_t id = file.integer(key, -1);
    return id >= 0 && id < static_cast<int64_t>(data.pieces.size()) ? static_cast<int32_t>(id) : -1;
  };
  data.bos_id = id_of("tokenizer.ggml.bos_token_id");
  data.eos_id = id_of("tokenizer.ggml.eos_token_id");
  data.unk_id = id_of("tokenizer.ggml.unknown_token_id");
  data.pad_id = id_of("tokenizer.ggml.padding_token_id");
  // llama.cpp puts a beginning before LLaMA-3's texts unless the file says otherwise.
  const bool llama3 = data.pre_tokenizer == "llama3";
  data.whole_words = llama3;
  if (file.flag("tokenizer.ggml.add_bos_token", llama3) && data.bos_id >= 0) data.prefix_ids = {data.bos_id};
  if (file.flag("tokenizer.ggml.add_eos_token", false) && data.eos_id >= 0) data.suffix_ids = {data.eos_id};
  data.chat_template = file.text("tokenizer.chat_template", "");
  // What the file names as an end, whatever kind of token it is, and control tokens that are known as ends.
  std::set<int32_t> ends = {data.eos_id, id_of("tokenizer.ggml.eot_token_id"), id_of("tokenizer.ggml.eom_token_id")};
  for (const int32_t id : data.control_ids) {
    const std::string& piece = data.pieces[static_cast<size_t>(id)];
    if (piece == "<|im_end|>" || piece == "<|endoftext|>" || piece == "<|eot_id|>" || piece == "</s>") ends.insert(id);
  }
  ends.erase(-1);
  data.end_ids.assign(ends.begin(), ends.end());
  return data;
}

}  // namespace

ModelFiles open_gguf(const std::filesystem::path& path) {
  const auto file = std::make_shared<const GgufFile>(path);
  ModelFiles files;
  files.config = read_config(*file);
  for (const auto& [name, tensor] : file->tensors()) {
    if (!find_tensor_type(tensor.type)) {
      throw NotSupported(error_text(file->name() + ": tensor " + name, "a known tensor type", tensor.info.type));
    }
  }
  files.tensors = std::make_shared<GgufTensorSource>(file, files.config);
  files.tokenizer = read_tokenizer(*file);
  files.weights = {path};
  return files;
}

}  // namespace espalier
