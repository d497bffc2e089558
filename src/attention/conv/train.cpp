#include "attention/conv/train.h"

#include <ATen/ATen.h>

#include "attention/mechanism_train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {

// As banded matrices: chunks of C rows see themselves and the C rows before, which hold all W - 1 <= C earlier taps.
at::Tensor train_conv(const at::Tensor& v, const at::Tensor& weight, bool both_ways) {
  if (both_ways) {  // what looks back from so many rows later
    const int64_t ahead = weight.size(1) / 2;
    return train_conv(at::constant_pad_nd(v, {0, 0, 0, ahead}), weight).narrow(2, ahead, v.size(2));
  }
  const int64_t heads = weight.size(0), taps = weight.size(1), chunk = std::max<int64_t>(64, taps);
  // lag[i][c] = rows between output row i of a chunk and column c of [chunk before, chunk]
  const at::Tensor row = at::arange(chunk).unsqueeze(1) + chunk, column = at::arange(2 * chunk).unsqueeze(0);
  const at::Tensor lag = row - column;
  const at::Tensor index = at::where((lag >= 0).logical_and(lag < taps), taps - 1 - lag, at::full_like(lag, taps));
  const at::Tensor padded = at::constant_pad_nd(weight, {0, 1});  // [H, W + 1]
  const at::Tensor band = padded.index_select(1, index.reshape(-1)).view({heads, 1, chunk, 2 * chunk});
  const at::Tensor chunks = grouped(v, chunk);                                              // [B, Hk, n, C, D]
  const at::Tensor both = per_query_head(at::cat({shifted(chunks, 1), chunks}, 3), heads);  // [B, H, n, 2C, D]
  return ungrouped(at::matmul(band, both), v.size(2));
}

namespace {

class TrainConv : public TrainMechanism {
 public:
  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    const at::Tensor& v = rows.v;
    return train_conv(v, parameters[0], rows.span);
  }
};

}  // namespace

TrainHalf conv_train() {
  return {.make = [](const AttentionOptions&, const AttentionShape&) { return std::make_unique<TrainConv>(); }};
}

}  // namespace espalier
