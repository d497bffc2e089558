#include "training/losses.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace espalier {
namespace {

constexpr int64_t kLogitRows = 128;

TrainContext context_of(const Student& model, bool student, const at::Tensor& tokens) {
  return {model.config(), student ? model.student_attention() : model.teacher_attention(), tokens.size(0),
          tokens.size(1)};
}

// Calls body(layer index, input of its attention block, teacher's output of it) along the teacher's forward.
template <class Body>
void along_teacher(const Student& model, const at::Tensor& tokens, Body&& body) {
  const at::NoGradGuard no_grad;
  TrainContext context = context_of(model, false, tokens);
  const TrainModel& teacher = model.teacher();
  at::Tensor x = teacher.embed(context, tokens);
  for (int64_t l = 0; l < teacher.layers(); ++l) {
    const at::Tensor y = teacher.attention(context, l, x);
    body(l, x, y);
    x = teacher.rest(context, l, x, y);
  }
}

// Last hidden states, [B * T, d].
at::Tensor hidden_states(const Student& model, bool student, const at::Tensor& tokens) {
  TrainContext context = context_of(model, student, tokens);
  return (student ? model.student() : model.teacher()).output(context, tokens, Output::kHidden);
}

// mean((got - expected)^2) / mean(expected^2).
at::Tensor relative_error(const at::Tensor& got, const at::Tensor& expected) {
  return (got - expected).square().mean() / expected.square().mean();
}

}  // namespace

double transfer_backward(Student& model, const at::Tensor& tokens) {
  TrainContext context = context_of(model, true, tokens);
  double total = 0.0;
  along_teacher(model, tokens, [&](int64_t l, const at::Tensor& x, const at::Tensor& expected) {
    const at::AutoGradMode with_grad(true);
    const at::Tensor y = model.student().attention(context, l, x);
    at::Tensor loss = relative_error(y, expected);
    loss.backward();
    total += loss.item<double>();
  });
  return total / static_cast<double>(model.teacher().layers());
}

void search_tau(Student& model, const at::Tensor& tokens, const std::vector<double>& candidates) {
  TrainContext context = context_of(model, true, tokens);
  const ModelConfig& config = model.config();
  along_teacher(model, tokens, [&](int64_t l, const at::Tensor& x, const at::Tensor&) {
    at::Tensor* tau = model.mechanism_parameter(l, "linear.tau");
    if (!tau) return;
    const auto [h, q, k, v] = model.teacher().projections(context, l, x);
    const TrainRows rows = context.rows_of(h, q, k, v);
    const auto heads = [&](const TrainAttention& attention) {
      return attention.mechanism->parallel(rows, attention.parameters);
    };
    const at::Tensor expected = heads(model.teacher_attention()[static_cast<size_t>(l)]);
    at::Tensor best = at::full({config.num_attention_heads}, HUGE_VAL),
               chosen = at::zeros({config.num_attention_heads});
    for (const double candidate : candidates) {
      tau->fill_(candidate);
      const at::Tensor error =
          (heads(model.student_attention()[static_cast<size_t>(l)]) - expected).square().mean({0, 2, 3});  // [H]
      chosen = at::where(error < best, at::full_like(chosen, candidate), chosen);
      best = at::minimum(error, best);
    }
    tau->copy_(chosen);
  });
}

double distill_backward(Student& model, const at::Tensor& tokens, DistillLoss loss) {
  at::Tensor expected;
  if (loss != DistillLoss::kCrossEntropy) {
    const at::NoGradGuard no_grad;
    expected = hidden_states(model, false, tokens);
  }
  const at::Tensor hidden = hidden_states(model, true, tokens);
  if (loss == DistillLoss::kHidden) {
    at::Tensor error = relative_error(hidden, expected);
    error.backward();
    return error.item<double>();
  }
  const at::Tensor detached = hidden.detach();
  at::Tensor gradient = at::zeros_like(detached);
  double total = 0.0;
  {
    const at::NoGradGuard no_grad;
    const TrainMatrix& head = model.student().head();
    const int64_t length = tokens.size(1), rows = detached.size(0);
    // With cross-entropy the last position of a row has no next token.
    const int64_t scored = loss == DistillLoss::kKl ? rows : rows - tokens.size(0);
    for (int64_t begin = 0; begin < rows; begin += kLogitRows) {
      const int64_t count = std::min(kLogitRows, rows - begin);
      at::Tensor log_p = at::linear(detached.narrow(0, begin, count), head.weight, head.bias).log_softmax(-1);
      at::Tensor difference;
      if (loss == DistillLoss::kKl) {
        const at::Tensor log_t = at::linear(expected.narrow(0, begin, count), head.weight, head.bias).log_softmax(-1);
        const at::Tensor p_t = log_t.exp();
        total += (p_t * (log_t - log_p)).sum().item<double>();
        difference = log_p.exp_().sub_(p_t);
      } else {
        const at::Tensor position = at::arange(begin, begin + count) % length;
        const at::Tensor next =
            tokens.reshape(-1).index_select(0, (at::arange(begin, begin + count) + 1).clamp_max(rows - 1));
        const at::Tensor valid = (position + 1 < length).to(at::kFloat).unsqueeze(1);
        total -= (log_p.gather(1, next.unsqueeze(1)) * valid).sum().item<double>();
        difference = log_p.exp_();
        difference.scatter_add_(1, next.unsqueeze(1), at::full({count, 1}, -1.0f));
        difference.mul_(valid);
      }
      gradient.narrow(0, begin, count).copy_(at::matmul(difference, head.weight).div_(static_cast<double>(scored)));
    }
    total /= static_cast<double>(scored);
  }
  hidden.backward(gradient);
  return total;
}

double HeldOutLoss::perplexity() const {
  return std::exp(nll / static_cast<double>(tokens));
}

HeldOutLoss held_out_loss(const Student& model, bool student, const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  HeldOutLoss result;
  const auto& weights = student ? model.student() : model.teacher();
  for (int64_t row = 0; row < rows.size(0); ++row) {
    const at::Tensor tokens = rows.narrow(0, row, 1);
    const at::Tensor hidden = hidden_states(model, student, tokens);
    const int64_t scored = tokens.size(1) - 1;
    for (int64_t begin = 0; begin < scored; begin += kLogitRows) {
      const int64_t count = std::min(kLogitRows, scored - begin);
      const at::Tensor log_p =
          at::linear(hidden.narrow(0, begin, count), weights.head().weight, weights.head().bias).log_softmax(-1);
      const at::Tensor next = tokens.reshape(-1).narrow(0, begin + 1, count).unsqueeze(1);
      result.nll -= log_p.gather(1, next).sum().item<double>();
    }
    result.tokens += scored;
  }
  return result;
}

double held_out_error(const Student& model, const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  double sum = 0.0;
  for (int64_t row = 0; row < rows.size(0); ++row) {
    const at::Tensor tokens = rows.narrow(0, row, 1);
    sum += relative_error(hidden_states(model, true, tokens), hidden_states(model, false, tokens)).item<double>();
  }
  return sum / static_cast<double>(rows.size(0));
}

}  // namespace espalier
