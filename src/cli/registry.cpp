#include "cli/verbs.h"

namespace espalier {

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> all = {
      {"generate", "Write on from a prompt", add_generate},
      {"chat", "A conversation", add_chat},
      {"score", "Log-probabilities of texts", add_score},
      {"encode", "Hidden states and embeddings of texts", add_encode},
      {"tokenize", "Texts to token ids, and back", add_tokenize},
      {"inspect", "What a model is made of, and what its state costs", add_inspect},
      {"evaluate", "Perplexity, recall, agreement with the softmax model", add_evaluate},
      {"bench", "Speed of prefill, decoding and tree verification", add_bench},
      {"save", "Write a model as a Hugging Face directory, adapter included", add_save},
      {"ngram", "Make an n-gram table to draft from", add_ngram},
      {"linearize", "Turn a softmax model into a linear-attention model", add_training_verb},
      {"draft", "Train a draft head on a model's own texts", add_training_verb},
  };
  return all;
}

}  // namespace espalier
