#include "decoding/drafters/draft_head.h"

#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/adapter.h"
#include "core/error.h"
#include "core/file.h"
#include "decoding/drafters/likeliest.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kFormat = "espalier-draft-head-1";
constexpr double kNormEps = 1e-6;
constexpr int64_t kMaxWidth = 1 << 16;
// Guesses at a node, and the reach below which none is worth its time.
constexpr int64_t kGuesses = 4;
constexpr double kLeastReach = 0.25, kLeastProbability = 0.03;

DraftHeadInfo read_info(const fs::path& path) {
  const Json json = Json::parse(read_text_file(path, size_t{64} << 20), nullptr, false);
  const auto corrupt = [&](const char* key, const char* expected) {
    throw CorruptFile(error_text(path.string() + ": " + key, expected, "something else"));
  };
  if (!json.is_object() || json.value("format", Json()) != kFormat) corrupt("format", kFormat);
  DraftHeadInfo info;
  try {
    info.base_sha256 = json.at("base_sha256").get<std::string>();
    info.base_name = json.value("base_name", "");
    info.command = json.value("command", "");
    for (const Json& token : json.at("tokens")) {
      if (!token.is_number_integer() || token < 0 || token > (1 << 30)) corrupt("tokens", "token ids");
      info.tokens.push_back(token.get<int32_t>());
    }
  } catch (const Json::exception&) {
    corrupt("fields", "base_sha256 and tokens");
  }
  return info;
}

}  // namespace

DraftHead DraftHead::load(const fs::path& directory, const ModelFiles& base, const Model& model) {
  const DraftHeadInfo info = read_info(directory / "draft_head.json");
  check_base(base, info.base_sha256, info.base_name, "draft head " + directory.string());
  return DraftHead(info, SafetensorsSource({directory / "draft_head.safetensors"}), model);
}

DraftHead::DraftHead(const DraftHeadInfo& info, const TensorSource& tensors, const Model& model, WeightType weights)
    : model_(&model), hidden_size_(model.config().hidden_size), tokens_(info.tokens) {
  const int64_t d = hidden_size_;
  const TensorInfo* in = tensors.find("in");
  width_ = in && !in->shape.empty() ? in->shape[0] : 1;
  if (width_ < 1 || width_ > kMaxWidth) {
    throw CorruptFile(error_text(tensors.where() + ": tensor in", "1 to " + std::to_string(kMaxWidth) + " rows",
                                 std::to_string(width_)));
  }
  const std::set<int32_t> different(tokens_.begin(), tokens_.end());
  if (tokens_.empty() || different.size() != tokens_.size() || *different.begin() < 0 ||
      *different.rbegin() >= model.config().vocab_size) {
    throw CorruptFile(error_text(tensors.where() + ": tokens",
                                 "different ids below " + std::to_string(model.config().vocab_size), "others"));
  }
  state_norm_ = tensors.read_checked("state_norm", {d});
  token_norm_ = tensors.read_checked("token_norm", {d});
  in_ = PackedMatrix(tensors.read_checked("in", {width_, 2 * d}).data(), width_, 2 * d, weights, memory_);
  out_ = PackedMatrix(tensors.read_checked("out", {d, width_}).data(), d, width_, weights, memory_);
  std::vector<float> rows(tokens_.size() * static_cast<size_t>(d)), embedding(static_cast<size_t>(d));
  for (size_t i = 0; i < tokens_.size(); ++i) {
    model.token_rows(tokens_[i], embedding.data(), rows.data() + i * static_cast<size_t>(d));
  }
  head_ = PackedMatrix(rows.data(), static_cast<int64_t>(tokens_.size()), d, weights, memory_);
}

