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

// phi, step half. `x` is a query or a key after rotary; phi [M].
class FeatureMap {
 public:
  virtual ~FeatureMap() = default;
  virtual int64_t features() const = 0;  // M
  virtual std::vector<ParameterInfo> parameters() const { return {}; }
  virtual void load(const std::vector<std::vector<float>>& values) { (void)values; }
  virtual int64_t max_length() const { return 0; }  // as in Capabilities
  virtual void query(const Kernels& kernels, const float* x, int head, int64_t position, float* phi) const = 0;
  virtual void key(const Kernels& kernels, const float* x, int kv_head, int64_t position, float* phi) const = 0;
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

// The mechanism that a SPEC names, over closed groups: the global part of augmented(). Throws InvalidArgument for one
// whose state is not a sum.
std::unique_ptr<Mechanism> make_closed_groups(const AttentionSpec& spec, const AttentionShape& shape, int64_t group);

// Rows of a fold block where no group says otherwise.
inline constexpr int64_t kFoldBlock = 16;

}  // namespace espalier
