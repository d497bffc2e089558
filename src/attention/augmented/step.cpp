#include "attention/augmented/augmented.h"

#include <algorithm>

#include "attention/conv/conv.h"
#include "attention/shared/additive.h"
#include "attention/shared/visible_rows.h"
#include "core/error.h"

namespace espalier {
namespace {

class Augmented : public Mechanism {
 public:
  Augmented(const AugmentedOptions& options, const AttentionShape& shape)
      : shape_(shape), has_alpha_(options.alpha), group_(options.group), filter_(options.taps, shape.span) {
    if (options.local) local_ = make_flash_local(*options.local, shape);
    if (options.flash_global) global_ = make_flash_global(*options.flash_global, shape);
    if (options.additive) global_ = make_closed_groups(*options.additive, shape, group_);
  }

  Capabilities capabilities() const override {
    return {.span = true,
            .bias = local_ && local_->capabilities().bias,
            .max_length = global_ ? global_->capabilities().max_length : 0};
  }
  StateLayout layout() const override {
    StateLayout layout{.heads_kv = shape_.heads_kv,
                       .dim_k = shape_.dim_k,
                       .dim_v = shape_.dim_v,
                       .block = group_,
                       .lag = 0,
                       .tail = std::max<int64_t>(0, filter_.taps() - 1)};
    for (const Mechanism* part : {local_.get(), global_.get()}) {
      if (!part) continue;
      layout.lag = std::max(layout.lag, part->layout().lag);
      layout.fold_floats += part->layout().fold_floats;
    }
    return layout;
  }

  std::vector<ParameterInfo> parameters() const override {
    std::vector<ParameterInfo> all;
    if (global_ && has_alpha_) all.push_back({"augmented.alpha", {1}, Init::kZero});
    if (global_) {
      for (ParameterInfo& parameter : global_->parameters()) all.push_back(std::move(parameter));
    }
    if (filter_.taps() > 0) all.push_back(filter_.parameter(shape_));
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override {
    auto next = values.begin();
    if (global_ && has_alpha_) alpha_ = (*next++)[0];
    if (global_) {
      const auto count = static_cast<int64_t>(global_->parameters().size());
      global_->load({next, next + count});
    }
    if (filter_.taps() > 0) filter_.load(values.back());
  }

  void fold_rows(const Kernels& kernels, int kv_head, const FoldRows& rows, const float* before,
                 float* fold) const override {
    if (global_) global_->fold_rows(kernels, kv_head, rows, before, fold);
  }

  int64_t prepared_floats(const SegmentRows& segment) const override {
    return (local_ ? local_->prepared_floats(segment) : 0) + (global_ ? global_->prepared_floats(segment) : 0);
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    if (local_) local_->prepare(kernels, segment, kv_head, begin, end, prepared);
    if (global_) global_->prepare(kernels, segment, kv_head, begin, end, global_prepared(segment, prepared));
  }

  int64_t scratch_floats(const SegmentRows& segment) const override {
    int64_t part = segment.rows + outputs();
    if (local_) part = std::max(part, local_->scratch_floats(segment));
    if (global_) part = std::max(part, global_->scratch_floats(segment));
    return part + kRowsAside * row_floats();
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    float* memory = scratch + kRowsAside * row_floats();
    if (local_) {
      local_->attend(kernels, segment, kv_head, begin, end, prepared, memory);
    } else {
      for (int64_t row = begin; row < end; ++row) {
        std::fill_n(output_of(segment, shape_, kv_head, 0, row), outputs(), 0.0f);
      }
    }
    for (int64_t row = begin; global_ && row < end; row += kRowsAside) {
      add_global(kernels, segment, kv_head, row, std::min(end, row + kRowsAside), prepared, scratch);
    }
    for (int64_t row = begin; filter_.taps() > 0 && row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, reinterpret_cast<int32_t*>(memory));
      const int heads = shape_.heads_per_kv();
      filter_.add(kernels, all, kv_head * heads, heads, shape_.dim_v, memory + segment.rows,
                  output_of(segment, shape_, kv_head, 0, row));
    }
  }

  bool finishes() const override { return global_ && global_->finishes(); }
  void finish(const Kernels& kernels, float* out) const override { global_->finish(kernels, out); }

