#include "espalier/model.h"

#include <algorithm>
#include <thread>

#include "core/error.h"
#include "library/inside.h"
#include "models/memory_plan.h"

namespace espalier {

const Tokenizer& LanguageModel::Inside::required_tokenizer() const {
  if (!tokenizer) throw NotSupported(error_text(files.tensors->where(), "a model with a tokenizer", "none"));
  return *tokenizer;
}

LanguageModel::LanguageModel(std::shared_ptr<const Inside> inside) : inside_(std::move(inside)) {}

LanguageModel LanguageModel::load(const std::string& path, const LoadSettings& settings) {
  auto inside = std::make_shared<Inside>();
  inside->settings = settings;
  inside->files = open_model(path, {.adapter = settings.adapter});
  if (!settings.attention.empty()) inside->files.config.set_attention(settings.attention);
  const bool own = settings.weights == "own";
  inside->model =
      load_model(inside->files, {.weights = own ? WeightType::kBf16 : weight_type_by_name(settings.weights),
                                 .own_weights = own,
                                 .kernels = settings.isa.empty() ? nullptr : &kernels_for(isa_by_name(settings.isa))});
  if (!inside->files.tokenizer.pieces.empty()) inside->tokenizer = make_tokenizer(inside->files.tokenizer);
  const Model& model = *inside->model;
  inside->info = {.family = model.config().family,
                  .attention = model.config().attention,
                  .parameters = model.parameters(),
                  .vocab_size = model.config().vocab_size,
                  .hidden_size = model.config().hidden_size,
                  .max_positions = model.max_positions(),
                  .weight_bytes = model.weight_bytes(),
                  .constant_state = is_constant_state(model.mechanisms())};
  return LanguageModel(std::move(inside));
}

const ModelInfo& LanguageModel::info() const {
  return inside_->info;
}

std::vector<int32_t> LanguageModel::tokenize(std::string_view text) const {
  return inside_->required_tokenizer().encode(text);
}

std::string LanguageModel::detokenize(const std::vector<int32_t>& tokens) const {
  return inside_->required_tokenizer().decode(tokens);
}

Session::Session(LanguageModel model, int threads) {
  if (threads < 0) throw InvalidArgument(error_text("threads", "0 (all processors) or more", std::to_string(threads)));
  const int all = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  inside_ = std::make_unique<Inside>(std::move(model), threads > 0 ? threads : all);
}

Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const LanguageModel& Session::model() const {
  return inside_->model;
}

}  // namespace espalier
