// What a step over N rows costs on this machine, and the tree size that pays best.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "decoding/tree.h"

namespace espalier {

// Step times at 1, 2, 4, … rows, interpolated between. They are measured by the first speculative steps themselves:
// those take the sizes that wanted_rows() asks for (missing drafts are filled with arbitrary tokens, which cannot
// change the text), so a measurement also yields a token. Later steps keep the figures up to date. Not thread-safe.
class StepCost {
 public:
  // Rows of the step that should be timed next; 0 when the figures suffice.
  int64_t wanted_rows() const;
  void observe(int64_t rows, double ms);
  // Non-decreasing in `rows`; only meaningful once wanted_rows() is 0.
  double ms(int64_t rows) const;

  // Milliseconds at 1, 2, 4, … rows, for a later run; 0 where none was measured. Empty before the figures suffice.
  std::vector<double> points() const;
  // With the figures of points(); nothing when they cannot be such.
  static std::optional<StepCost> from_points(std::span<const double> points);

 private:
  static constexpr int kPoints = 7;  // 1 … 64 rows
  struct Point {
    double ms = 0;
    int samples = 0;
  };
  double point_ms(int point) const;
  void adapt(int64_t rows, double ms);

  std::array<Point, kPoints> points_;
  int planned_ = 0;  // how much of the measuring plan is done
};

// The number of nodes, at most those of `tree`, with the greatest expected tokens per millisecond when `batch`
// sequences take such trees in one step.
int64_t best_tree_size(const DraftTree& tree, const StepCost& cost, int64_t batch);

}  // namespace espalier
