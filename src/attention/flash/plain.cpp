#include "attention/flash/plain.h"

#include <algorithm>
#include <cstdlib>

#include "attention/augmented/plain.h"

namespace espalier::plain {

// y_t = sum_{s<=t, g(s)=g(t)} (relu(q^_t.k^_s)^2 + bias(s - t)) v_s; terraced: g(s) >= g(t) - 1. Of a span s has no
// end, and terraced is |g(s) - g(t)| <= 1.
void flash_local(const FlashLocalOptions& options, const Head& head, int64_t t, double* out) {
  const int64_t group = options.group, back = options.terraced ? 1 : 0;
  for (int64_t s = 0; s < head.seen_end(t); ++s) {
    if (std::abs(s / group - t / group) > back) continue;
    const double weight = std::max(head.unit_dot(t, s), 0.0);
    head.add_v(s, weight * weight + (head.bias.values ? head.bias.of(head.head, s - t) : 0.0), out);
  }
}

// y_t = q^_t . sum_{g(s)<g(t)} k^_s v_s^T / c_t,  c_t = max(g(t) G, G) or 1; of a span over all rows
void flash_global(const FlashGlobalOptions& options, const Head& head, int64_t t, double* out) {
  const int64_t group = options.group;
  const int64_t end = head.span ? head.seen_end(t) : t / group * group;
  const double groups = static_cast<double>(std::max<int64_t>(head.span ? (end + group - 1) / group : end / group, 1));
  const double all = head.span ? static_cast<double>(end) : groups * static_cast<double>(group);
  const double rows = options.scale == FlashScale::kCount ? all : options.scale == FlashScale::kGroups ? groups : 1.0;
  for (int64_t s = 0; s < end; ++s) head.add_v(s, head.unit_dot(t, s) / rows, out);
}

void flash_local(const AttentionOptions& options, const Parameters&, const Head& head, int64_t t, double* out) {
  flash_local(FlashLocalOptions::of(options), head, t, out);
}

void flash_global(const AttentionOptions& options, const Parameters&, const Head& head, int64_t t, double* out) {
  flash_global(FlashGlobalOptions::of(options), head, t, out);
}

// y = local + global
void flash(const AttentionOptions& options, const Parameters&, const Head& head, int64_t t, double* out) {
  augmented(flash_options(options), {{1.0f}}, head, t, out);
}

}  // namespace espalier::plain
