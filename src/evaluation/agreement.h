// How close a model stays to its teacher: both read the same text, and their next-token distributions are compared.
#pragma once

#include <span>

#include "evaluation/windows.h"
#include "models/model.h"

namespace espalier {

struct AgreementResult {
  int64_t n = 0;            // predicted tokens
  int64_t same_top = 0;     // of these, where both find the same token likeliest
  double kl = 0;            // sum of KL(teacher || student), nats
  double teacher_loss = 0;  // sums of negative log-likelihoods
  double student_loss = 0;

  double top1_agreement() const;
  double mean_kl() const;
  double teacher_perplexity() const;
  double student_perplexity() const;
};

// Teacher-forced over the windows' targets. Deterministic; the same for any number of threads. Throws InvalidArgument
// for different vocabularies, an option out of range or a text of fewer than two tokens.
AgreementResult agreement(const Model& teacher, const Model& student, std::span<const int32_t> tokens,
                          const WindowOptions& windows, Workspace& workspace, const EvaluationProgress& progress = {});

}  // namespace espalier
