#include "support/plain_attention_train.h"

#include <ATen/ATen.h>

#include <cmath>
#include <functional>
#include <limits>

#include "attention/spec.h"
#include "core/error.h"

namespace espalier::testing {
namespace {

// [T, T] of 0 and 1: may row t see row s?
at::Tensor visible(int64_t tokens, const std::function<bool(int64_t t, int64_t s)>& may) {
  at::Tensor mask = at::zeros({tokens, tokens}, at::kDouble);
  auto at_row = mask.accessor<double, 2>();
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t s = 0; s <= t; ++s) {
      if (may(t, s)) at_row[t][s] = 1.0;
    }
  }
  return mask;
}

at::Tensor unit(const at::Tensor& x) {
  return x / x.square().sum(-1, true).sqrt().clamp_min(1e-6);
}

at::Tensor repeated(const at::Tensor& x, int64_t heads) {
  return x.repeat_interleave(heads / x.size(1), 1);
}

at::Tensor local(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t group, bool terraced) {
  const at::Tensor mask = visible(q.size(2), [&](int64_t t, int64_t s) {
    return s / group == t / group || (terraced && s / group == t / group - 1);
  });
  const at::Tensor weight = at::matmul(unit(q), unit(k).transpose(-1, -2)).relu();
  return at::matmul(weight * weight * mask, v);
}

at::Tensor global(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t group, bool count) {
  const int64_t tokens = q.size(2);
  const at::Tensor mask = visible(tokens, [&](int64_t t, int64_t s) { return s / group < t / group; });
  const at::Tensor rows = count ? mask.sum(-1, true).clamp_min(static_cast<double>(group)) : at::ones_like(mask);
  return at::matmul(at::matmul(unit(q), unit(k).transpose(-1, -2)) * mask / rows, v);
}

at::Tensor conv(const at::Tensor& v, const at::Tensor& weight) {
  at::Tensor out = at::zeros_like(v);
  const int64_t taps = weight.size(1), tokens = v.size(2);
  for (int64_t j = 0; j < taps && j < tokens; ++j) {  // j rows back
    const at::Tensor back = at::constant_pad_nd(v.narrow(2, 0, tokens - j), {0, 0, j, 0});
    out = out + weight.select(1, taps - 1 - j).view({1, -1, 1, 1}) * back;
  }
  return out;
}

at::Tensor hedgehog(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor y = at::matmul(x, weight);
  return at::cat({y.softmax(-1), (-y).softmax(-1)}, -1).clamp_min(1e-12);
}

at::Tensor lolcats(const AttentionSpec& spec, bool linear, const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, const std::vector<at::Tensor>& parameters) {
  const int64_t group = spec.integer("group", 64, 1, 4096), sinks = spec.integer("sinks", 4, 0, 4096);
  const auto in_window = [&](int64_t t, int64_t s) { return s / group >= t / group - 1; };
  const at::Tensor window = visible(q.size(2), [&](int64_t t, int64_t s) { return in_window(t, s) || s < sinks; });
  const at::Tensor folded = visible(q.size(2), [&](int64_t t, int64_t s) { return !in_window(t, s) && s >= sinks; });
  at::Tensor score = at::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(3)));
  score = score.masked_fill(window == 0, -std::numeric_limits<double>::infinity());
  at::Tensor weight = (score - std::get<0>(score.max(-1, true))).exp();
  if (linear) {
    const at::Tensor feature_k = repeated(parameters[1].unsqueeze(0), q.size(1))[0];
    at::Tensor gate = (parameters[2].view({1, -1, 1}) + (q * parameters[3].unsqueeze(1)).sum(-1)).exp();
    const int64_t horizon = spec.integer("horizon", 0, 0, 1 << 20);
    if (horizon > 0) gate = gate * (horizon / folded.sum(-1)).clamp_max(1.0);  // 1 where nothing is folded
    const at::Tensor phi_q = hedgehog(q, parameters[0]), phi_k = hedgehog(k, feature_k);
    weight = weight + at::matmul(phi_q, phi_k.transpose(-1, -2)) * folded * gate.unsqueeze(-1);
  }
  return at::matmul(weight / weight.sum(-1, true), v);
}

}  // namespace

at::Tensor plain_attention(const std::string& text, const at::Tensor& q, const at::Tensor& k_rows,
                           const at::Tensor& v_rows, const std::vector<at::Tensor>& parameters) {
  const AttentionSpec spec = AttentionSpec::parse(text);
  const at::Tensor k = repeated(k_rows, q.size(1)), v = repeated(v_rows, q.size(1));
  const int64_t group = spec.integer("group", 64, 1, 4096), taps = spec.integer("taps", 32, 0, 4096);
  const bool count = spec.value("scale", "count") == "count";
  if (spec.name() == "softmax") {
    const at::Tensor score = at::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor mask = visible(q.size(2), [](int64_t, int64_t) { return true; });
    const at::Tensor weight = score.masked_fill(mask == 0, -std::numeric_limits<double>::infinity()).softmax(-1);
    return at::matmul(weight, v);
  }
  if (spec.name() == "flash_local") return local(q, k, v, group, spec.value("local", "blocked") == "terraced");
  if (spec.name() == "flash_global") return global(q, k, v, group, count);
  if (spec.name() == "conv") return conv(v, parameters[0]);
  if (spec.name() == "augmented") {
    at::Tensor sum = at::zeros_like(q);
    const std::string part = spec.value("local", "blocked");
    if (part != "none") sum = sum + local(q, k, v, group, part == "terraced");
    if (spec.value("global", "flash_global") != "none") sum = sum + parameters[0] * global(q, k, v, group, count);
    return taps > 0 ? sum + conv(v, parameters.back()) : sum;
  }
  if (spec.name() == "lolcats") {
    const at::Tensor mixed = lolcats(spec, spec.value("linear", "hedgehog") != "none", q, k, v, parameters);
    return taps > 0 ? mixed + conv(v, parameters.back()) : mixed;
  }
  if (spec.name() == "window") {
    const at::Tensor mixed = lolcats(spec, false, q, k, v, parameters);
    return spec.integer("taps", 0, 0, 4096) > 0 ? mixed + conv(v, parameters.back()) : mixed;
  }
  throw Internal(error_text("plain_attention", "a mechanism with a plain form", text));
}

}  // namespace espalier::testing
