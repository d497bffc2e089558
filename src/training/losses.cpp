#include "training/losses.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace espalier {
namespace {

constexpr int64_t kLogitRows = 128;

const at::Tensor& head_of(const LlamaWeights<TrainContext>& weights) {
  return weights.head ? weights.head->weight : weights.embed.weight;
}

TrainContext context_of(const Student& model, bool student, const at::Tensor& tokens) {
  return {model.config(), student ? model.student_attention() : model.teacher_attention(), tokens.size(0),
          tokens.size(1)};
}

// Calls body(layer index, input of its attention block, teacher's output of it) along the teacher's forward.
template <class Body>
void along_teacher(const Student& model, const at::Tensor& tokens, Body&& body) {
  const at::NoGradGuard no_grad;
  TrainContext context = context_of(model, false, tokens);
  const ModelConfig& config = model.config();
  at::Tensor x = context.embed(model.teacher().embed, tokens);
  for (size_t l = 0; l < model.teacher().layers.size(); ++l) {
    const auto& layer = model.teacher().layers[l];
    const at::Tensor y = llama_attention(context, config, layer, static_cast<int64_t>(l), x);
    body(l, x, y);
    x = x + y;
    x = x + llama_mlp(context, config, layer, x);
  }
}

}  // namespace

double transfer_backward(Student& model, const at::Tensor& tokens) {
  TrainContext context = context_of(model, true, tokens);
  double total = 0.0;
  along_teacher(model, tokens, [&](size_t l, const at::Tensor& x, const at::Tensor& expected) {
    const at::AutoGradMode with_grad(true);
    const at::Tensor y =
        llama_attention(context, model.config(), model.student().layers[l], static_cast<int64_t>(l), x);
    at::Tensor loss = (y - expected).square().mean() / expected.square().mean();
    loss.backward();
    total += loss.item<double>();
  });
  return total / static_cast<double>(model.teacher().layers.size());
}

void search_tau(Student& model, const at::Tensor& tokens, const std::vector<double>& candidates) {
  TrainContext context = context_of(model, true, tokens);
  const ModelConfig& config = model.config();
  along_teacher(model, tokens, [&](size_t l, const at::Tensor& x, const at::Tensor&) {
    at::Tensor* tau = model.mechanism_parameter(static_cast<int64_t>(l), "linear.tau");
    if (!tau) return;
    const auto& layer = model.teacher().layers[l];
    const at::Tensor h = context.rms_norm(x, layer.attention_norm, config.rms_norm_eps);
    auto [q, k, v] = context.project(h, std::array{&layer.q, &layer.k, &layer.v});
    q = context.rotate(q, config.num_attention_heads, config.head_dim);
    k = context.rotate(k, config.num_key_value_heads, config.head_dim);
    const auto heads = [&](const TrainAttention& attention) {
      return attention.mechanism->parallel(context.rows_of(h, q, k, v), attention.parameters);
    };
    const at::Tensor expected = heads(model.teacher_attention()[l]);
    at::Tensor best = at::full({config.num_attention_heads}, HUGE_VAL),
               chosen = at::zeros({config.num_attention_heads});
    for (const double candidate : candidates) {
      tau->fill_(candidate);
      const at::Tensor error = (heads(model.student_attention()[l]) - expected).square().mean({0, 2, 3});  // [H]
      chosen = at::where(error < best, at::full_like(chosen, candidate), chosen);
      best = at::minimum(error, best);
    }
    tau->copy_(chosen);
  });
}

double distill_backward(Student& model, const at::Tensor& tokens, DistillLoss loss) {
  at::Tensor expected;
  if (loss == DistillLoss::kKl) {
    const at::NoGradGuard no_grad;
    expected = hidden_states(context_of(model, false, tokens), model.config(), model.teacher(), tokens);
  }
  const at::Tensor hidden = hidden_states(context_of(model, true, tokens), model.config(), model.student(), tokens);
  const at::Tensor detached = hidden.detach();
  at::Tensor gradient = at::zeros_like(detached);
  double total = 0.0;
  {
    const at::NoGradGuard no_grad;
    const at::Tensor& head = head_of(model.student());
    const int64_t length = tokens.size(1), rows = detached.size(0);
    // With cross-entropy the last position of a row has no next token.
    const int64_t scored = loss == DistillLoss::kKl ? rows : rows - tokens.size(0);
    for (int64_t begin = 0; begin < rows; begin += kLogitRows) {
      const int64_t count = std::min(kLogitRows, rows - begin);
      at::Tensor log_p = at::linear(detached.narrow(0, begin, count), head).log_softmax(-1);
      at::Tensor difference;
      if (loss == DistillLoss::kKl) {
        const at::Tensor log_t = at::linear(expected.narrow(0, begin, count), head).log_softmax(-1);
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
      gradient.narrow(0, begin, count).copy_(at::matmul(difference, head).div_(static_cast<double>(scored)));
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
    const at::Tensor hidden = hidden_states(context_of(model, student, tokens), model.config(), weights, tokens);
    const int64_t scored = tokens.size(1) - 1;
    for (int64_t begin = 0; begin < scored; begin += kLogitRows) {
      const int64_t count = std::min(kLogitRows, scored - begin);
      const at::Tensor log_p = at::linear(hidden.narrow(0, begin, count), head_of(weights)).log_softmax(-1);
      const at::Tensor next = tokens.reshape(-1).narrow(0, begin + 1, count).unsqueeze(1);
      result.nll -= log_p.gather(1, next).sum().item<double>();
    }
    result.tokens += scored;
  }
  return result;
}

}  // namespace espalier
