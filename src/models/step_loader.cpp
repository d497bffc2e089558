#include "models/step_loader.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "attention/shared/initial_values.h"
#include "attention/shared/short_convolution.h"
#include "core/error.h"
#include "models/context.h"
#include "models/relative_bias.h"

namespace espalier {

namespace {

bool is_quantized(const std::string& stored) {
  return stored.starts_with("Q");
}

}  // namespace

WeightType StepLoader::type_of(const std::string& tensor, int64_t outputs) const {
  if (own_) {
    const std::string& stored = tensors_.find(tensor)->type;
    for (const WeightKind& kind : kWeightKinds) {
      if (!kind.stored.empty() && kind.stored == stored) return kind.type;
    }
    return type_;
  }
  const bool narrow = type_ == WeightType::kInt4 || type_ == WeightType::kInt4Min;
  return narrow && outputs == vocab_size_ ? WeightType::kInt8 : type_;
}

StepMatrix StepLoader::matrix(const std::string& name, int64_t outputs, int64_t inputs, bool bias) {
  const std::string tensor = name + ".weight";
  tensors_.check_shape(tensor, {outputs, inputs});
  const WeightType type = type_of(tensor, outputs);
  StepMatrix matrix;
  if (!own_ && tensors_.reads_rows(tensor)) {
    matrix.weight = PackedMatrix::empty(outputs, inputs, type, memory_);
    waiting_.push_back({tensor, matrix.weight});
  } else {
    const std::vector<float> values = tensors_.read_checked(tensor, {outputs, inputs});
    matrix.weight = PackedMatrix(values.data(), outputs, inputs, type, memory_);
    if (own_ && is_quantized(tensors_.find(tensor)->type) && (type == type_ || !matrix.weight.exact())) {
      converted_.push_back(tensor);
      if (type != type_) matrix.weight = PackedMatrix(values.data(), outputs, inputs, type_, memory_);
    }
  }
  bytes_ += matrix.weight.bytes();
  parameters_ += outputs * inputs;
  if (bias) matrix.bias = vector(name + ".bias", outputs);
  return matrix;
}

void StepLoader::finish() {
  constexpr int64_t kFloatsPerPiece = int64_t{1} << 17;  // half a megabyte, which stays in the second-level cache
  struct Piece {
    Waiting* of;
    int64_t begin, rows;
  };
  std::vector<Piece> pieces;
  for (Waiting& waiting : waiting_) {
    const int64_t outputs = waiting.weight.outputs();
    const int64_t panels = std::max<int64_t>(1, kFloatsPerPiece / (kPanel * waiting.weight.inputs()));
    for (int64_t begin = 0; begin < outputs; begin += panels * kPanel) {
      pieces.push_back({&waiting, begin, std::min(panels * kPanel, outputs - begin)});
    }
  }
  const auto threads = std::min<size_t>(pieces.size(), std::max(1u, std::thread::hardware_concurrency()));
  std::atomic<size_t> next{0};
  // The first piece that failed says why, whichever thread met it first.
  std::mutex mutex;
  size_t failed = pieces.size();
  std::exception_ptr error;
  const auto work = [&] {
    std::vector<float> values;
    for (size_t i = next++; i < pieces.size(); i = next++) {
      const Piece& piece = pieces[i];
      try {
        values.resize(static_cast<size_t>(piece.rows * piece.of->weight.inputs()));
        tensors_.read_rows(piece.of->tensor, piece.begin, piece.rows, values.data());
        piece.of->weight.pack_rows(values.data(), piece.begin, piece.rows);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (i < failed) error = std::current_exception();
        failed = std::min(failed, i);
        next = pieces.size();
      }
    }
  };
  {
    std::vector<std::jthread> workers;
    for (size_t t = 1; t < threads; ++t) workers.emplace_back(work);
    work();
  }
  if (error) std::rethrow_exception(error);
  waiting_.clear();
}

std::vector<float> StepLoader::vector(const std::string& name, int64_t n) {
  bytes_ += n * static_cast<int64_t>(sizeof(float));
  parameters_ += n;
  return tensors_.read_checked(name, {n});
}

std::vector<float> StepLoader::relative_bias(const std::string& name, const ModelConfig& config) {
  parameters_ += config.relative_bias_buckets * config.num_attention_heads;
  return spread_relative_bias(tensors_.read_checked(name, {config.relative_bias_buckets, config.num_attention_heads}),
                              config);
}

AttentionShape attention_shape(const ModelConfig& config, int64_t layer) {
  return {.heads = static_cast<int>(config.num_attention_heads),
          .heads_kv = static_cast<int>(config.num_key_value_heads),
          .dim_k = static_cast<int>(config.head_dim),
          .dim_v = static_cast<int>(config.dim_v()),
          .hidden = static_cast<int>(config.hidden_size),
          .layer = static_cast<int>(layer),
          .layers = static_cast<int>(config.num_hidden_layers),
          .scale = static_cast<float>(config.attention_scale),
          .span = config.bidirectional};
}

std::vector<TailShape> tail_shapes(const ModelConfig& config,
                                   const std::vector<std::unique_ptr<Mechanism>>& mechanisms) {
  std::vector<TailShape> shapes;
  for (size_t l = 0; l < mechanisms.size(); ++l) {
    const auto add = [&](TailSite site, int64_t rows, int64_t width) {
      shapes.push_back({.layer = static_cast<int64_t>(l), .site = site, .rows = rows, .width = width});
    };
    if (config.token_shift) add(TailSite::kInput, 1, shifted_channels(config.hidden_size));
    if (const ShortConvolution* convolution = mechanisms[l]->short_convolution()) {
      const int64_t rows = convolution->taps() - 1;
      add(TailSite::kQuery, rows, config.num_attention_heads * config.head_dim);
      add(TailSite::kKey, rows, config.num_key_value_heads * config.head_dim);
      add(TailSite::kValue, rows, config.num_key_value_heads * config.dim_v());
    }
  }
  return shapes;
}

std::string parameter_name(const ModelConfig& config, const ParameterInfo& parameter, int64_t layer) {
  return config.stack + "model.layers." + std::to_string(layer) + ".self_attn." + parameter.name;
}

void check_fits(const ModelConfig& config, const Mechanism& mechanism, int64_t layer) {
  const std::string where = "layer " + std::to_string(layer) + ": " + config.attention[static_cast<size_t>(layer)];
  if (config.bidirectional && !mechanism.capabilities().span) {
    throw NotSupported(error_text(where, "an attention with a bidirectional form, as an encoder needs it", "none",
                                  "softmax, augmented"));
  }
  if (config.relative_bias_buckets > 0 && !mechanism.capabilities().bias) {
    throw NotSupported(error_text(where, "an attention that takes a relative bias", "one that does not",
                                  "softmax, flash_local, augmented"));
  }
}

std::vector<std::vector<float>> mechanism_parameters(const ModelConfig& config, const TensorSource& tensors,
                                                     int64_t layer, const Mechanism& mechanism) {
  std::vector<std::vector<float>> values;
  for (const ParameterInfo& parameter : mechanism.parameters()) {
    const std::string name = parameter_name(config, parameter, layer);
    const bool stored = config.attention_trained || tensors.find(name);
    values.push_back(stored ? tensors.read_checked(name, parameter.shape) : initial_values(parameter, layer));
  }
  return values;
}

std::vector<std::unique_ptr<Mechanism>> load_mechanisms(const ModelConfig& config, const TensorSource& tensors,
                                                        const std::vector<MechanismEntry>& more) {
  if (static_cast<int64_t>(config.attention.size()) != config.num_hidden_layers) {
    throw CorruptFile(error_text(tensors.where() + ": attention", std::to_string(config.num_hidden_layers) + " layers",
                                 std::to_string(config.attention.size())));
  }
  std::vector<std::unique_ptr<Mechanism>> mechanisms;
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    auto mechanism = make_mechanism(AttentionSpec::parse(config.attention[l]), attention_shape(config, l), more);
    check_fits(config, *mechanism, l);
    mechanism->load(mechanism_parameters(config, tensors, l, *mechanism));
    mechanisms.push_back(std::move(mechanism));
  }
  return mechanisms;
}

}  // namespace espalier
