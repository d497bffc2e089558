// Everything that files say of a model and its tokenizer, as texts by name: so a test can vary one key, and see that
// nothing changes but what it names.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "checkpoint/model_files.h"

namespace espalier::testing {

using Description = std::map<std::string, std::string>;

template <class T>
std::string text_of(const T& value) {
  return ::testing::PrintToString(value);
}

inline Description description(const ModelConfig& c) {
  return {{"family", c.family},
          {"vocab_size", text_of(c.vocab_size)},
          {"hidden_size", text_of(c.hidden_size)},
          {"intermediate_size", text_of(c.intermediate_size)},
          {"layers", text_of(c.num_hidden_layers)},
          {"heads", text_of(c.num_attention_heads)},
          {"heads_kv", text_of(c.num_key_value_heads)},
          {"head_dim", text_of(c.head_dim)},
          {"value_dim", text_of(c.value_dim)},
          {"rotary_dim", text_of(c.rotary_dim)},
          {"positions", text_of(c.max_position_embeddings)},
          {"theta", text_of(c.rope_theta)},
          {"scaling", text_of(static_cast<int>(c.rope_scaling.kind))},
          {"factor", text_of(c.rope_scaling.factor)},
          {"low", text_of(c.rope_scaling.low_frequency_factor)},
          {"high", text_of(c.rope_scaling.high_frequency_factor)},
          {"original", text_of(c.rope_scaling.original_positions)},
          {"bidirectional", text_of(c.bidirectional)},
          {"token_types", text_of(c.token_types)},
          {"labels", text_of(c.labels)},
          {"encoder_layers", text_of(c.encoder_layers)},
          {"decoder_start", text_of(c.decoder_start)},
          {"encoder_attention", c.encoder_attention},
          {"encoder_trained", text_of(c.encoder_attention_trained)},
          {"buckets", text_of(c.relative_bias_buckets)},
          {"reach", text_of(c.relative_bias_reach)},
          {"bias_scale", text_of(c.relative_bias_scale)},
          {"scale_norm", text_of(c.scale_norm)},
          {"token_shift", text_of(c.token_shift)},
          {"attention_scale", text_of(c.attention_scale)},
          {"logit_scale", text_of(c.logit_scale)},
          {"gated_mlp", text_of(c.gated_mlp)},
          {"learned_positions", text_of(c.learned_positions)},
          {"eps", text_of(c.norm_eps)},
          {"activation", text_of(static_cast<int>(c.activation))},
          {"attention_bias", text_of(c.attention_bias)},
          {"mlp_bias", text_of(c.mlp_bias)},
          {"tied", text_of(c.tie_word_embeddings)},
          {"attention", text_of(c.attention)},
          {"trained", text_of(c.attention_trained)}};
}

inline Description description(const TokenizerData& t) {
  return {{"model", t.model},
          {"pre", t.pre_tokenizer},
          {"pieces", text_of(t.pieces)},
          {"merges", text_of(t.merges)},
          {"whole_words", text_of(t.whole_words)},
          {"special", text_of(t.special_ids)},
          {"control", text_of(t.control_ids)},
          {"bos", text_of(t.bos_id)},
          {"eos", text_of(t.eos_id)},
          {"unk", text_of(t.unk_id)},
          {"pad", text_of(t.pad_id)},
          {"ends", text_of(t.end_ids)},
          {"prefix", text_of(t.prefix_ids)},
          {"suffix", text_of(t.suffix_ids)},
          {"template", t.chat_template}};
}

// `base` with the fields of `changed`. A field that is what it was already would prove nothing.
inline Description with_changes(Description base, const Description& changed) {
  for (const auto& [field, value] : changed) {
    const auto it = base.find(field);
    EXPECT_TRUE(it != base.end() && it->second != value) << field << " = " << value;
    base[field] = value;
  }
  return base;
}

}  // namespace espalier::testing
