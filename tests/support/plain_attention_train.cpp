#include "support/plain_attention_train.h"

#include <ATen/ATen.h>

#include <cmath>
#include <functional>
#include <limits>

#include "attention/spec.h"

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

at::Tensor global(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t group,
                  const std::string& scale) {
  const int64_t tokens = q.size(2);
  const at::Tensor mask = visible(tokens, [&](int64_t t, int64_t s) { return s / group < t / group; });
  const at::Tensor closed = mask.sum(-1, true).clamp_min(static_cast<double>(group));
  const at::Tensor rows = scale == "count"    ? closed
                          : scale == "groups" ? closed / static_cast<double>(group)
                                              : at::ones_like(mask);
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

at::Tensor elu_plus_one(const at::Tensor& x) {
  return at::elu(x) + 1;
}

// An additive mechanism's features of queries and keys, k repeated to all heads already.
std::pair<at::Tensor, at::Tensor> features(const AttentionSpec& spec, const at::Tensor& q, const at::Tensor& k,
                                           const std::vector<at::Tensor>& parameters) {
  const auto both = [&](const auto& map) { return std::pair<at::Tensor, at::Tensor>(map(q), map(k)); };
  const auto of_heads = [&](const at::Tensor& x) { return repeated(x.unsqueeze(0), q.size(1))[0]; };
  const double dim = static_cast<double>(q.size(3));
  const std::string name = spec.name();
  if (name == "linear" || name == "transnormer") return both(elu_plus_one);
  if (name == "relu") return both([](const at::Tensor& x) { return x.relu(); });
  if (name == "angular") {
    return both([](const at::Tensor& x) {
      return at::cat({at::full_like(x.narrow(-1, 0, 1), std::sqrt(0.5)), unit(x) / std::sqrt(M_PI)}, -1);
    });
  }
  if (name == "cosformer") {
    const at::Tensor angle =
        (at::arange(1, q.size(2) + 1, at::kDouble) / spec.integer("length", 0, 1, 1 << 20) * M_PI / 2);
    return both([&](const at::Tensor& x) {
      return at::cat({x.relu() * angle.sin().unsqueeze(-1), x.relu() * angle.cos().unsqueeze(-1)}, -1);
    });
  }
  if (name == "performer") {
    const bool hyperbolic = spec.value("form", "positive") == "hyperbolic";
    return both([&](const at::Tensor& x) {
      const at::Tensor scaled = x / std::pow(dim, 0.25), u = at::matmul(scaled, parameters[0].t());
      const at::Tensor half = scaled.square().sum(-1, true) / 2;
      const at::Tensor phi = hyperbolic ? at::cat({(u - half).exp(), (-u - half).exp()}, -1) : (u - half).exp();
      return phi / std::sqrt(static_cast<double>(phi.size(-1)));
    });
  }
  if (name == "rfa") {
    return both([&](const at::Tensor& x) {
      const at::Tensor length = x.square().sum(-1, true).sqrt() + 1e-3;
      const at::Tensor scaled = x / length * of_heads(parameters[1]).unsqueeze(1);
      const at::Tensor u = at::matmul(scaled, of_heads(parameters[0]).transpose(-1, -2));
      return at::cat({u.sin(), u.cos()}, -1) * 0.1;
    });
  }
  return {hedgehog(q, parameters[0]), hedgehog(k, of_heads(parameters[1]))};
}

at::Tensor additive(const AttentionSpec& spec, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const std::vector<at::Tensor>& parameters, const at::Tensor& mask) {
  const auto [phi_q, phi_k] = features(spec, q, k, parameters);
  const at::Tensor weight = at::matmul(phi_q, phi_k.transpose(-1, -2)) * mask, sum = weight.sum(-1, true);
  const at::Tensor y = at::matmul(weight, v);
  if (spec.name() == "linear" || spec.name() == "performer") return y / (sum + 1e-6);
  if (spec.name() == "relu") return y / (sum + 1e-15);
  if (spec.name() == "hedgehog") return y / (sum + 1e-12);
  if (spec.name() == "angular" || spec.name() == "cosformer") return y / sum.clamp_min(1e-6);
  if (spec.name() == "rfa") return y / sum.clamp_min(1.0);
  return y;
}

at::Tensor over_rms(const at::Tensor& y) {
  const double size = static_cast<double>(y.size(1) * y.size(3));
  return y / ((y.square().sum(at::IntArrayRef{1, 3}, true) / size).sqrt() + 1e-8);
}

// Each channel of x [B, X, T, D] by its filter of weight [X D, W], as a library's grouped convolution.
at::Tensor filtered(const AttentionSpec& spec, const at::Tensor& x, const at::Tensor& weight) {
  const int64_t tokens = x.size(2), channels = weight.size(0), taps = weight.size(1);
  const at::Tensor rows = x.transpose(2, 3).reshape({x.size(0), channels, tokens});
  const at::Tensor y = at::conv1d(rows, weight.unsqueeze(1), {}, 1, taps - 1, 1, channels).narrow(2, 0, tokens);
  const at::Tensor active = spec.value("activation", "silu") == "silu" ? y / (1 + (-y).exp()) : y;
  return active.view({x.size(0), x.size(1), x.size(3), tokens}).transpose(2, 3);
}

// Mechanisms that forget, token by token.
at::Tensor recurrent(const AttentionSpec& spec, const TrainRows& all, const std::vector<at::Tensor>& parameters) {
  TrainRows rows = all;
  if (spec.value("conv", "0") != "0") {
    rows.q = filtered(spec, all.q, parameters[3]);
    rows.k = filtered(spec, all.k, parameters[4]);
    rows.v = filtered(spec, all.v, parameters[5]);
  }
  const at::Tensor k = repeated(rows.k, rows.q.size(1)), v = repeated(rows.v, rows.q.size(1));
  const int64_t heads = rows.q.size(1), heads_kv = rows.k.size(1), dim = k.size(3), tokens = k.size(2);
  const bool delta = spec.name() == "gated_delta";
  const at::Tensor keys = delta ? unit(k) : k, queries = delta ? unit(rows.q) : rows.q;
  at::Tensor log, beta;  // [B, H, T, D or 1]
  if (spec.name() == "retention") {
    at::Tensor h = at::arange(heads_kv, at::kDouble);
    const bool retnet = spec.value("decay", "retnet") == "retnet";
    const at::Tensor per_head = retnet ? (1 - at::pow(2.0, -5 - h)).log() : h * (-8.0 / static_cast<double>(heads_kv));
    log = repeated(per_head.view({1, -1, 1, 1}).expand({k.size(0), heads_kv, tokens, 1}), heads);
  } else {
    const at::Tensor z = (at::matmul(rows.hidden, parameters[0].t()) + parameters[1])
                             .view({k.size(0), tokens, heads_kv, -1})
                             .transpose(1, 2);
    if (delta) {
      beta = repeated(1 / (1 + (-z.narrow(3, 0, 1)).exp()), heads);
      log = repeated(-parameters[2].exp().view({1, -1, 1, 1}) * (1 + z.narrow(3, 1, 1).exp()).log(), heads);
    } else {
      log = repeated(-(1 + (-z).exp()).log() / 16, heads);
    }
  }
  at::Tensor state = at::zeros({k.size(0), heads, dim, v.size(3)}, at::kDouble);
  std::vector<at::Tensor> outputs;
  for (int64_t t = 0; t < tokens; ++t) {
    const at::Tensor key = keys.select(2, t).unsqueeze(-1);  // [B, H, D, 1]
    state = state * log.select(2, t).exp().unsqueeze(-1);
    at::Tensor value = v.select(2, t).unsqueeze(-2);  // [B, H, 1, Dv]
    if (delta) value = beta.select(2, t).unsqueeze(-1) * (value - at::matmul(key.transpose(-1, -2), state));
    state = state + at::matmul(key, value);
    outputs.push_back(at::matmul(queries.select(2, t).unsqueeze(-2), state).squeeze(-2));
  }
  const at::Tensor y = at::stack(outputs, 2) / std::sqrt(static_cast<double>(dim));
  if (spec.value("norm", "head") == "none") return y;
  return y / (y.square().mean(-1, true) + 1e-5).sqrt() * parameters.back().unsqueeze(1);
}

at::Tensor gau(const AttentionSpec& spec, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
               const std::vector<at::Tensor>& parameters) {
  const int64_t group = spec.integer("group", 256, 1, 4096), near = q.size(3) / 2, tokens = q.size(2);
  const std::string parts = spec.value("parts", "both");
  const at::Tensor same = visible(tokens, [&](int64_t t, int64_t s) { return s / group == t / group; });
  const at::Tensor closed = visible(tokens, [&](int64_t t, int64_t s) { return s / group < t / group; });
  const auto products = [&](int64_t first, int64_t half) {
    return at::matmul(q.narrow(3, first, half), k.narrow(3, first, half).transpose(-1, -2)) / group;
  };
  at::Tensor out = at::zeros_like(v);
  if (parts != "global") {
    const at::Tensor score = products(0, near);
    const at::Tensor weight = spec.value("activation", "laplace") == "relu2"
                                  ? score.relu() * score.relu()
                                  : 0.5 + 0.5 * at::erf((score - std::sqrt(0.5)) * std::sqrt(2.0 * M_PI));
    out = out + at::matmul(weight * same, v);
  }
  if (parts != "local") out = out + at::matmul(products(near, q.size(3) - near) * closed, v);
  if (spec.value("castling", "no") == "yes") {
    out = 0.5 * v + out / M_PI;
    out = out / out.square().sum(-1, true).sqrt();
  }
  return spec.value("taps", "32") == "0" ? out : out + conv(v, parameters[0]);
}

}  // namespace

