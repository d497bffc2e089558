// The two losses of linearization, each with its backward pass.
#pragma once

#include "training/student.h"

namespace espalier {

// Attention transfer: teacher-forced through all layers, relative mean squared error of each attention block's output,
// mean((y_s - y_t)^2) / mean(y_t^2), summed over layers. Each layer's backward pass runs at once, so no graph spans
// layers. tokens [B, T]. Returns the mean over layers.
double transfer_backward(Student& model, const at::Tensor& tokens);

// Per layer and head, the linear.tau among `candidates` whose attention is nearest to the teacher's on `tokens`.
void search_tau(Student& model, const at::Tensor& tokens, const std::vector<double>& candidates);

enum class DistillLoss { kKl, kCrossEntropy, kHidden };

// KL(teacher || student) over the whole vocabulary, or cross-entropy of the next token; mean over positions, with its
// backward pass. The head is frozen, so logits exist in tiles of rows only and the gradient of the hidden states is
// made by hand. kHidden: the relative squared error of the last hidden states, mean((s - t)^2) / mean(t^2), for models
// without a head over the next token. Returns the loss.
double distill_backward(Student& model, const at::Tensor& tokens, DistillLoss loss);

struct HeldOutLoss {
  double nll = 0.0;  // of the next token, summed
  int64_t tokens = 0;
  double perplexity() const;
};
// Of a decoder, the teacher or the student, on rows [N, T], without gradients.
HeldOutLoss held_out_loss(const Student& model, bool student, const at::Tensor& rows);
// Relative squared error of the student's last hidden states on rows [N, T], without gradients.
double held_out_error(const Student& model, const at::Tensor& rows);

}  // namespace espalier
