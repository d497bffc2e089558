#include "models/model.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <numeric>
#include <set>

#include "core/byte_reader.h"
#include "core/error.h"
#include "models/registry.h"
#include "models/state_access.h"

namespace espalier {

void Model::token_rows(int32_t, float*, float*) const {
  throw NotSupported(error_text("model", "a decoder", config().family));
}

void Model::step(std::span<const Segment> segments, Workspace& workspace, StepOutput& output,
                 StepObserver* observer) const {
  for (const Segment& segment : segments) {
    for (const OutputKind& kind : kOutputKinds) {
      if (segment.wanted != Wanted::kNone && segment.outputs.has(kind.output) && !gives(kind.output)) {
        throw NotSupported(error_text("model", std::string("one with ") + kind.part, "no such tensors in its files"));
      }
    }
  }
  run(segments, workspace, output, observer);
}

SequenceState Model::new_state() const {
  SequenceState state;
  for (const auto& mechanism : mechanisms()) StateAccess::layers(state).emplace_back(mechanism->layout());
  for (const TailShape& shape : tails()) StateAccess::tails(state).emplace_back(shape);
  return state;
}

SequenceState Model::read_state(ByteReader& reader) const {
  SequenceState state;
  std::vector<LayerState>& layers = StateAccess::layers(state);
  const uint64_t count = reader.number("layer count", mechanisms().size());
  if (count != mechanisms().size()) {
    reader.refuse("layer count", std::to_string(mechanisms().size()), std::to_string(count));
  }
  for (uint64_t l = 0; l < count; ++l) {
    const std::string field = "layer " + std::to_string(l);
    std::string_view layer = reader.take(reader.number(field + " size", reader.left()), field);
    layers.push_back(LayerState::deserialize(mechanisms()[l]->layout(), layer, reader.where() + ": " + field));
    if (!layer.empty()) reader.refuse(field, "nothing after the state", std::to_string(layer.size()) + " bytes");
    if (layers[l].length() != state.length()) {
      reader.refuse(field + " length", std::to_string(state.length()), std::to_string(layers[l].length()));
    }
  }
  for (const TailShape& shape : tails()) {
    const std::string field = "last rows of layer " + std::to_string(shape.layer);
    std::string_view tail = reader.take(static_cast<uint64_t>(RowTail(shape).bytes()), field);
    StateAccess::tails(state).push_back(RowTail::deserialize(shape, tail, reader.where() + ": " + field));
  }
  return state;
}

SequenceState Model::read_source(std::span<const int32_t>, Workspace&) const {
  throw NotSupported(error_text("model", "an encoder-decoder", config().family));
}

int64_t Model::max_positions() const {
  int64_t limit = std::numeric_limits<int64_t>::max();
  for (const auto& mechanism : mechanisms()) {
    const Capabilities capabilities = mechanism->capabilities();
    const bool grows = !capabilities.constant_state && config().relative_bias_buckets == 0;
    if (grows || config().learned_positions) limit = std::min(limit, config().max_position_embeddings);
    if (capabilities.max_length > 0) limit = std::min(limit, capabilities.max_length);
  }
  return limit;
}

int64_t Model::max_tree_depth(int64_t length) const {
  int64_t limit = std::numeric_limits<int64_t>::max();
  for (const auto& mechanism : mechanisms()) limit = std::min(limit, mechanism->layout().max_tree_depth(length));
  return limit;
}

void Model::commit(SequenceState& state, const Pending& pending, std::span<const int32_t> path) const {
  const std::vector<int32_t>& parents = StateAccess::parents(pending);
  if (StateAccess::span(pending)) throw InvalidArgument(error_text("commit", "rows of a tree", "a span's"));
  if (state.length() != StateAccess::base(pending)) {
    throw InvalidArgument(error_text("commit", "a state of " + std::to_string(StateAccess::base(pending)) + " rows",
                                     std::to_string(state.length()) + " rows"));
  }
  int32_t previous = -1;
  for (const int32_t row : path) {
    if (row < 0 || row >= pending.rows() || parents[static_cast<size_t>(row)] != previous) {
      throw InvalidArgument(error_text("commit", "a path from the root", "row " + std::to_string(row)));
    }
    previous = row;
  }
  std::vector<LayerState>& layers = StateAccess::layers(state);
  std::vector<RowTail>& tails = StateAccess::tails(state);
  ESPALIER_CHECK(layers.size() == StateAccess::layers(pending) && tails.size() == StateAccess::tails(pending));
  // Reserving is all that can fail, so either every layer takes the path or none does.
  for (LayerState& layer : layers) layer.reserve(static_cast<int64_t>(path.size()));
  const FloatEnvironment environment;
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto row_of = [&](const std::vector<float>& rows, int32_t row) {
      return rows.data() + row * (static_cast<int64_t>(rows.size()) / pending.rows());
    };
    for (const int32_t row : path) {
      layers[l].append(kernels(), *mechanisms()[l], row_of(StateAccess::k(pending, l), row),
                       row_of(StateAccess::v(pending, l), row), row_of(StateAccess::extra(pending, l), row));
    }
  }
  for (size_t i = 0; i < tails.size(); ++i) {
    RowTail& tail = tails[i];
    const auto kept = std::min(path.size(), static_cast<size_t>(tail.shape().rows));
    for (const int32_t row : path.last(kept)) {
      tail.append(StateAccess::tail(pending, i).data() + row * tail.shape().width);
    }
  }
}

