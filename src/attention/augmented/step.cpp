#include "attention/augmented/augmented.h"

#include <algorithm>

#include "attention/conv/conv.h"
#include "attention/flash/flash.h"
#include "attention/shared/additive.h"
#include "attention/shared/visible_rows.h"
#include "core/error.h"

namespace espalier {
namespace {

std::string part_spec(std::string name, int64_t group, const std::string& option) {
  return std::move(name) + "(group=" + std::to_string(group) + "," + option + ")";
}

class Augmented : public Mechanism {
 public:
  // fixed_alpha: the global part counts once, and alpha is no parameter.
  Augmented(const AttentionSpec& spec, const AttentionShape& shape, bool fixed_alpha)
      : shape_(shape),
        fixed_alpha_(fixed_alpha),
        group_(spec.integer("group", 64, kMinGroup, kMaxGroup)),
        filter_(spec.integer("taps", 32, 0, kMaxTaps), shape.span) {
    const std::string local = spec.choice("local", "blocked", "blocked|terraced|none");
    const std::string global = spec.value("global", "flash_global");
    const std::string scale = spec.choice("scale", "count", "count|groups|none");
    if (local != "none") {
      local_ = make_flash_local(AttentionSpec::parse(part_spec("flash_local", group_, "local=" + local)), shape);
    }
    if (global == "flash_global") {
      global_ = make_flash_global(AttentionSpec::parse(part_spec("flash_global", group_, "scale=" + scale)), shape);
    } else if (global != "none") {
      global_ = make_closed_groups(AttentionSpec::parse(global), shape, group_);
    }
    if (!local_ && !global_ && filter_.taps() == 0) {
      throw InvalidArgument(error_text("attention '" + spec.text() + "'", "at least one part", "none"));
    }
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
    if (global_ && !fixed_alpha_) all.push_back({"augmented.alpha", {1}, Init::kZero});
    if (global_) {
      for (ParameterInfo& parameter : global_->parameters()) all.push_back(std::move(parameter));
    }
    if (filter_.taps() > 0) all.push_back(filter_.parameter(shape_));
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override {
    auto next = values.begin();
    if (global_ && !fixed_alpha_) alpha_ = (*next++)[0];
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
  bool fixed_alpha_;
  int64_t group_;
  std::unique_ptr<Mechanism> local_, global_;
  ConvFilter filter_;
  float alpha_ = 1.0f;
};

}  // namespace

std::unique_ptr<Mechanism> make_augmented(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("local|global|group|taps|scale");
  return std::make_unique<Augmented>(spec, shape, false);
}

AttentionSpec flash_as_augmented(const AttentionSpec& spec) {
  spec.reject_unknown("group|local|scale");
  return AttentionSpec::parse("augmented(taps=0,group=" + spec.value("group", "64") +
                              ",local=" + spec.choice("local", "blocked", "blocked|terraced") +
                              ",scale=" + spec.value("scale", "count") + ")");
}

std::unique_ptr<Mechanism> make_flash(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<Augmented>(flash_as_augmented(spec), shape, true);
}

}  // namespace espalier
