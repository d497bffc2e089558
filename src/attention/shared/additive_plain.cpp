#include <algorithm>
#include <cmath>
#include <numbers>

#include "attention/flash/flash.h"
#include "attention/shared/plain.h"
#include "attention/shared/random_maps.h"
#include "attention/transnormer/transnormer.h"

namespace espalier::plain {
namespace {

using Features = std::vector<double>;

double length(const float* x, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += double{x[i]} * x[i];
  return std::sqrt(sum);
}

// y = W x, W [outputs][dim]
Features product(const float* weight, const Features& x, int64_t outputs) {
  Features y(static_cast<size_t>(outputs), 0.0);
  for (size_t o = 0; o < y.size(); ++o) {
    for (size_t i = 0; i < x.size(); ++i) y[o] += weight[o * x.size() + i] * x[i];
  }
  return y;
}

// What phi is taken of: query or key of a head at a position.
struct Input {
  const AttentionSpec& spec;
  const Parameters& parameters;
  const Head& head;
  int64_t position;
  bool is_query;

  int dim() const { return head.shape.dim_k; }
  const float* x() const { return is_query ? head.q(position) : head.k(position); }
};

Features elu_plus_one(const Input& in) {
  Features phi;
  for (int i = 0; i < in.dim(); ++i) phi.push_back(in.x()[i] > 0 ? in.x()[i] + 1.0 : std::exp(double{in.x()[i]}));
  return phi;
}

Features relu(const Input& in) {
  Features phi;
  for (int i = 0; i < in.dim(); ++i) phi.push_back(std::max(double{in.x()[i]}, 0.0));
  return phi;
}

Features angular(const Input& in) {
  Features phi = {std::sqrt(0.5)};
  const double norm = std::max(length(in.x(), in.dim()), double{kMinNorm});
  for (int i = 0; i < in.dim(); ++i) phi.push_back(in.x()[i] / norm / std::sqrt(std::numbers::pi));
  return phi;
}

Features cosformer(const Input& in) {
  const double n = static_cast<double>(in.spec.integer("length", 0, 0, int64_t{1} << 30));
  const double angle = std::numbers::pi / 2 * static_cast<double>(in.position + 1) / n;
  Features phi;
  for (const double factor : {std::sin(angle), std::cos(angle)}) {
    for (const double value : relu(in)) phi.push_back(value * factor);
  }
  return phi;
}

Features performer(const Input& in) {
  const PerformerOptions options = PerformerOptions::of(in.spec, in.head.shape);
  Features scaled;
  for (int i = 0; i < in.dim(); ++i) scaled.push_back(in.x()[i] * std::pow(static_cast<double>(in.dim()), -0.25));
  double squares = 0;
  for (const double x : scaled) squares += x * x;
  Features phi;
  for (const double sign : {1.0, -1.0}) {
    if (sign < 0 && !options.hyperbolic) continue;
    for (const double u : product(in.parameters[0].data(), scaled, options.directions)) {
      phi.push_back(std::exp(sign * u - squares / 2) / std::sqrt(static_cast<double>(options.features)));
    }
  }
  return phi;
}

Features rfa(const Input& in) {
  const int64_t directions = in.spec.integer("features", in.dim(), 1, 4096);
  const int kv_head = in.head.kv_head();
  Features scaled;
  for (int i = 0; i < in.dim(); ++i) {
    const double sigma = in.parameters[1][static_cast<size_t>(kv_head * in.dim() + i)];
    scaled.push_back(sigma * in.x()[i] / (length(in.x(), in.dim()) + kRfaNorm));
  }
  const Features u = product(in.parameters[0].data() + kv_head * directions * in.dim(), scaled, directions);
  Features phi;
  for (const double x : u) phi.push_back(kRfaScale * std::sin(x));
  for (const double x : u) phi.push_back(kRfaScale * std::cos(x));
  return phi;
}

Features hedgehog_of(const Input& in) {
  const AttentionShape& shape = in.head.shape;
  return in.is_query ? hedgehog(in.x(), in.parameters[0], in.head.head, shape.heads, in.dim())
                     : hedgehog(in.x(), in.parameters[1], in.head.kv_head(), shape.heads_kv, in.dim());
}

struct Kind {
  const char* name;
  Features (*phi)(const Input&);
  double (*denominator)(double);
};

constexpr Kind kKinds[] = {
    {"linear", elu_plus_one, [](double x) { return x + 1e-6; }},
    {"relu", relu, [](double x) { return x + 1e-15; }},
    {"angular", angular, [](double x) { return std::max(x, 1e-6); }},
    {"cosformer", cosformer, [](double x) { return std::max(x, 1e-6); }},
    {"performer", performer, [](double x) { return x + 1e-6; }},
    {"rfa", rfa, [](double x) { return std::max(x, 1.0); }},
    {"hedgehog", hedgehog_of, [](double x) { return x + 1e-12; }},
    {"transnormer", elu_plus_one, [](double) { return 1.0; }},
};

}  // namespace

bool additive(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, int64_t end,
              double* out) {
  for (const Kind& form : kKinds) {
    if (spec.name() != form.name) continue;
    const Features query = form.phi({spec, parameters, head, t, true});
    std::vector<double> weights;
    double sum = 0;
    for (int64_t s = 0; s < end; ++s) {
      const Features key = form.phi({spec, parameters, head, s, false});
      double weight = 0;
      for (size_t m = 0; m < key.size(); ++m) weight += query[m] * key[m];
      weights.push_back(weight);
      sum += weight;
    }
    for (int64_t s = 0; s < end; ++s) {
      head.add_v(s, weights[static_cast<size_t>(s)] / form.denominator(sum), out);
    }
    return true;
  }
  return false;
}

// Layers of the first half: softmax over t's group.
void transnormer(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  if (!is_diagonal_layer(head.shape)) {
    additive(spec, parameters, head, t, t + 1, out);
    return;
  }
  const int64_t group = spec.integer("group", 64, kMinGroup, kMaxGroup);
  const double scale = 1.0 / std::sqrt(static_cast<double>(head.shape.dim_k));
  double sum = 0;
  for (int64_t s = t / group * group; s <= t; ++s) sum += std::exp(head.dot(t, s) * scale);
  for (int64_t s = t / group * group; s <= t; ++s) head.add_v(s, std::exp(head.dot(t, s) * scale) / sum, out);
}

}  // namespace espalier::plain
