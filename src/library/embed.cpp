#include "espalier/embed.h"

#include "core/error.h"
#include "evaluation/encoding.h"
#include "library/inside.h"

namespace espalier {
namespace {

Pool pool_of(Pooling pooling) {
  switch (pooling) {
    case Pooling::kMean:
      return Pool::kMean;
    case Pooling::kFirst:
      return Pool::kFirst;
    case Pooling::kPooler:
      return Pool::kPooler;
  }
  throw InvalidArgument(error_text("embed", "a pooling", std::to_string(static_cast<int>(pooling))));
}

}  // namespace

std::vector<std::vector<float>> embed(Session& session, const std::vector<std::string>& texts, Pooling pooling,
                                      bool normalize) {
  const LanguageModel::Inside& model = session.model().inside();
  std::vector<std::vector<int32_t>> tokens;
  for (const std::string& text : texts) {
    tokens.push_back(model.required_tokenizer().encode(text));
    if (tokens.back().empty()) throw InvalidArgument(error_text("embed", "at least one token", "none"));
  }
  std::vector<std::vector<float>> vectors;
  if (texts.empty()) return vectors;
  std::vector<TextToEncode> inputs;
  for (const std::vector<int32_t>& own : tokens) inputs.push_back({own, {}});
  StepOutput output;
  for (EncodedText& text :
       encode_texts(*model.model, inputs, pool_of(pooling), normalize, session.inside().workspace, output)) {
    vectors.push_back(std::move(text.values));
  }
  return vectors;
}

}  // namespace espalier
