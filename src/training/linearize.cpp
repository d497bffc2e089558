#include "training/linearize.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/progress.h"
#include "training/run_state.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The factor on a stage's learning rates at a step: warm-up, then constant or a cosine down to a tenth.
double schedule(const Stage& stage, int64_t step, double share) {
  const double warmup =
      std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(std::max<int64_t>(1, stage.warmup_steps)));
  return warmup * (stage.cosine ? 0.1 + 0.45 * (1.0 + std::cos(M_PI * share)) : 1.0);
}

// What stands around each row of an encoder's text, [CLS] and [SEP]: what the tokenizer puts around an empty one.
TextRows::Options row_options(const ModelFiles& files, const Tokenizer& tokenizer, const Recipe& recipe) {
  TextRows::Options options{.context = recipe.context, .end_id = files.tokenizer.eos_id, .seed = recipe.seed};
  if (!files.config.bidirectional) return options;
  options.end_id = -1;
  const std::vector<int32_t> around = tokenizer.encode("");
  if (around.size() == 2) {
    options.row_begin = around[0];
    options.row_end = around[1];
  }
  return options;
}

class Run {
 public:
  Run(const LinearizeOptions& options, const ModelFiles& files, const Tokenizer& tokenizer)
      : options_(options),
        recipe_(options.recipe),
        encoder_(files.config.bidirectional),
        rows_(row_options(files, tokenizer, recipe_)),
        data_(tokenizer, options.data, options.held_out.empty() ? recipe_.held_out_rows : 0, rows_),
        held_out_(options.held_out.empty()
                      ? data_.held_out()
                      : TextRows(tokenizer, options.held_out, 0, rows_).spread(recipe_.held_out_rows)),
        student_(files, {.attention = recipe_.attention,
                         .trained = recipe_.trained,
                         .lora_rank = recipe_.lora_rank,
                         .lora_rank_mlp = recipe_.lora_rank_mlp,
                         .lora_scale = recipe_.lora_scale,
                         .seed = recipe_.seed}),
        optimizer_(student_.parameters()),
        checkpoint_(options.out / "checkpoint.safetensors"),
        base_(base_hash(files)),
        identity_(recipe_text(recipe_) + " data=" + data_.fingerprint() + " base=" + base_.substr(0, 16)) {}

  LinearizeResult train() {
    start();
    bool finished = true;
    if (position_.stage == "transfer") {
      finished =
          train_stage(recipe_.transfer, [&](const at::Tensor& tokens) { return transfer_backward(student_, tokens); });
      if (finished) {
        optimizer_.reset();
        position_.stage = "distill";
        position_.stage_tokens = 0;
        save();
      }
    }
    if (finished) {
      finished = train_stage(
          recipe_.distill, [&](const at::Tensor& tokens) { return distill_backward(student_, tokens, *recipe_.loss); });
    }
    LinearizeResult result{.finished = finished,
                           .measure = measure(),
                           .teacher = position_.teacher,
                           .before = position_.before,
                           .tokens = position_.tokens};
    if (finished) {
      student_.round_to_stored();
      result.after = measured(true);
    }
    result.seconds = seconds();
    return result;
  }

  void write(const AdapterInfo& info) const { student_.write(options_.out, info); }
  std::vector<std::string> attention() const { return student_.attention(); }
  const std::string& base() const { return base_; }

 private:
  std::string measure() const { return encoder_ ? "hidden_error" : "perplexity"; }
  // On held-out rows, of the student or the teacher.
  double measured(bool student) const {
    if (encoder_) return student ? held_out_error(student_, held_out_) : 0.0;
    return held_out_loss(student_, student, held_out_).perplexity();
  }

  void start() {
    fs::create_directories(options_.out);
    const bool exists = fs::exists(checkpoint_);
    if (exists && !options_.resume) {
      throw InvalidArgument(
          error_text(checkpoint_.string(), "no checkpoint", "one of an earlier run", "--resume, or another --out"));
    }
    if (exists) {
      position_ = load_run(checkpoint_, student_.parameters(), optimizer_, identity_);
      keep_metrics(options_.out / "metrics.jsonl", "tokens", position_.tokens);
      return;
    }
    write_file(options_.out / "metrics.jsonl", "");
    position_.teacher = measured(false);
    search_tau(student_, data_.rows(0, std::max<int64_t>(1, recipe_.batch_tokens / recipe_.context)),
               {-10, -8, -6, -5, -4, -3, -2, -1, 0, 1});
    position_.before = measured(true);
    std::fprintf(stderr, "held-out %s: teacher %.4g, before training %.4g\n", measure().c_str(), position_.teacher,
                 position_.before);
    save();
  }

