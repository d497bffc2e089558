#include "decoding/drafters/likeliest.h"

namespace espalier {

void add_likeliest(const Kernels& kernels, const float* logits, int64_t n, double least, int64_t count, float* scratch,
                   std::vector<DraftChild>& out) {
  const float sum = kernels.exp_sum(logits, kernels.max(logits, n), n, scratch);
  const size_t first = out.size();
  for (int64_t i = 0; i < n; ++i) {
    const float probability = scratch[i] / sum;
    if (probability >= least) out.push_back({static_cast<int32_t>(i), probability});
  }
  keep_likeliest(out, first, static_cast<size_t>(count));
}

}  // namespace espalier
