// Rows of one sequence or tree, and a step of one mechanism over them, for tests.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "attention/attend.h"
#include "attention/shared/plain.h"
#include "core/rng.h"
#include "support/attentions.h"

namespace espalier::testing {

// SPECs of mechanisms that a step needs no model for: no short convolutions, which the model's context applies.
inline std::vector<const char*> step_samples() {
  std::vector<const char*> specs = attention_samples();
  std::erase_if(specs, [](const char* text) {
    const AttentionShape shape{.heads = 1, .heads_kv = 1, .dim_k = 8, .dim_v = 8, .hidden = 8};
    return make_mechanism(AttentionSpec::parse(text), shape)->short_convolution() != nullptr;
  });
  return specs;
}

inline std::vector<float> random_floats(Random& random, int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (float& value : x) value = random.normal();
  return x;
}

// `rows` new rows of q, k and v at the end of `sequence`.
inline void append_random(plain::Sequence& sequence, const AttentionShape& shape, int64_t rows, Random& random) {
  for (int64_t i = 0; i < rows; ++i) {
    sequence.q.push_back(random_floats(random, int64_t{shape.heads} * shape.dim_k));
    sequence.k.push_back(random_floats(random, int64_t{shape.heads_kv} * shape.dim_k));
    sequence.v.push_back(random_floats(random, int64_t{shape.heads_kv} * shape.dim_v));
    if (shape.hidden > 0) sequence.hidden.push_back(random_floats(random, shape.hidden));
  }
}

inline std::vector<std::vector<float>> random_parameters(const Mechanism& mechanism, Random& random) {
  std::vector<std::vector<float>> values;
  for (const ParameterInfo& info : mechanism.parameters()) {
    int64_t count = 1;
    for (const int64_t extent : info.shape) count *= extent;
    values.push_back(random_floats(random, count));
    for (float& x : values.back()) x *= 0.4f;
  }
  return values;
}

// Commits rows [begin, end) one by one: each is a step, as what a mechanism makes of a row needs the state before it.
inline void append(const Kernels& kernels, const Mechanism& mechanism, const plain::Sequence& rows, int64_t begin,
                   int64_t end, LayerState& state) {
  const StateLayout layout = mechanism.layout();
  std::vector<float> extra(static_cast<size_t>(layout.heads_kv * layout.dim_extra));
  const int32_t parent = -1, depth = 0;
  for (int64_t t = begin; t < end; ++t) {
    SegmentRows segment{.state = &state, .rows = 1, .parent = &parent, .depth = &depth, .chain = true};
    segment.k = rows.k[t].data();
    segment.v = rows.v[t].data();
    segment.hidden = rows.hidden.empty() ? nullptr : rows.hidden[t].data();
    segment.extra = extra.data();
    if (layout.dim_extra > 0) {
      std::vector<float> prepared(static_cast<size_t>(mechanism.prepared_floats(segment)));
      if (mechanism.has_gates()) mechanism.make_gates(kernels, segment, 0, 1);
      for (int head = 0; head < layout.heads_kv; ++head)
        mechanism.prepare(kernels, segment, head, 0, 1, prepared.data());
    }
    state.append(kernels, mechanism, rows.k[t].data(), rows.v[t].data(), extra.data());
  }
}

inline LayerState committed(const Kernels& kernels, const Mechanism& mechanism, const plain::Sequence& rows,
                            int64_t count) {
  LayerState state(mechanism.layout());
  append(kernels, mechanism, rows, 0, count, state);
  return state;
}

// States after the first rows of a text, for lengths that ascend.
class Past {
 public:
  Past(const Kernels& kernels, const Mechanism& mechanism, const plain::Sequence& rows)
      : kernels_(kernels), mechanism_(mechanism), rows_(rows), state_(mechanism.layout()) {}

  const LayerState& after(int64_t length) {
    append(kernels_, mechanism_, rows_, state_.length(), length, state_);
    return state_;
  }

