#include "training/draft_head_train.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/progress.h"
#include "core/rng.h"
#include "decoding/drafters/draft_head.h"
#include "training/run_state.h"
#include "training/shuffled.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kNormEps = 1e-6;  // of the head's norms
constexpr double kDepthWeight = 0.8, kStateWeight = 0.1;
constexpr int64_t kHeldOutEvery = 20;  // of the texts, one is kept apart
constexpr int64_t kWarmupSteps = 50;

// All rows of all texts, one after the other. Row i holds the hidden state that tokens[i + 1] was drawn from.
struct Rows {
  std::vector<int32_t> tokens;
  at::Tensor hidden;                     // [rows, d] bf16
  std::vector<int64_t> train, held_out;  // rows that a draft can start from: two tokens follow at least
  std::vector<int64_t> left;             // per row, how many tokens of its text follow
};

// texts.jsonl: a line per text, written as the model writes.
class TextFile {
 public:
  // Texts are made in batches of so many prompts, which do not cross the border of a round over all prompts. Those of a
  // batch that a kill left incomplete are taken back, so that what follows is as if there had been no kill.
  TextFile(const fs::path& path, const std::string& made_by, const DraftHeadOptions& options, int64_t vocab_size)
      : path_(path), vocab_size_(vocab_size) {
    std::string content = nlohmann::json{{"made_by", made_by}}.dump();
    if (fs::exists(path)) read(content);
    if (!texts_.empty() && !options.resume) {
      throw InvalidArgument(
          error_text(path.string(), "no texts", "those of an earlier run", "--resume, or another --out"));
    }
    if (written() < options.texts.tokens) {
      const int64_t in_round = std::ssize(texts_) % std::ssize(options.prompts);
      texts_.resize(texts_.size() - static_cast<size_t>(in_round % options.texts.batch));
    }
    content += "\n";
    for (const SelfText& text : texts_) content += line_of(text);
    write_file(path, content);
    file_.open(path, std::ios::app);
  }

  void add(const SelfText& text) {
    texts_.push_back(text);
    file_ << line_of(text) << std::flush;
    if (!file_) throw Internal(error_text(path_.string(), "a text to be written", "a failure", "room on the disk"));
  }
  const std::vector<SelfText>& texts() const { return texts_; }
  int64_t written() const {
    int64_t sum = 0;
    for (const SelfText& text : texts_) sum += static_cast<int64_t>(text.tokens.size() - text.written);
    return sum;
  }

 private:
  static std::string line_of(const SelfText& text) {
    return nlohmann::json{{"tokens", text.tokens}, {"written", text.written}}.dump() + "\n";
  }

  // A last line without its end, which a kill leaves, is dropped.
  void read(const std::string& head) {
    const std::string content = read_text_file(path_, size_t{1} << 32);
    size_t begin = 0;
    for (int64_t number = 1; begin < content.size(); ++number) {
      const size_t end = content.find('\n', begin);
      if (end == std::string::npos) break;
      const std::string line = content.substr(begin, end - begin);
      begin = end + 1;
      if (number > 1) {
        texts_.push_back(read_line(line, path_.string() + ":" + std::to_string(number)));
      } else if (line != head && content.size() > begin) {  // a first line alone holds nothing that could be lost
        throw InvalidArgument(error_text(path_.string(), "texts of " + head, "of " + line,
                                         "another --out, or the options of the first run"));
      }
    }
  }

  SelfText read_line(const std::string& line, const std::string& where) const {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    SelfText text;
    bool valid = json.is_object() && json.contains("tokens") && json["tokens"].is_array() && json.contains("written") &&
                 json["written"].is_number_unsigned() && json["written"] > 0;
    for (size_t i = 0; valid && i < json["tokens"].size(); ++i) {
      const nlohmann::json& token = json["tokens"][i];
      valid = token.is_number_unsigned() && token < vocab_size_;
      if (valid) text.tokens.push_back(token.get<int32_t>());
    }
    if (!valid || json["written"] > text.tokens.size()) {
      throw CorruptFile(error_text(where, "{\"tokens\": ids, \"written\": from which on they were written}", "others",
                                   "another --out"));
    }
    text.written = json["written"].get<size_t>();
    return text;
  }

  fs::path path_;
  int64_t vocab_size_;
  std::ofstream file_;
  std::vector<SelfText> texts_;
};

