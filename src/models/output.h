// What a model can give of a row. One line per kind in kOutputKinds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace espalier {

enum class Output {
  kLogits,  // [V]
  kHidden,  // [d] after the last norm
  kPooled,  // [d] what the pooler makes of it
  kLabels,  // [labels] of a classification head
};

struct OutputKind {
  Output output;
  const char* part;  // what a model that gives it has
};

inline constexpr OutputKind kOutputKinds[] = {{Output::kLogits, "a head for words"},
                                              {Output::kHidden, "hidden states"},
                                              {Output::kPooled, "a pooler"},
                                              {Output::kLabels, "a classification head"}};
inline constexpr size_t kOutputs = sizeof(kOutputKinds) / sizeof(kOutputKinds[0]);

// Some of them: Output::kLogits | Output::kHidden.
class OutputSet {
 public:
  constexpr OutputSet(Output one) : bits_(bit(one)) {}  // NOLINT: an output is a set of one
  constexpr bool has(Output one) const { return (bits_ & bit(one)) != 0; }
  friend constexpr OutputSet operator|(OutputSet a, OutputSet b) {
    a.bits_ |= b.bits_;
    return a;
  }

 private:
  static constexpr uint32_t bit(Output one) { return uint32_t{1} << static_cast<uint32_t>(one); }
  uint32_t bits_;
};

constexpr OutputSet operator|(Output a, Output b) {
  return OutputSet(a) | OutputSet(b);
}

}  // namespace espalier