 private:
  const Kernels& kernels_;
  const Mechanism& mechanism_;
  const plain::Sequence& rows_;
  LayerState state_;
};

// How the rows of a step lie in memory.
struct Placement {
  int64_t gap = 0;     // floats between one row and the next
  int64_t offset = 0;  // floats from a 64-byte border to the first
};

// How the rows of a step see each other, where they are no tree's.
struct Span {
  bool span = false, keys = true;
  RelativeBias bias = {};
};

// One step over `tree` (rows that follow `state`, parent[r] < r); out [R][H * Dv]. All memory that a mechanism may
// not read is NaN.
inline std::vector<std::vector<float>> step(const Kernels& kernels, const Mechanism& mechanism,
                                            const AttentionShape& shape, const LayerState& state,
                                            const plain::Sequence& tree, const std::vector<int32_t>& parent,
                                            Placement placement = {}, int threads = 1, Span span = {}) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const int64_t rows = static_cast<int64_t>(parent.size());
  std::vector<int32_t> depth;
  bool chain = true;
  for (int64_t r = 0; r < rows; ++r) {
    depth.push_back(parent[r] < 0 ? 0 : depth[static_cast<size_t>(parent[r])] + 1);
    chain = chain && parent[r] == r - 1;
  }
  const auto place = [&](const std::vector<std::vector<float>>& source, int64_t width, AlignedBuffer<float>& memory) {
    const int64_t stride = width + placement.gap;
    memory = AlignedBuffer<float>(static_cast<size_t>(rows * stride + placement.offset + 16));
    std::fill(memory.data(), memory.data() + memory.size(), kNan);
    for (int64_t r = 0; r < rows && !source.empty(); ++r) {
      std::copy(source[r].begin(), source[r].end(), memory.data() + placement.offset + r * stride);
    }
    return stride;
  };
  AlignedBuffer<float> q, k, v, out, hidden;
  const int64_t q_stride = place(tree.q, int64_t{shape.heads} * shape.dim_k, q);
  const int64_t k_stride = place(tree.k, int64_t{shape.heads_kv} * shape.dim_k, k);
  const int64_t v_stride = place(tree.v, int64_t{shape.heads_kv} * shape.dim_v, v);
  const int64_t out_stride = place({}, int64_t{shape.heads} * shape.dim_v, out);
  const int64_t hidden_stride = place(tree.hidden, shape.hidden, hidden);
  std::vector<float> extra(static_cast<size_t>(rows * shape.heads_kv * mechanism.layout().dim_extra), kNan);
  const SegmentRows segment{.state = &state,
                            .rows = rows,
                            .parent = parent.data(),
                            .depth = depth.data(),
                            .chain = chain,
                            .q = q.data() + placement.offset,
                            .k = k.data() + placement.offset,
                            .v = v.data() + placement.offset,
                            .q_stride = q_stride,
                            .k_stride = k_stride,
                            .v_stride = v_stride,
                            .out = out.data() + placement.offset,
                            .out_stride = out_stride,
                            .hidden = hidden.data() + placement.offset,
                            .hidden_stride = hidden_stride,
                            .span = span.span,
                            .keys = span.keys,
                            .bias = span.bias,
                            .extra = extra.data()};
  ThreadPool pool(threads);
  Arena arena;
  // All that attend() asks for, and some more.
  const int64_t tiles = mechanism.past_tiles(segment) * mechanism.tile_floats(segment);
  const int64_t floats = shape.heads_kv * (mechanism.prepared_floats(segment) + tiles + 2 * kPanel) +
                         threads * (mechanism.scratch_floats(segment) + 2 * kPanel) + 4096;
  std::fill_n(arena.floats(floats), floats, kNan);
  arena.reset();
  attend(kernels, pool, arena, mechanism, {&segment, 1});
  std::vector<std::vector<float>> result;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = segment.out + r * out_stride;
    result.emplace_back(row, row + int64_t{shape.heads} * shape.dim_v);
  }
  return result;
}

// The path to `node` behind the first `length` rows of `past`, as one sequence.
inline plain::Sequence path_sequence(const plain::Sequence& past, int64_t length, const plain::Sequence& tree,
                                     const std::vector<int32_t>& parent, int32_t node) {
  std::vector<int32_t> path;
  for (int32_t n = node; n >= 0; n = parent[static_cast<size_t>(n)]) path.insert(path.begin(), n);
  plain::Sequence whole;
  const auto gather = [&](const auto& from, const auto& rows, auto& to) {
    to.assign(from.begin(), from.begin() + length);
    for (const int32_t n : path) to.push_back(rows[static_cast<size_t>(n)]);
  };
  if (!tree.hidden.empty()) gather(past.hidden, tree.hidden, whole.hidden);
  gather(past.q, tree.q, whole.q);
  gather(past.k, tree.k, whole.k);
  gather(past.v, tree.v, whole.v);
  return whole;
}

inline double worst(const std::vector<float>& got, const std::vector<double>& expected) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(double{got[i]} - expected[i]);
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
  }
  return worst;
}

}  // namespace espalier::testing
