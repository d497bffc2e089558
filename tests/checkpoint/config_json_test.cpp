// What a config.json says of a model, with one key of it varied at a time; what it leaves out has transformers'
// defaults.
#include <gtest/gtest.h>

#include "checkpoint/family_files.h"
#include "core/error.h"
#include "support/description.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
using testing::Description;
using testing::text_of;

struct Variant {
  Json keys;  // laid over the base; null takes one away
  Description changed;
};

std::string name_of(Activation activation) {
  return text_of(static_cast<int>(activation));
}
std::string specs(std::vector<std::string> attention) {
  return text_of(attention);
}

void expect_variants(const Json& base, const Description& held, const std::vector<Variant>& variants) {
  Description expected = testing::description(ModelConfig{});
  for (const auto& [field, value] : held) expected[field] = value;
  ASSERT_EQ(testing::description(read_model_config(base)), expected);
  for (const Variant& variant : variants) {
    Json json = base;
    json.update(variant.keys);
    try {
      EXPECT_EQ(testing::description(read_model_config(json)), testing::with_changes(expected, variant.changed))
          << variant.keys;
    } catch (const Error& error) {
      ADD_FAILURE() << variant.keys << ": " << error.what();
    }
  }
}

template <class Kind>
void expect_refusals(const Json& base, const std::vector<Json>& refused) {
  for (const Json& keys : refused) {
    Json json = base;
    json.update(keys);
    try {
      read_model_config(json);
      ADD_FAILURE() << keys << " was taken";
    } catch (const Kind& error) {
      EXPECT_NE(std::string(error.what()).find(keys.begin().key()), std::string::npos) << error.what();
    }
  }
}

TEST(ConfigJson, OfALlama) {
  const Json base = {{"model_type", "llama"},   {"vocab_size", 50},       {"hidden_size", 48},
                     {"intermediate_size", 70}, {"num_hidden_layers", 2}, {"num_attention_heads", 6}};
  expect_variants(
      base,
      {{"family", "llama"},
       {"vocab_size", "50"},
       {"hidden_size", "48"},
       {"intermediate_size", "70"},
       {"layers", "2"},
       {"heads", "6"},
       {"heads_kv", "6"},
       {"head_dim", "8"},
       {"rotary_dim", "8"},
       {"positions", "2048"},
       {"eps", text_of(1e-6)},
       {"attention", specs({"softmax", "softmax"})}},
      {{{{"vocab_size", 51}}, {{"vocab_size", "51"}}},
       {{{"hidden_size", 60}}, {{"hidden_size", "60"}, {"head_dim", "10"}, {"rotary_dim", "10"}}},
       {{{"intermediate_size", 71}}, {{"intermediate_size", "71"}}},
       {{{"num_hidden_layers", 1}}, {{"layers", "1"}, {"attention", specs({"softmax"})}}},
       {{{"num_attention_heads", 3}}, {{"heads", "3"}, {"heads_kv", "3"}, {"head_dim", "16"}, {"rotary_dim", "16"}}},
       {{{"num_key_value_heads", 2}}, {{"heads_kv", "2"}}},
       {{{"num_key_value_heads", nullptr}}, {}},
       {{{"head_dim", 4}}, {{"head_dim", "4"}, {"rotary_dim", "4"}}},
       {{{"head_dim", nullptr}}, {}},
       {{{"max_position_embeddings", 77}}, {{"positions", "77"}}},
       {{{"rms_norm_eps", 0.5}}, {{"eps", "0.5"}}},
       {{{"rope_theta", 3.5}}, {{"theta", "3.5"}}},
       {{{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}}}, {{"scaling", "1"}, {"factor", "2"}}},
       {{{"rope_scaling",
          {{"rope_type", "llama3"},
           {"factor", 2.0},
           {"low_freq_factor", 1.5},
           {"high_freq_factor", 3.0},
           {"original_max_position_embeddings", 99}}}},
        {{"scaling", "2"}, {"factor", "2"}, {"low", "1.5"}, {"high", "3"}, {"original", "99"}}},
       {{{"tie_word_embeddings", true}}, {{"tied", "true"}}},
       {{{"attention_bias", true}}, {{"attention_bias", "true"}}},
       {{{"mlp_bias", true}}, {{"mlp_bias", "true"}}},
       {{{"hidden_act", "gelu"}}, {{"activation", name_of(Activation::kGelu)}}},
       {{{"hidden_act", "relu"}}, {{"activation", name_of(Activation::kRelu)}}},
       {{{"hidden_act", "silu"}}, {}},
       {{{"sliding_window", nullptr}}, {}},
       {{{"espalier", {{"attention", "linear"}}}}, {{"attention", specs({"linear", "linear"})}, {"trained", "true"}}},
       {{{"espalier", {{"attention", Json::array({"linear", "softmax"})}}}},
        {{"attention", specs({"linear", "softmax"})}, {"trained", "true"}}},
       {{{"unheard_of", 3}}, {}}});
  expect_refusals<NotSupported>(
      base,
      {{{"model_type", "mamba"}}, {{"model_type", nullptr}}, {{"sliding_window", 4096}}, {{"hidden_act", "mish"}}});
  expect_refusals<CorruptFile>(base, {{{"vocab_size", 0}},
                                      {{"vocab_size", nullptr}},
                                      {{"vocab_size", (1 << 24) + 1}},
                                      {{"hidden_size", nullptr}},
                                      {{"hidden_size", "48"}},
                                      {{"intermediate_size", nullptr}},
                                      {{"num_hidden_layers", -1}},
                                      {{"num_attention_heads", 0}},
                                      {{"max_position_embeddings", 0}},
                                      {{"tie_word_embeddings", 1}},
                                      {{"rms_norm_eps", "small"}}});
  for (const Json& keys : {Json{{"num_key_value_heads", 4}},
                           {{"head_dim", 5}},
                           {{"espalier", {{"attention", Json::array({"linear"})}}}}}) {
    Json json = base;
    json.update(keys);
    EXPECT_THROW(read_model_config(json), CorruptFile) << keys;
  }
}

