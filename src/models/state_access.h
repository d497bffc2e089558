// The inside of states, for what computes steps. Others have no use for it: a past means what its model says.
#pragma once

#include <cstddef>
#include <vector>

#include "models/sequence_state.h"

namespace espalier {

struct StateAccess {
  static std::vector<LayerState>& layers(SequenceState& state) { return state.layers_; }
  static const std::vector<LayerState>& layers(const SequenceState& state) { return state.layers_; }
  static std::vector<RowTail>& tails(SequenceState& state) { return state.tails_; }
  static const std::vector<RowTail>& tails(const SequenceState& state) { return state.tails_; }
  static std::shared_ptr<const SourceState>& source(SequenceState& state) { return state.source_; }
  static const SourceState* source(const SequenceState& state) { return state.source_.get(); }

  // Empties `pending` for rows that follow `base` others; what each layer and tail gives is still to be filled in.
  static void start(Pending& pending, int64_t base, bool span, std::vector<int32_t> parents, size_t layers,
                    size_t tails) {
    pending.base_ = base;
    pending.span_ = span;
    pending.parents_ = std::move(parents);
    pending.k_.resize(layers);
    pending.v_.resize(layers);
    pending.extra_.resize(layers);
    pending.tails_.resize(tails);
  }
  static int64_t base(const Pending& pending) { return pending.base_; }
  static bool span(const Pending& pending) { return pending.span_; }
  static const std::vector<int32_t>& parents(const Pending& pending) { return pending.parents_; }
  // [R, Hk, Dk], [R, Hk, Dv], [R, Hk, dim_extra], [R, width]
  static std::vector<float>& k(Pending& pending, size_t layer) { return pending.k_[layer]; }
  static std::vector<float>& v(Pending& pending, size_t layer) { return pending.v_[layer]; }
  static std::vector<float>& extra(Pending& pending, size_t layer) { return pending.extra_[layer]; }
  static std::vector<float>& tail(Pending& pending, size_t tail) { return pending.tails_[tail]; }
  static const std::vector<float>& k(const Pending& pending, size_t layer) { return pending.k_[layer]; }
  static const std::vector<float>& v(const Pending& pending, size_t layer) { return pending.v_[layer]; }
  static const std::vector<float>& extra(const Pending& pending, size_t layer) { return pending.extra_[layer]; }
  static const std::vector<float>& tail(const Pending& pending, size_t tail) { return pending.tails_[tail]; }
  static size_t layers(const Pending& pending) { return pending.k_.size(); }
  static size_t tails(const Pending& pending) { return pending.tails_.size(); }
};

}  // namespace espalier
