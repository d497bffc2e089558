// An encoder-decoder at inference: a decoder of any family whose states have read a source, and the encoder that reads
// it. `Family` names Encoder, Decoder and encoder_config().
#pragma once

#include <memory>
#include <utility>

#include "models/state_access.h"
#include "models/step_model.h"

namespace espalier {

template <class Family>
class EncoderDecoder : public StepModel<typename Family::Decoder> {
  using Base = StepModel<typename Family::Decoder>;

 public:
  EncoderDecoder(const ModelFiles& files, const LoadOptions& options)
      : Base(files, options),
        encoder_(encoder_files(files),
                 {.weights = options.weights, .own_weights = options.own_weights, .kernels = options.kernels}) {
    cross_ = make_mechanism(AttentionSpec::parse("softmax"), attention_shape(this->config(), 0));
  }

  int64_t weight_bytes() const override { return Base::weight_bytes() + encoder_.weight_bytes(); }
  const std::vector<std::string>& converted() const override {
    return Base::converted().empty() ? encoder_.converted() : Base::converted();
  }
  int64_t parameters() const override { return Base::parameters() + encoder_.parameters(); }

  SequenceState read_source(std::span<const int32_t> source, Workspace& workspace) const override {
    const SequenceState empty = encoder_.new_state();
    const Segment segment{.state = &empty, .tokens = source, .outputs = Output::kHidden};
    StepOutput output;
    encoder_.step({&segment, 1}, workspace, output);
    const int64_t rows = static_cast<int64_t>(source.size());
    const Rows hidden{const_cast<float*>(output.hidden(0, 0)), rows,
                      output.width(Output::kHidden)};  // rows follow each other
    auto read = std::make_shared<SourceState>();
    read->mechanism = cross_;
    const FloatEnvironment environment;
    const StepRows none{.segments = {}};
    StepContext context(this->kernels(), workspace, this->mechanisms(), this->config(), none, output.pending);
    for (const auto& layer : this->weights().layers) {
      const auto [k, v] = context.project(hidden, std::array{&layer.cross_k, &layer.cross_v});
      LayerState& state = read->layers.emplace_back(cross_->layout());
      state.reserve(rows);
      for (int64_t r = 0; r < rows; ++r) state.append(this->kernels(), *cross_, k.row(r), v.row(r), nullptr);
    }
    SequenceState state = this->new_state();
    StateAccess::source(state) = std::move(read);
    return state;
  }

 private:
  static ModelFiles encoder_files(const ModelFiles& files) {
    ModelFiles encoder = files;
    encoder.config = Family::encoder_config(files.config);
    return encoder;
  }

  StepModel<typename Family::Encoder> encoder_;
  std::shared_ptr<const Mechanism> cross_;
};

template <class Family>
std::unique_ptr<Model> load_encoder_decoder(const ModelFiles& files, const LoadOptions& options) {
  return std::make_unique<EncoderDecoder<Family>>(files, options);
}

}  // namespace espalier