  double seconds() const { return position_.seconds + seconds_since(begin_); }

  void save() {
    RunPosition position = position_;
    position.seconds = seconds();
    save_run(checkpoint_, student_.parameters(), optimizer_, position, identity_);
    saved_ = Clock::now();
  }

  // False when the run was stopped.
  template <class Backward>
  bool train_stage(const Stage& stage, Backward&& backward) {
    Progress progress(position_.stage, stage.tokens, position_.stage_tokens);
    double shown = 0.0;
    std::ofstream metrics(options_.out / "metrics.jsonl", std::ios::app);
    const int64_t rows = std::max<int64_t>(1, recipe_.batch_tokens / recipe_.context);
    student_.set_trained(stage.rates.feature > 0, stage.rates.weight > 0);
    while (position_.stage_tokens < stage.tokens) {
      const double factor = schedule(stage, optimizer_.steps,
                                     static_cast<double>(position_.stage_tokens) / static_cast<double>(stage.tokens));
      const double loss = backward(data_.rows(position_.rows, rows));
      if (!std::isfinite(loss)) {
        throw Internal(error_text(position_.stage, "a finite loss", std::to_string(loss), "smaller learning rates"));
      }
      const double length = optimizer_.clip(stage.clip > 0 ? stage.clip : HUGE_VAL);
      optimizer_.step({.feature = stage.rates.feature * factor, .weight = stage.rates.weight * factor});
      const int64_t tokens = rows * recipe_.context;
      position_.stage_tokens += tokens;
      position_.tokens += tokens;
      position_.rows += rows;
      nlohmann::json line = {{"stage", position_.stage}, {"tokens", position_.tokens}, {"loss", loss},
                             {"gradient", length},       {"factor", factor},           {"seconds", seconds()}};
      if (recipe_.evaluate_tokens > 0 && position_.tokens % recipe_.evaluate_tokens < tokens) {
        line["held_out_" + measure()] = measured(true);
      }
      metrics << line.dump() << std::endl;
      char text[48];
      shown = shown == 0.0 ? loss : 0.75 * shown + 0.25 * loss;  // rows differ more than steps do
      std::snprintf(text, sizeof(text), "loss %.4f", shown);
      progress.advance(tokens, text);
      const bool stop = options_.stop && options_.stop();
      if (stop || seconds_since(saved_) >= static_cast<double>(recipe_.checkpoint_seconds)) save();
      if (stop) return false;
    }
    return true;
  }

  const LinearizeOptions& options_;
  const Recipe& recipe_;
  bool encoder_;
  TextRows::Options rows_;
  TextRows data_;
  at::Tensor held_out_;  // [rows, context]
  Student student_;
  Adam optimizer_;
  fs::path checkpoint_;
  std::string base_, identity_;  // hash of the base; what a checkpoint must have been made by
  RunPosition position_;
  Clock::time_point begin_ = Clock::now(), saved_ = Clock::now();
};

}  // namespace

LinearizeResult linearize(const ModelFiles& files, const Tokenizer& tokenizer, const LinearizeOptions& options) {
  if (files.config.encoder_layers > 0) {
    throw NotSupported(error_text("linearize", "a decoder or an encoder", files.config.family + ", which is both"));
  }
  const bool encoder = files.config.bidirectional;
  LinearizeOptions resolved = options;
  resolved.recipe.loss = options.recipe.loss.value_or(encoder ? DistillLoss::kHidden : DistillLoss::kKl);
  if (encoder && resolved.recipe.loss != DistillLoss::kHidden) {
    throw InvalidArgument(error_text("linearize: --loss", "hidden for an encoder, which has no next token", "another"));
  }
  check_recipe(resolved.recipe, files.config);
  Run run(resolved, files, tokenizer);
  const LinearizeResult result = run.train();
  if (!result.finished) return result;
  run.write({.base_sha256 = run.base(),
             .base_name = options.model_name,
             .attention = run.attention(),
             .lora_scale = options.recipe.lora_scale,
             .command = options.command});
  return result;
}

}  // namespace espalier
