// A model at inference: steps over (state, tree) pairs, and nothing else.
//
// Plain decoding is a tree of one node, prefill a chain, speculation a tree, a batch several segments. A step
// never changes a state: it returns logits and a Pending; commit() takes an accepted path in. Dropping a
// Pending is cancellation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/operator.h"
#include "checkpoint/model_files.h"
#include "core/arena.h"
#include "core/thread_pool.h"
#include "kernels/packed_matrix.h"
#include "models/context.h"
#include "models/segment.h"
#include "models/sequence_state.h"
#include "models/step_observer.h"
#include "models/step_output.h"

namespace espalier {

class ByteReader;

// Memory that steps reuse. One per thread of control.
struct Workspace {
  explicit Workspace(int threads) : pool(threads) {}
  ThreadPool pool;
  Arena arena;
};

struct LoadOptions {
  WeightType weights = WeightType::kBf16;
  // Quantized tensors of the files (GGUF: Q8_0, Q4_0, Q4_1) run with their own blocks and scales, others as `weights`.
  bool own_weights = false;
  std::string attention;             // a SPEC for every layer; empty: what the checkpoint says
  const Kernels* kernels = nullptr;  // null: best_kernels()
  // Attention mechanisms from outside this tree, for SPECs that name them (examples/my_attention.cpp).
  std::vector<MechanismEntry> more_mechanisms = {};
};

// Immutable after loading, shareable between threads; each caller brings its own Workspace.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const Kernels& kernels() const = 0;
  virtual const std::vector<std::unique_ptr<Mechanism>>& mechanisms() const = 0;  // per layer
  // Rows that layers look back on beside their attention, by layer.
  virtual const std::vector<TailShape>& tails() const = 0;
  virtual bool gives(Output what) const = 0;
  // A token's stored rows of the table that embeds and of the one that makes logits, [d] each. Throws NotSupported for
  // a model whose logits are no product of its hidden states.
  virtual void token_rows(int32_t token, float* embedding, float* head) const;
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t parameters() const = 0;
  // Tensors that own_weights asked for, but which run as `weights`.
  virtual const std::vector<std::string>& converted() const = 0;

  // The state before the first token.
  SequenceState new_state() const;
  // The inverse of SequenceState::serialize(). Throws CorruptFile naming the field.
  SequenceState read_state(ByteReader& reader) const;
  // The state before the first token of an encoder-decoder's text about `source`: the encoder runs once. Throws
  // NotSupported for other models, InvalidArgument for a token outside the vocabulary or an empty source.
  virtual SequenceState read_source(std::span<const int32_t> source, Workspace& workspace) const;
  // How many positions a sequence may take: the model's where states grow, the attention's where it knows an end, else
  // the greatest number.
  int64_t max_positions() const;
  // The longest tree depth that may follow a state of `length` rows, over all layers: StateLayout::max_tree_depth().
  // Chains have no limit.
  int64_t max_tree_depth(int64_t length) const;

  // Runs all segments at once. `output` is reused memory; `observer` may be null. Throws InvalidArgument for a token
  // outside the vocabulary, a malformed tree, a tree beyond max_tree_depth(), or positions beyond the model's;
  // NotSupported for an output or a mask that the model does not have. Rows of an encoder follow an empty state.
  void step(std::span<const Segment> segments, Workspace& workspace, StepOutput& output,
            StepObserver* observer = nullptr) const;

  // Takes the rows `path` (root first, each the parent of the next) into every layer, or into none. Throws
  // InvalidArgument when the state is not the one the step saw (by length), the rows are a span's, or the path is not a
  // path.
  void commit(SequenceState& state, const Pending& pending, std::span<const int32_t> path) const;
  // A chain's first `rows` rows.
  void commit_chain(SequenceState& state, const Pending& pending, int64_t rows) const;

  // Steps over `tokens` in chunks and commits them. `each_row` (may be null) is called with every position's
  // logits [V] in order; otherwise only the last row's logits are computed, and copied to `last` if not null.
  void prefill(SequenceState& state, std::span<const int32_t> tokens, Workspace& workspace,
               const std::function<void(int64_t index, const float* logits)>& each_row, std::vector<float>* last,
               int64_t chunk = kPrefillChunk) const;
  static constexpr int64_t kPrefillChunk = 256;

 protected:
  virtual void run(std::span<const Segment> segments, Workspace& workspace, StepOutput& output,
                   StepObserver* observer) const = 0;
};

// Builds the family that `files.config` names. Throws NotSupported for an unknown one.
std::unique_ptr<Model> load_model(const ModelFiles& files, const LoadOptions& options);

}  // namespace espalier
