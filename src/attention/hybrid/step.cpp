#include "attention/hybrid/hybrid.h"

#include <algorithm>

#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

class Hybrid : public Mechanism {
 public:
  Hybrid(const HybridOptions& options, const AttentionShape& shape)
      : shape_(shape), window_(make_lolcats(options.window, shape)), memory_(make_gated_delta(options.memory, shape)) {}

  Capabilities capabilities() const override { return {}; }
  StateLayout layout() const override {
    StateLayout layout = memory_->layout();
    layout.sinks = window_->layout().sinks;
    layout.sinks_fold = true;
    return layout;
  }
  std::vector<ParameterInfo> parameters() const override {
    std::vector<ParameterInfo> all = {{"hybrid.alpha", {shape_.heads}, Init::kZero, true}};
    for (ParameterInfo& parameter : memory_->parameters()) all.push_back(std::move(parameter));
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override {
    alpha_ = values[0];
    memory_->load({values.begin() + 1, values.end()});
  }

  void fold_rows(const Kernels& kernels, int kv_head, const FoldRows& rows, const float* before,
                 float* fold) const override {
    memory_->fold_rows(kernels, kv_head, rows, before, fold);
  }
  bool has_gates() const override { return true; }
  void make_gates(const Kernels& kernels, const SegmentRows& segment, int64_t begin, int64_t end) const override {
    memory_->make_gates(kernels, segment, begin, end);
  }
  int64_t prepared_floats(const SegmentRows& segment) const override {
    return window_->prepared_floats(segment) + memory_->prepared_floats(segment);
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    window_->prepare(kernels, segment, kv_head, begin, end, prepared);
    memory_->prepare(kernels, segment, kv_head, begin, end, prepared + window_->prepared_floats(segment));
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return std::max(window_->scratch_floats(segment), memory_->scratch_floats(segment)) + kRowsAside * row_floats();
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int64_t dim_v = shape_.dim_v;
    float* memory = scratch + kRowsAside * row_floats();
    window_->attend(kernels, segment, kv_head, begin, end, prepared, memory);
    SegmentRows aside = segment;
    aside.out_stride = row_floats();
    for (int64_t first = begin; first < end; first += kRowsAside) {
      const int64_t last = std::min(end, first + kRowsAside);
      aside.out = scratch - first * row_floats();
      memory_->attend(kernels, aside, kv_head, first, last, prepared + window_->prepared_floats(segment), memory);
      for (int64_t row = first; row < last; ++row) {
        for (int h = 0; h < shape_.heads_per_kv(); ++h) {
          kernels.add_scaled(output_of(aside, shape_, kv_head, h, row),
                             alpha_[static_cast<size_t>(kv_head * shape_.heads_per_kv() + h)], dim_v,
                             output_of(segment, shape_, kv_head, h, row));
        }
      }
    }
  }

 private:
  // The memory writes rows aside before they are added: [kRowsAside][H, Dv].
  static constexpr int64_t kRowsAside = 4;
  int64_t row_floats() const { return int64_t{shape_.heads} * shape_.dim_v; }

  AttentionShape shape_;
  std::unique_ptr<Mechanism> window_, memory_;
  std::vector<float> alpha_;  // [H]
};

}  // namespace

HybridOptions HybridOptions::of(const AttentionOptions& options) {
  const int64_t group = options.integer("group");
  return {.window = {.group = group, .sinks = options.integer("sinks")}, .memory = {.block = group}};
}

const AttentionCard& hybrid_card() {
  static const AttentionCard card{.name = "hybrid",
                                  .summary = "window for what is near + alpha * gated_delta for what is far",
                                  .paper = "Xiao et al. 2023, arXiv 2309.17453; Yang et al. 2024, arXiv 2412.06464",
                                  .options = {group_option(), sinks_option()},
                                  .samples = {"hybrid(group=8,sinks=3)", "hybrid(group=20,sinks=0)"},
                                  .in_models = {"hybrid(group=8,sinks=2)"},
                                  .make = [](const AttentionOptions& options, const AttentionShape& shape) {
                                    return std::make_unique<Hybrid>(HybridOptions::of(options), shape);
                                  }};
  return card;
}

}  // namespace espalier