TEST(ConfigJson, OfAGpt2) {
  const Json base = {{"model_type", "gpt2"}, {"vocab_size", 50}, {"n_embd", 48}, {"n_layer", 1}, {"n_head", 6}};
  expect_variants(base,
                  {{"family", "gpt2"},
                   {"vocab_size", "50"},
                   {"hidden_size", "48"},
                   {"intermediate_size", "192"},
                   {"layers", "1"},
                   {"heads", "6"},
                   {"heads_kv", "6"},
                   {"head_dim", "8"},
                   {"positions", "1024"},
                   {"eps", text_of(1e-5)},
                   {"learned_positions", "true"},
                   {"attention_bias", "true"},
                   {"mlp_bias", "true"},
                   {"tied", "true"},
                   {"activation", name_of(Activation::kGeluTanh)},
                   {"attention", specs({"softmax"})}},
                  {{{{"n_embd", 60}}, {{"hidden_size", "60"}, {"intermediate_size", "240"}, {"head_dim", "10"}}},
                   {{{"n_inner", 77}}, {{"intermediate_size", "77"}}},
                   {{{"n_inner", nullptr}}, {}},
                   {{{"n_layer", 2}}, {{"layers", "2"}, {"attention", specs({"softmax", "softmax"})}}},
                   {{{"n_head", 3}}, {{"heads", "3"}, {"heads_kv", "3"}, {"head_dim", "16"}}},
                   {{{"n_positions", 9}}, {{"positions", "9"}}},
                   {{{"layer_norm_epsilon", 0.5}}, {{"eps", "0.5"}}},
                   {{{"activation_function", "relu"}}, {{"activation", name_of(Activation::kRelu)}}},
                   {{{"tie_word_embeddings", false}}, {{"tied", "false"}}}});
  expect_refusals<NotSupported>(
      base,
      {{{"scale_attn_weights", false}}, {{"scale_attn_by_inverse_layer_idx", true}}, {{"add_cross_attention", true}}});
  expect_refusals<CorruptFile>(base, {{{"n_head", 5}}, {{"n_head", 0}}, {{"n_embd", nullptr}}, {{"n_layer", nullptr}}});
}