// The states after the final norm of a text's rows from `first` on, as decoding computes them.
void add_hidden(const Model& model, Workspace& workspace, const SelfText& text, size_t first, std::vector<float>& out) {
  SequenceState state = model.new_state();
  StepOutput output;
  const std::span<const int32_t> tokens(text.tokens);
  for (size_t begin = 0; begin < tokens.size(); begin += Model::kPrefillChunk) {
    const size_t rows = std::min(static_cast<size_t>(Model::kPrefillChunk), tokens.size() - begin);
    const Segment segment{.state = &state, .tokens = tokens.subspan(begin, rows), .outputs = Output::kHidden};
    model.step({&segment, 1}, workspace, output);
    for (size_t r = 0; r < rows; ++r) {
      const float* row = output.hidden(0, static_cast<int64_t>(r));
      if (begin + r >= first) out.insert(out.end(), row, row + output.width(Output::kHidden));
    }
    model.commit_chain(state, output.pending[0], static_cast<int64_t>(rows));
  }
}

Rows read_rows(const Model& model, Workspace& workspace, const std::vector<SelfText>& texts,
               const std::function<bool()>& stop) {
  Rows rows;
  std::vector<at::Tensor> hidden;
  const auto progress = progress_function("states");
  int64_t number = 0;
  for (const SelfText& text : texts) {
    if (stop && stop()) return {};
    progress(number, static_cast<int64_t>(texts.size()));
    // From the row that the first written token was drawn from.
    const size_t first = text.written - 1;
    const size_t count = text.tokens.size() - first;
    std::vector<float> states;
    add_hidden(model, workspace, text, first, states);
    hidden.push_back(at::from_blob(states.data(), {static_cast<int64_t>(count), model.config().hidden_size}, at::kFloat)
                         .to(at::kBFloat16));
    std::vector<int64_t>& starts = number++ % kHeldOutEvery == kHeldOutEvery - 1 ? rows.held_out : rows.train;
    for (size_t i = 0; i < count; ++i) {
      const auto left = static_cast<int64_t>(count - 1 - i);
      if (left >= 2) starts.push_back(static_cast<int64_t>(rows.tokens.size()));
      rows.tokens.push_back(text.tokens[first + i]);
      rows.left.push_back(left);
    }
  }
  if (rows.train.empty() || rows.held_out.empty()) {
    throw InvalidArgument(error_text("draft", "at least " + std::to_string(kHeldOutEvery) + " texts of three tokens",
                                     std::to_string(texts.size()) + " texts", "more --tokens and another --out"));
  }
  rows.hidden = at::cat(hidden);
  return rows;
}

// The tokens that the model writes most, the most frequent first.
std::vector<int32_t> frequent_tokens(const std::vector<SelfText>& texts, int64_t count, double& coverage) {
  std::unordered_map<int32_t, int64_t> seen;
  int64_t all = 0, covered = 0;
  for (const SelfText& text : texts) {
    for (size_t i = text.written; i < text.tokens.size(); ++i) ++seen[text.tokens[i]];
  }
  std::vector<std::pair<int64_t, int32_t>> order;
  for (const auto& [token, times] : seen) order.push_back({-times, token});
  std::sort(order.begin(), order.end());
  std::vector<int32_t> tokens;
  for (const auto& [times, token] : order) {
    all -= times;
    if (static_cast<int64_t>(tokens.size()) == count) continue;
    covered -= times;
    tokens.push_back(token);
  }
  coverage = static_cast<double>(covered) / static_cast<double>(std::max<int64_t>(all, 1));
  return tokens;
}

at::Tensor normed(const at::Tensor& x, const at::Tensor& weight) {
  return x * (x.square().mean(-1, true) + kNormEps).rsqrt() * weight;
}

class HeadTraining {
 public:
  HeadTraining(const Model& model, const DraftHeadOptions& options, const Rows& rows, std::vector<int32_t> tokens)
      : options_(options), rows_(rows), tokens_(std::move(tokens)) {
    const int64_t d = model.config().hidden_size, width = options.width > 0 ? options.width : 2 * d;
    read_tables(model, d);
    Random random(options.texts.seed, 77);
    std::vector<float> in(static_cast<size_t>(width * 2 * d));
    const float bound = std::sqrt(3.0f / static_cast<float>(2 * d));
    for (float& value : in) value = random.uniform(-bound, bound);
    parameters_ = {{.name = "in", .tensor = at::from_blob(in.data(), {width, 2 * d}, at::kFloat).clone(), .bf16 = true},
                   {.name = "out", .tensor = at::zeros({d, width}, at::kFloat), .bf16 = true},
                   {.name = "state_norm", .tensor = at::ones({d}, at::kFloat)},
                   {.name = "token_norm", .tensor = at::ones({d}, at::kFloat)}};
    for (Parameter& parameter : parameters_) parameter.tensor.set_requires_grad(true);
  }

