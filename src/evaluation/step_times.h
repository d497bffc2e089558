// How fast a model runs on this machine, beside how fast its weights can be read.
#pragma once

#include <cstdint>
#include <map>

#include "core/weight_memory.h"
#include "evaluation/windows.h"
#include "models/model.h"

namespace espalier {

struct StepTimesOptions {
  int64_t prefill_tokens = 512;
  int64_t decode_tokens = 32;              // timed one by one
  int64_t repeats = 5;                     // of everything else; medians are reported
  WeightType weights = WeightType::kBf16;  // whose products the roofline takes

  // Throws InvalidArgument naming the option and its range.
  void check() const;
};

struct StepTimes {
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
  std::map<int64_t, double> verify_ms;  // step time by the number of tree nodes: 1, 2, 4, … 64
  double bandwidth = 0;                 // measured reading speed of all threads, bytes per second
  double decode_bandwidth_share = 0;    // bytes of weights and state that decoding reads per second / bandwidth
  double peak = 0;                      // measured products of weights in the cache, multiply-adds per second
  double attention_peak = 0;            // the same in f32, which attention computes in
  // What a step of so many nodes behind the prompt cannot be faster than: the bytes of weights and state at
  // `bandwidth`, or its products at `peak` and `attention_peak`.
  std::map<int64_t, double> roofline_ms;
};

// Trees of a binary shape hang after a prompt of `prefill_tokens`; nothing of them is committed. Rounds over all sizes
// are interleaved, so that a disturbance meets all of them.
StepTimes measure_step_times(const Model& model, const StepTimesOptions& options, Workspace& workspace,
                             const EvaluationProgress& progress = {});

// Multiply-adds per second of all threads together on weights that stay in the cache.
double measure_peak(const Kernels& kernels, WeightType type, ThreadPool& pool);

// How fast all threads together read a buffer that no cache holds.
class ReadBandwidth {
 public:
  ReadBandwidth();
  double measure(ThreadPool& pool) const;  // bytes per second, of one pass

 private:
  WeightMemory memory_;  // as weights lie
  std::shared_ptr<std::byte> buffer_;
};

}  // namespace espalier