TEST(ConfigJson, OfABert) {
  const Json base = {{"model_type", "bert"},    {"vocab_size", 50},       {"hidden_size", 48},
                     {"intermediate_size", 70}, {"num_hidden_layers", 1}, {"num_attention_heads", 6}};
  expect_variants(base,
                  {{"family", "bert"},
                   {"vocab_size", "50"},
                   {"hidden_size", "48"},
                   {"intermediate_size", "70"},
                   {"layers", "1"},
                   {"heads", "6"},
                   {"heads_kv", "6"},
                   {"head_dim", "8"},
                   {"positions", "512"},
                   {"bidirectional", "true"},
                   {"token_types", "2"},
                   {"labels", "2"},
                   {"eps", text_of(1e-12)},
                   {"learned_positions", "true"},
                   {"attention_bias", "true"},
                   {"mlp_bias", "true"},
                   {"tied", "true"},
                   {"activation", name_of(Activation::kGelu)},
                   {"attention", specs({"softmax"})}},
                  {{{{"type_vocab_size", 3}}, {{"token_types", "3"}}},
                   {{{"num_labels", 5}}, {{"labels", "5"}}},
                   {{{"id2label", {{"0", "a"}, {"1", "b"}, {"2", "c"}}}}, {{"labels", "3"}}},
                   {{{"architectures", Json::array({"BertForTokenClassification"})}}, {{"labels", "0"}}},
                   {{{"architectures", Json::array({"BertForSequenceClassification"})}}, {}},
                   {{{"layer_norm_eps", 0.5}}, {{"eps", "0.5"}}},
                   {{{"max_position_embeddings", 9}}, {{"positions", "9"}}},
                   {{{"hidden_act", "gelu_new"}}, {{"activation", name_of(Activation::kGeluTanh)}}},
                   {{{"tie_word_embeddings", false}}, {{"tied", "false"}}},
                   {{{"position_embedding_type", "absolute"}}, {}}});
  expect_refusals<NotSupported>(
      base, {{{"position_embedding_type", "relative_key"}}, {{"is_decoder", true}}, {{"add_cross_attention", true}}});
  expect_refusals<CorruptFile>(base, {{{"num_attention_heads", 5}}, {{"type_vocab_size", 0}}});
}

TEST(ConfigJson, OfAT5) {
  const Json base = {{"model_type", "t5"}, {"vocab_size", 50}, {"d_model", 16}, {"d_ff", 70},
                     {"num_layers", 2},    {"num_heads", 6},   {"d_kv", 8}};
  expect_variants(
      base,
      {{"family", "t5"},
       {"vocab_size", "50"},
       {"hidden_size", "16"},
       {"intermediate_size", "70"},
       {"layers", "2"},
       {"encoder_layers", "2"},
       {"heads", "6"},
       {"heads_kv", "6"},
       {"head_dim", "8"},
       {"positions", "512"},
       {"buckets", "32"},
       {"reach", "128"},
       {"attention_scale", "1"},
       {"logit_scale", "0.25"},
       {"eps", text_of(1e-6)},
       {"tied", "true"},
       {"activation", name_of(Activation::kRelu)},
       {"attention", specs({"softmax", "softmax"})}},
      {{{{"num_decoder_layers", 1}}, {{"layers", "1"}, {"attention", specs({"softmax"})}}},
       {{{"num_layers", 3}, {"num_decoder_layers", 2}}, {{"encoder_layers", "3"}}},
       {{{"feed_forward_proj", "gated-gelu"}}, {{"gated_mlp", "true"}, {"activation", name_of(Activation::kGeluTanh)}}},
       {{{"feed_forward_proj", "gated-silu"}}, {{"gated_mlp", "true"}, {"activation", name_of(Activation::kSilu)}}},
       {{{"feed_forward_proj", "gelu"}}, {{"activation", name_of(Activation::kGelu)}}},
       {{{"relative_attention_num_buckets", 8}}, {{"buckets", "8"}}},
       {{{"relative_attention_max_distance", 99}}, {{"reach", "99"}}},
       {{{"layer_norm_epsilon", 0.5}}, {{"eps", "0.5"}}},
       {{{"tie_word_embeddings", false}}, {{"tied", "false"}, {"logit_scale", "1"}}},
       {{{"tie_word_embeddings", false}, {"scale_decoder_outputs", true}}, {{"tied", "false"}}},
       {{{"scale_decoder_outputs", false}}, {{"logit_scale", "1"}}},
       {{{"decoder_start_token_id", 4}}, {{"decoder_start", "4"}}},
       {{{"d_kv", 9}}, {{"head_dim", "9"}}},
       {{{"n_positions", 99}}, {{"positions", "99"}}},
       {{{"espalier", {{"encoder_attention", "linear"}}}},
        {{"encoder_attention", "linear"}, {"encoder_trained", "true"}}}});
  expect_refusals<NotSupported>(base, {Json{{"feed_forward_proj", "gated-mish"}}});
  expect_refusals<CorruptFile>(base, {{{"decoder_start_token_id", 50}},
                                      {{"decoder_start_token_id", -1}},
                                      {{"relative_attention_num_buckets", 2}},
                                      {{"d_kv", nullptr}}});
}

}  // namespace
}  // namespace espalier
