#include "evaluation/agreement.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "decoding/logprob.h"

namespace espalier {
namespace {

struct RowAgreement {
  bool same_top = false;
  double kl = 0, teacher_loss = 0, student_loss = 0;
};

// KL(teacher || student) and both losses from logits [V].
RowAgreement compare(const Kernels& kernels, const float* teacher, const float* student, int64_t vocab_size,
                     int32_t target) {
  const double teacher_norm = kernels.log_sum_exp(teacher, vocab_size);
  const double student_norm = kernels.log_sum_exp(student, vocab_size);
  RowAgreement row{.same_top = argmax(teacher, vocab_size) == argmax(student, vocab_size),
                   .teacher_loss = teacher_norm - static_cast<double>(teacher[target]),
                   .student_loss = student_norm - static_cast<double>(student[target])};
  for (int64_t i = 0; i < vocab_size; ++i) {
    const double teacher_log = static_cast<double>(teacher[i]) - teacher_norm;
    row.kl += std::exp(teacher_log) * (teacher_log - (static_cast<double>(student[i]) - student_norm));
  }
  return row;
}

// One window, chunk by chunk: the teacher's logits of a chunk are kept while the student reads it.
class WindowReader {
 public:
  WindowReader(const Model& teacher, const Model& student, Workspace& workspace)
      : teacher_(teacher), student_(student), workspace_(workspace) {}

  // rows[i] compares the predictions of piece[i + 1].
  std::vector<RowAgreement> read(std::span<const int32_t> piece) {
    std::vector<RowAgreement> rows(piece.size() - 1);
    SequenceState teacher_state = teacher_.new_state(), student_state = student_.new_state();
    const int64_t vocab_size = teacher_.config().vocab_size;
    constexpr size_t kChunk = 64;  // 64 rows of 49,152 logits are 12.6 MB
    for (size_t begin = 0; begin + 1 < piece.size(); begin += kChunk) {
      const auto chunk = piece.subspan(begin, std::min(kChunk, piece.size() - begin));
      step(teacher_, teacher_state, chunk);
      kept_.resize(chunk.size() * static_cast<size_t>(vocab_size));
      for (size_t r = 0; r < chunk.size(); ++r) {
        const float* logits = output_.logits(0, static_cast<int64_t>(r));
        std::copy(logits, logits + vocab_size, kept_.data() + r * static_cast<size_t>(vocab_size));
      }
      step(student_, student_state, chunk);
      const int64_t count = static_cast<int64_t>(std::min(chunk.size(), piece.size() - 1 - begin));
      workspace_.pool.run(count, [&](int64_t r, int) {
        rows[begin + static_cast<size_t>(r)] =
            compare(student_.kernels(), kept_.data() + r * vocab_size, output_.logits(0, r), vocab_size,
                    piece[begin + static_cast<size_t>(r) + 1]);
      });
    }
    return rows;
  }

 private:
  void step(const Model& model, SequenceState& state, std::span<const int32_t> chunk) {
    const Segment segment{.state = &state, .tokens = chunk};
    model.step({&segment, 1}, workspace_, output_);
    model.commit_chain(state, output_.pending[0], static_cast<int64_t>(chunk.size()));
  }

  const Model& teacher_;
  const Model& student_;
  Workspace& workspace_;
  StepOutput output_;
  std::vector<float> kept_;  // [chunk, V]
};

double mean(double sum, int64_t n) {
  return sum / static_cast<double>(n);
}

}  // namespace

double AgreementResult::top1_agreement() const {
  return mean(static_cast<double>(same_top), n);
}
double AgreementResult::mean_kl() const {
  return mean(kl, n);
}
double AgreementResult::teacher_perplexity() const {
  return std::exp(mean(teacher_loss, n));
}
double AgreementResult::student_perplexity() const {
  return std::exp(mean(student_loss, n));
}

AgreementResult agreement(const Model& teacher, const Model& student, std::span<const int32_t> tokens,
                          const WindowOptions& options, Workspace& workspace, const EvaluationProgress& progress) {
  if (teacher.config().vocab_size != student.config().vocab_size) {
    throw InvalidArgument(error_text("agreement", "one vocabulary",
                                     std::to_string(teacher.config().vocab_size) + " and " +
                                         std::to_string(student.config().vocab_size) + " tokens"));
  }
  const std::vector<Window> windows = cut_windows(static_cast<int64_t>(tokens.size()), options);
  if (windows.empty()) throw InvalidArgument(error_text("text", "two tokens or more", std::to_string(tokens.size())));
  AgreementResult result;
  WindowReader reader(teacher, student, workspace);
  for (const Window& window : windows) {
    const std::vector<RowAgreement> rows =
        reader.read(tokens.subspan(static_cast<size_t>(window.begin), static_cast<size_t>(window.end - window.begin)));
    for (int64_t target = window.first_target; target < window.end; ++target) {
      const RowAgreement& row = rows[static_cast<size_t>(target - window.begin - 1)];
      ++result.n;
      result.same_top += row.same_top;
      result.kl += row.kl;
      result.teacher_loss += row.teacher_loss;
      result.student_loss += row.student_loss;
    }
    if (progress) progress(window.end, windows.back().end);
  }
  return result;
}

}  // namespace espalier
