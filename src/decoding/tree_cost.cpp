#include "decoding/tree_cost.h"

#include <algorithm>
#include <bit>

namespace espalier {
namespace {

// The first step of a size pays for memory that later ones find ready; the sizes that decide most come twice.
constexpr std::array<int64_t, 9> kPlan = {1, 8, 4, 2, 16, 1, 8, 4, 32};
// A size is not tried when half of it costs this many plain steps already.
constexpr double kHopeless = 3.0;
// How far a point moves to what was seen: a step may be slow for reasons of its own, but not fast.
constexpr double kLearningSlower = 0.1, kLearningFaster = 0.4;
// What larger trees must promise before plain decoding is left.
constexpr double kMargin = 1.03;

// The greatest p with 2^p <= rows.
int exponent(int64_t rows) {
  return static_cast<int>(std::bit_width(static_cast<uint64_t>(rows))) - 1;
}

}  // namespace

int64_t StepCost::wanted_rows() const {
  if (planned_ >= static_cast<int>(kPlan.size())) return 0;
  const int64_t rows = kPlan[static_cast<size_t>(planned_)];
  const Point& half = points_[static_cast<size_t>(exponent(std::max<int64_t>(rows / 2, 1)))];
  return rows > 8 && half.samples > 0 && half.ms > kHopeless * points_[0].ms ? 0 : rows;
}

void StepCost::observe(int64_t rows, double ms) {
  if (rows < 1 || !(ms > 0)) return;
  if (wanted_rows() == rows) ++planned_;
  const int point = exponent(rows);
  if (point < kPoints && std::has_single_bit(static_cast<uint64_t>(rows)) && points_[point].samples < 2) {
    Point& measured = points_[static_cast<size_t>(point)];
    measured.ms = measured.samples == 0 ? ms : std::min(measured.ms, ms);
    ++measured.samples;
    return;
  }
  if (wanted_rows() == 0) adapt(rows, ms);
}

// Moves the points beside `rows` towards what was seen.
void StepCost::adapt(int64_t rows, double ms) {
  const double ratio = std::clamp(ms / this->ms(rows), 0.5, 2.0);
  const int below = std::min(exponent(rows), kPoints - 1);
  for (int point = below; point <= std::min(below + 1, kPoints - 1); ++point) {
    points_[static_cast<size_t>(point)].ms *= 1 + (ratio > 1 ? kLearningSlower : kLearningFaster) * (ratio - 1);
  }
}

double StepCost::point_ms(int point) const {
  // Steps that were measured with more rows bound those with fewer.
  double least = 0;
  for (int p = kPoints - 1; p >= point; --p) {
    const Point& measured = points_[static_cast<size_t>(p)];
    if (measured.samples > 0 && (least == 0 || measured.ms < least)) least = measured.ms;
  }
  if (least > 0) return least;
  return point == 0 ? 1.0 : 2 * point_ms(point - 1);  // never measured: proportional to the rows
}

double StepCost::ms(int64_t rows) const {
  const int below = std::min(exponent(rows), kPoints - 1);
  const double low_rows = static_cast<double>(int64_t{1} << below);
  const double low = point_ms(below);
  if (below == kPoints - 1) return low * static_cast<double>(rows) / low_rows;
  const double share = (static_cast<double>(rows) - low_rows) / low_rows;
  return low + share * (point_ms(below + 1) - low);
}

std::vector<double> StepCost::points() const {
  std::vector<double> points;
  if (wanted_rows() > 0) return points;
  for (const Point& point : points_) points.push_back(point.ms);
  return points;
}

std::optional<StepCost> StepCost::from_points(std::span<const double> points) {
  StepCost cost;
  if (points.size() != cost.points_.size() || !(points[0] > 0)) return std::nullopt;
  for (size_t i = 0; i < points.size(); ++i) {
    if (!(points[i] >= 0 && points[i] < 1e9)) return std::nullopt;
    if (points[i] > 0) cost.points_[i] = {.ms = points[i], .samples = 2};
  }
  cost.planned_ = static_cast<int>(kPlan.size());
  return cost;
}

int64_t best_tree_size(const DraftTree& tree, const StepCost& cost, int64_t batch) {
  double best = kMargin / cost.ms(batch), tokens = 1;
  int64_t size = 1;
  for (int64_t N = 2; N <= tree.size(); ++N) {
    tokens += tree.expected[static_cast<size_t>(N) - 1];
    const double rate = tokens / cost.ms(batch * N);
    if (rate > best) {
      best = rate;
      size = N;
    }
  }
  return size;
}

}  // namespace espalier