at::Tensor plain_attention(const std::string& text, const TrainRows& rows, const std::vector<at::Tensor>& parameters) {
  const AttentionSpec spec = AttentionSpec::parse(text);
  const at::Tensor& q = rows.q;
  const at::Tensor k = repeated(rows.k, q.size(1)), v = repeated(rows.v, q.size(1));
  const int64_t group = spec.integer("group", 64, 1, 4096), taps = spec.integer("taps", 32, 0, 4096);
  const std::string scale = spec.value("scale", "count");
  if (spec.name() == "softmax") {
    const at::Tensor score = at::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor mask = visible(q.size(2), [](int64_t, int64_t) { return true; });
    const at::Tensor weight = score.masked_fill(mask == 0, -std::numeric_limits<double>::infinity()).softmax(-1);
    return at::matmul(weight, v);
  }
  if (spec.name() == "flash_local") return local(q, k, v, group, spec.value("local", "blocked") == "terraced");
  if (spec.name() == "flash_global") return global(q, k, v, group, scale);
  if (spec.name() == "conv") return conv(v, parameters[0]);
  if (spec.name() == "augmented") {
    at::Tensor sum = at::zeros_like(q);
    const std::string part = spec.value("local", "blocked");
    if (part != "none") sum = sum + local(q, k, v, group, part == "terraced");
    const AttentionSpec part_x = AttentionSpec::parse(spec.value("global", "flash_global"));
    if (part_x.name() == "flash_global") {
      sum = sum + parameters[0] * global(q, k, v, group, scale);
    } else if (part_x.name() != "none") {
      const at::Tensor closed = visible(q.size(2), [&](int64_t t, int64_t s) { return s / group < t / group; });
      sum = sum + parameters[0] * additive(part_x, q, k, v, {parameters.begin() + 1, parameters.end()}, closed);
    }
    if (taps > 0) sum = sum + conv(v, parameters.back());
    return part_x.name() == "transnormer" ? over_rms(sum) : sum;
  }
  if (spec.name() == "flash") {
    return local(q, k, v, group, spec.value("local", "blocked") == "terraced") + global(q, k, v, group, scale);
  }
  if (spec.name() == "lolcats") {
    const at::Tensor mixed = lolcats(spec, spec.value("linear", "hedgehog") != "none", q, k, v, parameters);
    return taps > 0 ? mixed + conv(v, parameters.back()) : mixed;
  }
  if (spec.name() == "window") {
    const at::Tensor mixed = lolcats(spec, false, q, k, v, parameters);
    return spec.integer("taps", 0, 0, 4096) > 0 ? mixed + conv(v, parameters.back()) : mixed;
  }
  for (const char* name : {"retention", "gla", "gated_delta"}) {
    if (spec.name() == name) return recurrent(spec, rows, parameters);
  }
  if (spec.name() == "gau") return gau(spec, q, k, v, parameters);
  if (spec.name() == "linformer") {
    const int64_t rank = spec.integer("rank", 16, 1, 4096), tokens = q.size(2), closed = tokens / group;
    const auto summaries = [&](const at::Tensor& x, const at::Tensor& weight) {
      const at::Tensor whole = x.narrow(2, 0, closed * group).reshape({x.size(0), x.size(1), closed, group, x.size(3)});
      const at::Tensor of_heads = repeated(weight.unsqueeze(0), q.size(1))[0];
      return at::matmul(of_heads.unsqueeze(1), whole).flatten(2, 3);
    };
    const at::Tensor keys = at::cat({summaries(k, parameters[0]), k}, 2);
    const at::Tensor values = at::cat({summaries(v, parameters[1]), v}, 2);
    at::Tensor mask = at::zeros({tokens, closed * rank + tokens}, at::kDouble);
    auto at_row = mask.accessor<double, 2>();
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t s = 0; s < closed * rank; ++s) at_row[t][s] = s / rank <= t / group - 2;
      for (int64_t s = 0; s <= t; ++s) at_row[t][closed * rank + s] = s / group >= t / group - 1;
    }
    const at::Tensor score = at::matmul(q, keys.transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(3)));
    return at::matmul(score.masked_fill(mask == 0, -std::numeric_limits<double>::infinity()).softmax(-1), values);
  }
  if (spec.name() == "yoso") {
    const int64_t bits = spec.integer("bits", 8, 1, 16), hashes = spec.integer("hashes", 5, 1, 64);
    const at::Tensor expected =
        (1 - (0.98 * at::matmul(unit(q), unit(k).transpose(-1, -2)).clamp(-1, 1)).acos() / M_PI).pow(bits);
    at::Tensor hits = at::zeros_like(expected.detach());
    for (int64_t j = 0; j < hashes; ++j) {
      at::Tensor same = at::ones_like(hits);
      for (int64_t i = 0; i < bits; ++i) {
        const at::Tensor w = repeated(parameters[0].detach().select(1, j).select(1, i).unsqueeze(0), q.size(1))[0];
        const auto sign = [&](const at::Tensor& x) { return (x.detach() * w.unsqueeze(1)).sum(-1) > 0; };
        same = same * sign(q).unsqueeze(-1).eq(sign(k).unsqueeze(-2)).to(at::kDouble);
      }
      hits = hits + same / static_cast<double>(hashes);
    }
    const at::Tensor older = visible(q.size(2), [&](int64_t t, int64_t s) { return s / group < t / group; });
    const at::Tensor past = visible(q.size(2), [](int64_t, int64_t) { return true; });
    // The hashes' value with the expectation's gradient.
    const at::Tensor value = older * hits + (1 - older) * expected.detach();
    const at::Tensor raw = at::matmul((value + expected - expected.detach()) * past, v);
    return raw / raw.square().sum(-1, true).sqrt().clamp_min(1e-12);
  }
  if (spec.name() == "hybrid") {
    const at::Tensor far =
        recurrent(AttentionSpec::parse("gated_delta"), rows, {parameters.begin() + 1, parameters.end()});
    return lolcats(spec, false, q, k, v, {}) + parameters[0].view({1, -1, 1, 1}) * far;
  }
  // transnormer: a layer of the second half, as of a model of one layer.
  const at::Tensor past = visible(q.size(2), [](int64_t, int64_t) { return true; });
  if (spec.name() == "transnormer") return over_rms(additive(spec, q, k, v, parameters, past));
  for (const char* name : {"linear", "relu", "angular", "cosformer", "performer", "rfa", "hedgehog"}) {
    if (spec.name() == name) return additive(spec, q, k, v, parameters, past);
  }
  return {};
}

}  // namespace espalier::testing
