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

namespace espalier {

// What an encoder made of a source text: each decoder layer's keys and values, and how they are attended to.
struct SourceState {
  std::vector<LayerState> layers;
  std::shared_ptr<const Mechanism> mechanism;
};

// Everything that a sequence's past means to the model. Copy it to fork.
struct SequenceState {
  std::vector<LayerState> layers;
  std::vector<RowTail> tails;                 // of Model::tails(), in their order
  std::shared_ptr<const SourceState> source;  // of an encoder-decoder; shared by forks

  int64_t length() const { return layers.empty() ? 0 : layers[0].length(); }
  int64_t bytes() const;
};

// Which rows' outputs are wanted.
enum class Logits { kNone, kFirst, kLast, kAll };

struct Segment {
  const SequenceState* state = nullptr;
  std::span<const int32_t> tokens;   // [R >= 1]
  std::span<const int32_t> parents;  // [R] index of the parent, -1 for the state, parent < own index; empty: a chain
  Logits logits = Logits::kAll;
  std::span<const int32_t> token_types = {};  // [R], of models that have them; empty: all 0
};

// The rows that a step computed for one segment, waiting to be committed.
struct Pending {
  int64_t base = 0;                       // the state's length that the rows follow
  std::vector<int32_t> parents;           // [R]
  std::vector<std::vector<float>> k, v;   // per layer [R, Hk, Dk], [R, Hk, Dv]
  std::vector<std::vector<float>> extra;  // per layer [R, Hk, dim_extra]
  std::vector<std::vector<float>> tails;  // per tail [R, width]
};

struct StepOutput {
  // What was asked for of (segment, row), [width]: logits [V], or another Output. Valid until the next step with the
  // same workspace. Null if not asked for.
  const float* logits(size_t segment, int64_t row) const;
  // The state after the final norm [d] that an output was made of; for the same rows. Null where a model keeps none.
  const float* hidden(size_t segment, int64_t row) const;

  int64_t width = 0;
  std::vector<Pending> pending;    // one per segment
  std::vector<const float*> rows;  // all rows, null where not asked for
  std::vector<const float*> hidden_rows;
  std::vector<int64_t> first_row;  // per segment
};

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

  SequenceState new_state() const;
  // The state before the first token of an encoder-decoder's text about `source`: the encoder runs once. Throws
  // NotSupported for other models, InvalidArgument for a token outside the vocabulary or an empty source.
  virtual SequenceState read_source(std::span<const int32_t> source, Workspace& workspace) const;
  // How many positions a sequence may take: the model's where states grow, the attention's where it knows an end, else
  // the greatest number.
  int64_t max_positions() const;
  // The longest tree depth that may follow a state of `length` rows, over all layers: StateLayout::max_tree_depth().
  // Chains have no limit.
  int64_t max_tree_depth(int64_t length) const;

  // Runs all segments at once. `output` is reused memory. Throws InvalidArgument for a token outside the
  // vocabulary, a malformed tree, a tree beyond max_tree_depth(), or positions beyond the model's; NotSupported for an
  // output that the model does not give. The rows of an encoder's segment are a span: they see each other, follow an
  // empty state, and are not to be committed.
  void step(std::span<const Segment> segments, Workspace& workspace, StepOutput& output,
            Output what = Output::kLogits) const;

  // Takes the rows `path` (root first, each the parent of the next) into every layer, or into none. Throws
  // InvalidArgument when the state is not the one the step saw (by length) or the path is not a path.
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
  virtual void run(std::span<const Segment> segments, Workspace& workspace, StepOutput& output, Output what) const = 0;
};

// Builds the family that `files.config` names. Throws NotSupported for an unknown one.
std::unique_ptr<Model> load_model(const ModelFiles& files, const LoadOptions& options);

}  // namespace espalier