 private:
  // Floats of one row's output for the query heads of one KV head.
  int64_t outputs() const { return int64_t{shape_.heads_per_kv()} * shape_.dim_v; }
  // The global part writes rows aside before they are added: [kRowsAside][H, Dv].
  static constexpr int64_t kRowsAside = 4;
  int64_t row_floats() const { return int64_t{shape_.heads} * shape_.dim_v; }

  template <class Float>
  Float* global_prepared(const SegmentRows& segment, Float* prepared) const {
    return prepared + (local_ ? local_->prepared_floats(segment) : 0);
  }

  void add_global(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                  const float* prepared, float* aside_rows) const {
    SegmentRows aside = segment;
    aside.out_stride = row_floats();
    aside.out = aside_rows - begin * row_floats();
    global_->attend(kernels, aside, kv_head, begin, end, global_prepared(segment, prepared),
                    aside_rows + kRowsAside * row_floats());
    for (int64_t row = begin; row < end; ++row) {
      kernels.add_scaled(output_of(aside, shape_, kv_head, 0, row), alpha_, outputs(),
                         output_of(segment, shape_, kv_head, 0, row));
    }
  }

  AttentionShape shape_;
  bool has_alpha_;
  int64_t group_;
  std::unique_ptr<Mechanism> local_, global_;
  ConvFilter filter_;
  float alpha_ = 1.0f;
};

}  // namespace

AugmentedOptions AugmentedOptions::of(const AttentionOptions& options) {
  const std::string local = options.text("local"), global = options.text("global");
  AugmentedOptions parts{.group = options.integer("group"), .taps = options.integer("taps")};
  if (local != "none") parts.local = {.group = parts.group, .terraced = local == "terraced"};
  if (global == "flash_global") {
    parts.flash_global = {.group = parts.group, .scale = flash_scale(options)};
  } else if (global != "none") {
    parts.additive = AttentionSpec::parse(global);
  }
  if (!parts.local && !parts.has_global() && parts.taps == 0) {
    throw InvalidArgument(error_text("attention '" + options.spec().text() + "'", "at least one part", "none"));
  }
  return parts;
}

AugmentedOptions flash_options(const AttentionOptions& options) {
  return {.group = options.integer("group"),
          .local = FlashLocalOptions::of(options),
          .flash_global = FlashGlobalOptions::of(options),
          .alpha = false};
}

std::unique_ptr<Mechanism> make_augmented(const AugmentedOptions& options, const AttentionShape& shape) {
  return std::make_unique<Augmented>(options, shape);
}

const AttentionCard& augmented_card() {
  static const AttentionCard card{
      .name = "augmented",
      .summary = "flash_local + alpha * (flash_global or any additive one over closed groups) + conv",
      .paper = "You et al. 2024 (ICML), arXiv 2406.07368",
      .options = {local_option("|none"),
                  {.name = "global",
                   .kind = OptionKind::kSpec,
                   .fallback = "flash_global",
                   .meaning = "the part over closed groups: flash_global, an additive mechanism's SPEC, or none"},
                  group_option(),
                  taps_option(32, 0),
                  scale_option()},
      .samples = {"augmented(group=8,taps=7)", "augmented(group=12,local=terraced,scale=none)",
                  "augmented(group=8,global=none,taps=3)", "augmented(group=8,taps=0)",
                  "augmented(group=8,local=none,taps=4)", "augmented(group=64)",
                  "augmented(global=linear,group=8,taps=3)", "augmented(global=relu,group=8,taps=0)",
                  "augmented(global=angular,group=12,taps=0,local=terraced)",
                  "augmented(global=cosformer(length=1000),group=8,local=none)",
                  "augmented(global=performer(features=9),group=8,taps=5)",
                  "augmented(global=rfa(features=6),group=5,taps=5)", "augmented(global=hedgehog,group=8)",
                  "augmented(global=transnormer,group=8,taps=2)"},
      .in_models = {"augmented(group=8,taps=4)", "augmented(group=12,local=terraced)", "augmented(group=64)",
                    "augmented(global=performer(features=16,form=hyperbolic),group=8,taps=3)",
                    "augmented(global=transnormer,group=16,local=terraced)"},
      .measured = {"augmented", "augmented(global=performer)", "augmented(global=relu)",
                   "augmented(global=transnormer)"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return make_augmented(AugmentedOptions::of(options), shape);
      }};
  return card;
}

}  // namespace espalier
