// Mechanisms whose state is a sum over rows of a feature map's outer products:
//
//   y_t = phi(q_t).S_t / d(phi(q_t).z_t)      S_t = sum_{s<=t} phi(k_s) v_s^T,  z_t = sum_{s<=t} phi(k_s)
//
// A mechanism of this kind is a FeatureMap and a Denominator; state, chunks and trees are the same for all of them.
// Of a span the sums run over all of its rows. Rows of the open block and of the one before stay rows and are weighed
// by phi(q_t).phi(k_s); older ones are in the fold. Inside augmented() the sums run over closed groups only: g(s) <
// g(t).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attention/operator.h"

namespace espalier {

// Rows that a map makes features of: queries or keys of one head after rotary.
struct MapRows {
  const float* x;  // [count][Dk], x_stride floats apart
  int64_t x_stride = 0;
  int64_t count = 1;
  int64_t first = 0;               // the position of row i is first + i,
  const int32_t* depth = nullptr;  // or, when given, first + depth[i]
  float* phi;                      // [count][M], phi_stride floats apart
  int64_t phi_stride = 0;

  const float* x_row(int64_t row) const { return x + row * x_stride; }
  float* phi_row(int64_t row) const { return phi + row * phi_stride; }
  int64_t position(int64_t row) const { return first + (depth ? depth[row] : row); }
};

// The keys of a fold's rows.
inline MapRows key_rows(const FoldRows& rows, float* phi, int64_t features) {
  return {.x = rows.k,
          .x_stride = rows.k_stride,
          .count = rows.count,
          .first = rows.first,
          .phi = phi,
          .phi_stride = features};
}

// phi, step half. A row's features do not depend on the rows beside it.
class FeatureMap {
 public:
  virtual ~FeatureMap() = default;
  virtual int64_t features() const = 0;  // M
  virtual std::vector<ParameterInfo> parameters() const { return {}; }
  virtual void load(const std::vector<std::vector<float>>& values) { (void)values; }
  virtual int64_t max_length() const { return 0; }  // as in Capabilities
  virtual void queries(const Kernels& kernels, const MapRows& rows, int head) const = 0;
  virtual void keys(const Kernels& kernels, const MapRows& rows, int kv_head) const = 0;
};

// The same map for queries and keys, every head and position; M = Dk, unless features() says otherwise.
class SharedMap : public FeatureMap {
 public:
  explicit SharedMap(int64_t dim) : dim_(dim) {}
  int64_t features() const override { return dim_; }
  void queries(const Kernels& kernels, const MapRows& rows, int) const override { map_all(kernels, rows); }
  void keys(const Kernels& kernels, const MapRows& rows, int) const override { map_all(kernels, rows); }

 protected:
  // phi [M] of x [Dk]
  virtual void map(const Kernels& kernels, const float* x, float* phi) const = 0;
  int64_t dim_;

 private:
  void map_all(const Kernels& kernels, const MapRows& rows) const {
    for (int64_t row = 0; row < rows.count; ++row) map(kernels, rows.x_row(row), rows.phi_row(row));
  }
};

// d(x): 1, x + value or max(x, value).
struct Denominator {
  enum Kind { kNone, kPlus, kAtLeast } kind = kNone;
  float value = 0.0f;

  float of(float x) const { return kind == kNone ? 1.0f : kind == kPlus ? x + value : x > value ? x : value; }
};

struct AdditiveForm {
  std::unique_ptr<FeatureMap> map;
  Denominator denominator;
  bool rms = false;  // the layer's norm over all heads: out / (|out| / sqrt(H Dv) + 1e-8)
};

// closed_group 0: all rows s <= t; else rows of groups before t's.
std::unique_ptr<Mechanism> make_additive(AdditiveForm form, const AttentionShape& shape, int64_t closed_group = 0);

// phi [count][outputs] = x W for all rows, W [inputs][outputs]; the rest of phi stays as it is.
void apply_matrix(const Kernels& kernels, const MapRows& rows, const float* weight, int64_t inputs, int64_t outputs);

// The mechanism that a SPEC names, over closed groups: the global part of augmented(). Throws InvalidArgument for one
// whose state is not a sum.
std::unique_ptr<Mechanism> make_closed_groups(const AttentionSpec& spec, const AttentionShape& shape, int64_t group);

// Rows of a fold block where no group says otherwise.
inline constexpr int64_t kFoldBlock = 16;

}  // namespace espalier