void Model::commit_chain(SequenceState& state, const Pending& pending, int64_t rows) const {
  std::vector<int32_t> path(static_cast<size_t>(rows));
  std::iota(path.begin(), path.end(), 0);
  commit(state, pending, path);
}

void Model::prefill(SequenceState& state, std::span<const int32_t> tokens, Workspace& workspace,
                    const std::function<void(int64_t index, const float* logits)>& each_row, std::vector<float>* last,
                    int64_t chunk) const {
  StepOutput output;
  const int64_t count = static_cast<int64_t>(tokens.size());
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t rows = std::min(chunk, count - begin);
    const bool final_chunk = begin + rows == count;
    Segment segment{.state = &state, .tokens = tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(rows))};
    segment.wanted = each_row ? Wanted::kAll : (final_chunk && last ? Wanted::kLast : Wanted::kNone);
    step({&segment, 1}, workspace, output);
    if (each_row) {
      for (int64_t r = 0; r < rows; ++r) each_row(begin + r, output.logits(0, r));
    }
    if (final_chunk && last) {
      const float* logits = output.logits(0, rows - 1);
      last->assign(logits, logits + config().vocab_size);
    }
    commit_chain(state, output.pending[0], rows);
  }
}

namespace {

// Remembers what was read.
class RecordingSource : public TensorSource {
 public:
  explicit RecordingSource(std::shared_ptr<const TensorSource> base) : base_(std::move(base)) {}
  std::vector<std::string> names() const override { return base_->names(); }
  const TensorInfo* find(std::string_view name) const override { return base_->find(name); }
  void read(std::string_view name, float* out) const override {
    remember(name);
    base_->read(name, out);
  }
  void read_rows(std::string_view name, int64_t first, int64_t count, float* out) const override {
    remember(name);
    base_->read_rows(name, first, count, out);
  }
  bool reads_rows(std::string_view name) const override { return base_->reads_rows(name); }
  std::string where() const override { return base_->where(); }
  const std::set<std::string>& read() const { return read_; }

 private:
  void remember(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    read_.emplace(name);
  }

  std::shared_ptr<const TensorSource> base_;
  mutable std::mutex mutex_;
  mutable std::set<std::string> read_;
};

// "model.layers.3.mlp.up_proj.bias" -> "model.layers.#.mlp.up_proj": what a tensor is, whatever the layer, weight or
// bias.
std::string kind_of(std::string_view name) {
  if (name.ends_with(".weight")) name.remove_suffix(7);
  if (name.ends_with(".bias")) name.remove_suffix(5);
  std::string kind;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) kind += c;
    if (digit && !kind.ends_with('#')) kind += '#';
  }
  return kind;
}

// A tensor of a kind that the model has, but which it did not ask for, means that the config is another model's: more
// layers, biases. Other kinds are what training left there, or parts that the family does not use.
void check_all_read(const RecordingSource& tensors) {
  std::set<std::string> kinds;
  for (const std::string& name : tensors.read()) kinds.insert(kind_of(name));
  kinds.erase("cls.predictions.decoder");  // BERT's head, which files may hold beside the table that it is tied to
  for (const std::string& name : tensors.names()) {
    if (!tensors.read().contains(name) && kinds.contains(kind_of(name))) {
      throw CorruptFile(error_text(tensors.where() + ": tensor " + name, "none of that name by config.json", "one",
                                   "the config.json that belongs to the file"));
    }
  }
}

}  // namespace

std::unique_ptr<Model> load_model(const ModelFiles& files, const LoadOptions& options) {
  const auto recorded = std::make_shared<RecordingSource>(files.tensors);
  ModelFiles own = files;
  own.tensors = recorded;
  auto model = model_family(files.config.family).load(own, options);
  check_all_read(*recorded);
  return model;
}

}  // namespace espalier