  std::vector<Parameter>& parameters() { return parameters_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }

  // The loss of drafts that start at `starts`, with its backward pass.
  double backward(const std::vector<int64_t>& starts) {
    at::Tensor loss = at::zeros({}, at::kFloat);
    double weight = 1.0, weights = 0.0;
    unroll(starts, [&](int64_t, const at::Tensor& state, const at::Tensor& valid, const at::Tensor& target,
                       const std::vector<int64_t>&) {
      const at::Tensor log_p = at::matmul(state, head_.t()).log_softmax(-1);
      const at::Tensor log_t = at::matmul(target, head_.t()).log_softmax(-1);
      const at::Tensor kl = (log_t.exp() * (log_t - log_p)).sum(-1);
      const at::Tensor error = (state - target).square().mean(-1) / target.square().mean();
      loss = loss + weight * ((kl + kStateWeight * error) * valid).sum() / valid.sum().clamp_min(1.0);
      weights += weight;
      weight *= kDepthWeight;
    });
    loss = loss / weights;
    loss.backward();
    return loss.item<double>();
  }

  // DraftHeadResult::agreement.
  std::vector<double> agreement() const {
    const at::NoGradGuard no_grad;
    std::vector<double> right(static_cast<size_t>(options_.depth)), all(right);
    for (size_t begin = 0; begin < rows_.held_out.size(); begin += 512) {
      const size_t end = std::min(begin + 512, rows_.held_out.size());
      const std::vector<int64_t> starts(rows_.held_out.begin() + static_cast<std::ptrdiff_t>(begin),
                                        rows_.held_out.begin() + static_cast<std::ptrdiff_t>(end));
      unroll(starts, [&](int64_t depth, const at::Tensor& state, const at::Tensor&, const at::Tensor&,
                         const std::vector<int64_t>& next) {
        const at::Tensor guess = at::matmul(state, head_.t()).argmax(-1);
        for (size_t i = 0; i < next.size(); ++i) {
          if (next[i] < 0) continue;
          all[static_cast<size_t>(depth)] += 1;
          right[static_cast<size_t>(depth)] +=
              tokens_[static_cast<size_t>(guess.const_data_ptr<int64_t>()[i])] == next[i];
        }
      });
    }
    for (size_t i = 0; i < right.size(); ++i) right[i] /= std::max(all[i], 1.0);
    return right;
  }

 private:
  void read_tables(const Model& model, int64_t d) {
    std::vector<float> embedding(static_cast<size_t>(d)), row(static_cast<size_t>(d)), values;
    for (const int32_t token : rows_.tokens) {
      if (!place_.emplace(token, static_cast<int64_t>(place_.size())).second) continue;
      model.token_rows(token, embedding.data(), row.data());
      values.insert(values.end(), embedding.begin(), embedding.end());
    }
    embeddings_ = at::from_blob(values.data(), {static_cast<int64_t>(place_.size()), d}, at::kFloat).clone();
    values.clear();
    for (const int32_t token : tokens_) {
      model.token_rows(token, embedding.data(), row.data());
      values.insert(values.end(), row.begin(), row.end());
    }
    head_ = at::from_blob(values.data(), {static_cast<int64_t>(tokens_.size()), d}, at::kFloat).clone();
  }

  at::Tensor cell(const at::Tensor& state, const at::Tensor& embedding) const {
    const at::Tensor x =
        at::cat({normed(state, parameters_[2].tensor), normed(embedding, parameters_[3].tensor)}, 1);  // [B, 2d]
    return state + at::linear(at::silu(at::linear(x, parameters_[0].tensor)), parameters_[1].tensor);
  }