void DraftHead::advance(const float* state, int32_t token, ThreadPool& pool, Arena& scratch, float* out) const {
  const Kernels& kernels = model_->kernels();
  const Arena::Mark mark = scratch.mark();
  float* embedding = scratch.floats(hidden_size_);
  float* unused = scratch.floats(hidden_size_);
  model_->token_rows(token, embedding, unused);
  float* x = scratch.floats(2 * hidden_size_);
  kernels.rms_norm(state, state_norm_.data(), kNormEps, hidden_size_, x);
  kernels.rms_norm(embedding, token_norm_.data(), kNormEps, hidden_size_, x + hidden_size_);
  float* wide = scratch.floats(width_);
  const PackedMatrix *in = &in_, *back = &out_;
  const OutputRows wide_rows{wide, width_}, out_rows{out, hidden_size_};
  multiply(kernels, pool, scratch, {&in, 1}, x, 1, 2 * hidden_size_, {&wide_rows, 1});
  kernels.activate(Activation::kSilu, wide, width_, wide);
  multiply(kernels, pool, scratch, {&back, 1}, wide, 1, width_, {&out_rows, 1});
  kernels.add(state, out, hidden_size_, out);
  scratch.release(mark);
}

void DraftHead::guess(const float* state, int64_t count, double least, ThreadPool& pool, Arena& scratch,
                      std::vector<DraftChild>& out) const {
  const Kernels& kernels = model_->kernels();
  const Arena::Mark mark = scratch.mark();
  const auto n = static_cast<int64_t>(tokens_.size());
  float* logits = scratch.floats(n);
  const PackedMatrix* head = &head_;
  const OutputRows rows{logits, n};
  multiply(kernels, pool, scratch, {&head, 1}, state, 1, hidden_size_, {&rows, 1});
  const size_t first = out.size();
  add_likeliest(kernels, logits, n, least, count, logits, out);
  for (size_t i = first; i < out.size(); ++i) out[i].token = tokens_[static_cast<size_t>(out[i].token)];
  scratch.release(mark);
}

void write_draft_head(const fs::path& directory, const DraftHeadInfo& info, const std::vector<TensorToWrite>& tensors) {
  fs::create_directories(directory);
  const fs::path description = directory / "draft_head.json";
  const Json json = {{"format", kFormat},
                     {"base_sha256", info.base_sha256},
                     {"base_name", info.base_name},
                     {"tokens", info.tokens},
                     {"command", info.command}};
  fs::remove(description);
  write_safetensors(directory / "draft_head.safetensors", tensors);
  write_file(description, json.dump() + "\n");
}

HeadDrafter::HeadDrafter(const DraftHead& head, Workspace& workspace) : head_(head), workspace_(workspace) {}

void HeadDrafter::reset() {
  hidden_.clear();
  last_ = -1;
}

void HeadDrafter::observe(int32_t token) {
  last_ = token;
}

void HeadDrafter::see(const float* hidden) {
  hidden_.assign(hidden, hidden + head_.hidden_size());
}

DraftCursor HeadDrafter::root() {
  nodes_.clear();
  states_.clear();
  if (hidden_.empty() || last_ < 0) return {-1, 0};
  nodes_.push_back({.parent = -1, .token = -1, .known = true});
  states_ = hidden_;
  return advance({0, 0}, last_);
}

DraftCursor HeadDrafter::advance(DraftCursor cursor, int32_t token) {
  if (cursor.value < 0) return cursor;
  nodes_.push_back({.parent = cursor.value, .token = token});
  states_.resize(nodes_.size() * static_cast<size_t>(head_.hidden_size()));
  return {static_cast<int64_t>(nodes_.size()) - 1, 0};
}

void HeadDrafter::compute(int64_t node) {
  Node& own = nodes_[static_cast<size_t>(node)];
  if (own.known) return;
  compute(own.parent);
  head_.advance(state(own.parent), own.token, workspace_.pool, scratch_, state(node));
  own.known = true;
}

void HeadDrafter::children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) {
  if (cursor.value < 0 || reach < kLeastReach) return;
  const FloatEnvironment environment;
  compute(cursor.value);
  head_.guess(state(cursor.value), kGuesses, kLeastProbability, workspace_.pool, scratch_, out);
}

}  // namespace espalier
