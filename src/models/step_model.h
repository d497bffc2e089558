// A model of any family at inference. `Family` names its text for all contexts:
//   template <class Context> using Weights
//   static Weights<Context> load<Context>(Loader&, const ModelConfig&)
//   and the parts that models/forward.h puts together
#pragma once

#include <memory>
#include <vector>

#include "models/forward.h"
#include "models/model.h"
#include "models/step_context.h"
#include "models/step_loader.h"
#include "models/step_rows.h"

namespace espalier {

template <class Family>
class StepModel : public Model {
 public:
  StepModel(const ModelFiles& files, const LoadOptions& options)
      : config_(files.config), kernels_(options.kernels ? *options.kernels : best_kernels()) {
    if (!options.attention.empty()) config_.set_attention(options.attention);
    mechanisms_ = load_mechanisms(config_, *files.tensors, options.more_mechanisms);
    tails_ = tail_shapes(config_, mechanisms_);
    StepLoader loader(*files.tensors, options.weights, config_.vocab_size, options.own_weights);
    weights_ = Family::template load<StepContext>(loader, config_);
    loader.finish();
    weight_bytes_ = loader.bytes();
    parameters_ = loader.parameters();
    converted_ = loader.converted();
  }

  const ModelConfig& config() const override { return config_; }
  const Kernels& kernels() const override { return kernels_; }
  const std::vector<std::unique_ptr<Mechanism>>& mechanisms() const override { return mechanisms_; }
  const std::vector<TailShape>& tails() const override { return tails_; }
  bool gives(Output what) const override { return Family::gives(weights_, what); }
  void token_rows(int32_t token, float* embedding, float* head) const override {
    if constexpr (!Family::kLinearHead) {
      Model::token_rows(token, embedding, head);
    } else {
      weights_.embed.weight.row(token, embedding);
      head_of<StepContext>(weights_).weight.row(token, head);
    }
  }
  int64_t weight_bytes() const override { return weight_bytes_; }
  int64_t parameters() const override { return parameters_; }
  const std::vector<std::string>& converted() const override { return converted_; }

 protected:
  void run(std::span<const Segment> segments, Workspace& workspace, StepOutput& output,
           StepObserver* observer) const override {
    const StepRows rows = gather_rows(*this, segments, output);
    const FloatEnvironment environment;
    workspace.arena.reset();
    StepContext context(kernels_, workspace, mechanisms_, config_, rows, output.pending, observer);
    const Rows hidden = forward_hidden<Family>(context, config_, weights_, std::span<const int32_t>(rows.tokens));
    for (size_t i = 0; i < rows.wanted.size(); ++i) {
      output.set(Output::kHidden, hidden.columns, rows.wanted[i], hidden.row(static_cast<int64_t>(i)));
    }
    for (const OutputKind& kind : kOutputKinds) {
      if (kind.output != Output::kHidden) give(kind.output, context, rows, hidden, output);
    }
  }

  const typename Family::template Weights<StepContext>& weights() const { return weights_; }

 private:
  // One output of those wanted rows, with their hidden states, whose segments ask for it.
  void give(Output what, StepContext& context, const StepRows& rows, const Rows& hidden, StepOutput& output) const {
    std::vector<int64_t> asked;
    for (size_t i = 0; i < rows.wanted.size(); ++i) {
      if (rows.wanted_outputs[i].has(what)) asked.push_back(static_cast<int64_t>(i));
    }
    if (asked.empty()) return;
    const Rows given = output_of<Family>(context, config_, weights_, context.select(hidden, asked), what);
    for (size_t i = 0; i < asked.size(); ++i) {
      output.set(what, given.columns, rows.wanted[static_cast<size_t>(asked[i])], given.row(static_cast<int64_t>(i)));
    }
  }

  ModelConfig config_;
  const Kernels& kernels_;
  std::vector<std::unique_ptr<Mechanism>> mechanisms_;
  std::vector<TailShape> tails_;
  typename Family::template Weights<StepContext> weights_;
  int64_t weight_bytes_ = 0, parameters_ = 0;
  std::vector<std::string> converted_;
};

template <class Family>
std::unique_ptr<Model> load_step_model(const ModelFiles& files, const LoadOptions& options) {
  return std::make_unique<StepModel<Family>>(files, options);
}

}  // namespace espalier