  // Calls body(depth, the cell's states [B, d], which of them count [B], the model's states there [B, d], and the token
  // that follows, -1 where it does not count) along the texts' own paths.
  template <class Body>
  void unroll(const std::vector<int64_t>& starts, Body&& body) const {
    const auto count = static_cast<int64_t>(starts.size());
    const auto gather = [&](int64_t ahead, at::Tensor& index) {  // rows that stand `ahead` behind, clamped to the text
      int64_t* out = index.mutable_data_ptr<int64_t>();
      for (int64_t i = 0; i < count; ++i) {
        const int64_t start = starts[static_cast<size_t>(i)];
        out[i] = start + std::min(ahead, rows_.left[static_cast<size_t>(start)]);
      }
    };
    at::Tensor index = at::empty({count}, at::kLong), places = at::empty({count}, at::kLong);
    gather(0, index);
    at::Tensor state = rows_.hidden.index_select(0, index).to(at::kFloat);
    for (int64_t depth = 0; depth < options_.depth; ++depth) {
      gather(depth + 1, index);  // the token that the cell reads, and the model's state that saw it
      std::vector<int64_t> next(starts.size(), -1);
      at::Tensor valid = at::zeros({count}, at::kFloat);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = index.const_data_ptr<int64_t>()[i], start = starts[static_cast<size_t>(i)];
        places.mutable_data_ptr<int64_t>()[i] = place_.at(rows_.tokens[static_cast<size_t>(row)]);
        if (rows_.left[static_cast<size_t>(start)] < depth + 2) continue;
        valid.mutable_data_ptr<float>()[i] = 1.0f;
        next[static_cast<size_t>(i)] = rows_.tokens[static_cast<size_t>(row + 1)];
      }
      state = cell(state, embeddings_.index_select(0, places));
      body(depth, state, valid, rows_.hidden.index_select(0, index).to(at::kFloat), next);
    }
  }

  const DraftHeadOptions& options_;
  const Rows& rows_;
  std::vector<int32_t> tokens_;
  std::unordered_map<int32_t, int64_t> place_;  // of a token in embeddings_
  at::Tensor embeddings_, head_;                // [different tokens, d], [tokens_, d]
  std::vector<Parameter> parameters_;
};

std::string text_identity(const DraftHeadOptions& options, const Model& model, const std::string& base) {
  Sha256 prompts;
  for (const std::vector<int32_t>& prompt : options.prompts) {
    const auto length = static_cast<int64_t>(prompt.size());
    prompts.add(std::as_bytes(std::span(&length, 1)));
    prompts.add(std::as_bytes(std::span(prompt)));
  }
  nlohmann::json json = {{"base", base.substr(0, 16)},
                         {"attention", model.config().attention},
                         {"made_with", options.made_with},
                         {"end_ids", options.texts.end_ids},
                         {"batch", options.texts.batch},
                         {"prompts", prompts.finish().substr(0, 16)},
                         {"tokens", options.texts.tokens},
                         {"tokens_per_prompt", options.texts.tokens_per_prompt},
                         {"temperature", options.texts.temperature},
                         {"seed", options.texts.seed}};
  return json.dump();
}

std::string training_identity(const DraftHeadOptions& options, const std::string& texts) {
  nlohmann::json json = {{"texts", texts},         {"vocabulary", options.vocabulary}, {"width", options.width},
                         {"depth", options.depth}, {"epochs", options.epochs},         {"batch", options.batch},
                         {"rate", options.rate}};
  return json.dump();
}

void write_head(const DraftHeadOptions& options, const std::string& base, HeadTraining& training) {
  std::vector<at::Tensor> kept;
  std::vector<TensorToWrite> tensors;
  for (const Parameter& parameter : training.parameters()) {
    kept.push_back(parameter.tensor.detach().contiguous());
    tensors.push_back({parameter.name, parameter.tensor.sizes().vec(), kept.back().const_data_ptr<float>(),
                       parameter.bf16 ? StoredType::kBf16 : StoredType::kF32});
  }
  write_draft_head(
      options.out,
      {.base_sha256 = base, .base_name = options.model_name, .tokens = training.tokens(), .command = options.command},
      tensors);
}

// Before anything is written.
void check(const DraftHeadOptions& options, const Model& model) {
  if (model.config().bidirectional || model.config().encoder_layers > 0) {
    throw NotSupported(error_text("draft", "a decoder", model.config().family));
  }
  const auto positive = [](const char* name, double value) {
    if (!(value > 0 && value < 1e9)) {  // NaN, too
      throw InvalidArgument(error_text(std::string("draft: ") + name, "a positive number", std::to_string(value)));
    }
  };
  positive("rate", options.rate);
  positive("epochs", options.epochs);
  if (!(options.texts.temperature >= 0))
    throw InvalidArgument(error_text("draft: temperature", "0 or more", "another"));
  const int64_t texts = (options.texts.tokens + options.texts.tokens_per_prompt - 1) / options.texts.tokens_per_prompt;
  if (texts < kHeldOutEvery) {
    throw InvalidArgument(error_text("draft", "tokens for " + std::to_string(kHeldOutEvery) + " texts at least",
                                     "for " + std::to_string(texts), "more --tokens, or fewer --tokens-per-prompt"));
  }
  for (size_t i = 0; i < options.prompts.size(); ++i) {
    const auto tokens = std::ssize(options.prompts[i]);
    if (tokens < 1 || tokens > model.max_positions()) {
      throw InvalidArgument(error_text("prompt " + std::to_string(i + 1),
                                       "1 to " + std::to_string(model.max_positions()) + " tokens",
                                       std::to_string(tokens)));
    }
  }
  if (options.prompts.empty()) throw InvalidArgument(error_text("draft", "at least one prompt", "none"));
}

}  // namespace

DraftHeadResult train_draft_head(const ModelFiles& files, const Model& model, Workspace& workspace,
                                 const DraftHeadOptions& options) {
  const auto begin = Clock::now();
  check(options, model);
  const std::string base = base_hash(files), texts_made_by = text_identity(options, model, base);
  fs::create_directories(options.out);
  const fs::path checkpoint = options.out / "checkpoint.safetensors";
  const std::string made_by = training_identity(options, texts_made_by);
  if (fs::exists(checkpoint)) check_made_by(checkpoint, made_by);
  TextFile file(options.out / "texts.jsonl", texts_made_by, options, model.config().vocab_size);
  SelfTextOptions texts = options.texts;
  texts.first = file.texts().size();
  texts.done = file.written();
  {
    std::atomic<bool> cancelled = false;
    texts.cancelled = &cancelled;
    const auto bar = progress_function("texts");
    texts.progress = [&](int64_t done, int64_t total) {
      bar(done, total);
      if (options.stop && options.stop()) cancelled = true;
    };
    write_self_texts(model, workspace, options.prompts, texts, [&](const SelfText& text) { file.add(text); });
  }
  DraftHeadResult result{.finished = false, .tokens = file.written(), .agreement = {}};
  if (options.stop && options.stop()) return result;

  const std::vector<int32_t> tokens = frequent_tokens(file.texts(), options.vocabulary, result.coverage);
  const Rows rows = read_rows(model, workspace, file.texts(), options.stop);
  if (options.stop && options.stop()) return result;
  HeadTraining training(model, options, rows, tokens);
  Adam optimizer(training.parameters());
  RunPosition position{.stage = "draft"};
  if (fs::exists(checkpoint)) position = load_run(checkpoint, training.parameters(), optimizer, made_by);
  const auto total = static_cast<int64_t>(options.epochs * static_cast<double>(rows.train.size()));
  const int64_t steps = std::max<int64_t>(1, total / options.batch);
  keep_metrics(options.out / "metrics.jsonl", "step", optimizer.steps);
  std::ofstream metrics(options.out / "metrics.jsonl", std::ios::app);
  auto saved = Clock::now();
  double shown = 0;
  {
    Progress progress("draft", steps, optimizer.steps);
    while (optimizer.steps < steps) {
      const double share = static_cast<double>(optimizer.steps) / static_cast<double>(steps);
      const double warm = std::min(1.0, static_cast<double>(optimizer.steps + 1) / kWarmupSteps);
      const double rate = options.rate * warm * (0.02 + 0.49 * (1 + std::cos(M_PI * share)));
      const double loss = training.backward(shuffled(rows.train, options.texts.seed, position.rows, options.batch));
      if (!std::isfinite(loss)) {
        throw Internal(error_text("draft", "a finite loss", std::to_string(loss), "a smaller --rate"));
      }
      optimizer.clip(1.0);
      optimizer.step({.feature = rate, .weight = rate});
      position.rows += options.batch;
      metrics << nlohmann::json{{"step", optimizer.steps}, {"loss", loss}, {"rate", rate}}.dump() << std::endl;
      shown = shown == 0 ? loss : 0.95 * shown + 0.05 * loss;
      char text[48];
      std::snprintf(text, sizeof(text), "loss %.4f", shown);
      progress.advance(1, text);
      const bool stop = options.stop && options.stop();
      if (stop || Clock::now() - saved > std::chrono::seconds(options.checkpoint_seconds)) {
        save_run(checkpoint, training.parameters(), optimizer, position, made_by);
        saved = Clock::now();
      }
      if (stop) return result;
    }
  }
  save_run(checkpoint, training.parameters(), optimizer, position, made_by);
  result.agreement = training.agreement();
  write_head(options, base, training);
  result.finished = true;
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

}  // namespace espalier
