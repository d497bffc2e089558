#include "training/recipe.h"

#include <toml++/toml.h>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <map>
#include <sstream>

#include "core/error.h"

namespace espalier {
namespace {

constexpr const char* kTrained[] = {"attention", "lora", "full"};  // in Trained's order
constexpr const char* kLosses[] = {"kl", "ce", "hidden"};          // in DistillLoss's order

// The place of `word` in a list of names.
template <size_t N>
size_t place_of(const std::string& word, const char* const (&names)[N], const std::string& where) {
  const auto* known = std::find(std::begin(names), std::end(names), word);
  if (known != std::end(names)) return static_cast<size_t>(known - std::begin(names));
  std::string list;
  for (const char* name : names) list += (list.empty() ? "" : ", ") + std::string(name);
  throw InvalidArgument(error_text(where, "one of " + list, "'" + word + "'"));
}

using Setter = std::function<void(const toml::node&)>;

template <class T>
Setter set(T& target, const std::string& where) {
  return [&target, where](const toml::node& node) {
    const auto value = node.value<T>();
    if (!value) throw InvalidArgument(error_text(where, "another kind of value", "a wrong one"));
    target = *value;
  };
}

void apply(const toml::table& table, const std::map<std::string, Setter>& setters, const std::string& where) {
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const auto it = setters.find(name);
    if (it == setters.end()) {
      std::string known;
      for (const auto& [candidate, setter] : setters) known += (known.empty() ? "" : ", ") + candidate;
      throw InvalidArgument(error_text(where, "keys out of " + known, "'" + name + "'"));
    }
    it->second(node);
  }
}

Setter stage(Stage& stage, const std::string& where) {
  return [&stage, where](const toml::node& node) {
    if (!node.is_table()) throw InvalidArgument(error_text(where, "a table", "something else"));
    apply(*node.as_table(),
          {{"tokens", set(stage.tokens, where + ".tokens")},
           {"feature_rate", set(stage.rates.feature, where + ".feature_rate")},
           {"weight_rate", set(stage.rates.weight, where + ".weight_rate")},
           {"warmup_steps", set(stage.warmup_steps, where + ".warmup_steps")},
           {"cosine", set(stage.cosine, where + ".cosine")},
           {"clip", set(stage.clip, where + ".clip")}},
          where);
  };
}

}  // namespace

void read_recipe(const std::filesystem::path& path, Recipe& recipe) {
  toml::table table;
  try {
    table = toml::parse_file(path.string());
  } catch (const toml::parse_error& error) {
    throw InvalidArgument(error_text(path.string(), "TOML", std::string(error.description())));
  }
  const std::string where = path.filename().string() + ": ";
  std::string loss;
  std::string trained = kTrained[static_cast<size_t>(recipe.trained)];
  int64_t seed = static_cast<int64_t>(recipe.seed);
  apply(table,
        {{"attention", set(recipe.attention, where + "attention")},
         {"context", set(recipe.context, where + "context")},
         {"batch_tokens", set(recipe.batch_tokens, where + "batch_tokens")},
         {"trained", set(trained, where + "trained")},
         {"lora_rank_mlp", set(recipe.lora_rank_mlp, where + "lora_rank_mlp")},
         {"lora_rank", set(recipe.lora_rank, where + "lora_rank")},
         {"lora_scale", set(recipe.lora_scale, where + "lora_scale")},
         {"loss", set(loss, where + "loss")},
         {"held_out_rows", set(recipe.held_out_rows, where + "held_out_rows")},
         {"evaluate_tokens", set(recipe.evaluate_tokens, where + "evaluate_tokens")},
         {"checkpoint_seconds", set(recipe.checkpoint_seconds, where + "checkpoint_seconds")},
         {"seed", set(seed, where + "seed")},
         {"transfer", stage(recipe.transfer, where + "transfer")},
         {"distill", stage(recipe.distill, where + "distill")}},
        path.filename().string());
  if (!loss.empty()) recipe.loss = distill_loss_named(loss, where + "loss");
  recipe.trained = static_cast<Trained>(place_of(trained, kTrained, where + "trained"));
  recipe.seed = static_cast<uint64_t>(seed);
}

DistillLoss distill_loss_named(const std::string& word, const std::string& where) {
  return static_cast<DistillLoss>(place_of(word, kLosses, where));
}

void check_recipe(const Recipe& recipe, const ModelConfig& config) {
  const auto check = [](const char* key, double value, double low, double high) {
    if (value >= low && value <= high) return;  // false for NaN
    std::ostringstream expected, got;
    expected << low << " to " << high;
    got << value;
    throw InvalidArgument(error_text(std::string("recipe: ") + key, expected.str(), got.str()));
  };
  check("context", static_cast<double>(recipe.context), 8, static_cast<double>(config.max_position_embeddings));
  check("batch_tokens", static_cast<double>(recipe.batch_tokens), static_cast<double>(recipe.context), 1 << 24);
  check("lora_rank", static_cast<double>(recipe.lora_rank), 0, 4096);
  check("lora_rank_mlp", static_cast<double>(recipe.lora_rank_mlp), 0, 4096);
  check("lora_scale", recipe.lora_scale, 1e-6, 1e6);
  check("held_out_rows", static_cast<double>(recipe.held_out_rows), 1, 1 << 20);
  check("evaluate_tokens", static_cast<double>(recipe.evaluate_tokens), 0, 1e12);
  check("checkpoint_seconds", static_cast<double>(recipe.checkpoint_seconds), 0, 1e9);
  for (const auto& [name, stage] : {std::pair{"transfer", &recipe.transfer}, {"distill", &recipe.distill}}) {
    const std::string prefix = std::string(name) + ".";
    check((prefix + "tokens").c_str(), static_cast<double>(stage->tokens), 0, 1e12);
    check((prefix + "feature_rate").c_str(), stage->rates.feature, 0, 10);
    check((prefix + "weight_rate").c_str(), stage->rates.weight, 0, 10);
    check((prefix + "warmup_steps").c_str(), static_cast<double>(stage->warmup_steps), 0, 1e9);
    check((prefix + "clip").c_str(), stage->clip, 0, 1e9);
  }
}

std::string digits(double value) {
  std::ostringstream six;
  six << value;
  if (std::strtod(six.str().c_str(), nullptr) == value) return six.str();
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
}

std::string recipe_text(const Recipe& recipe) {
  std::ostringstream text;
  const auto add_stage = [&](const char* name, const Stage& stage) {
    text << ' ' << name << '=' << stage.tokens << ',' << digits(stage.rates.feature) << ','
         << digits(stage.rates.weight) << ',' << stage.warmup_steps << ',' << stage.cosine << ',' << digits(stage.clip);
  };
  text << recipe.attention << " context=" << recipe.context << " batch=" << recipe.batch_tokens
       << " trained=" << kTrained[static_cast<size_t>(recipe.trained)] << " lora=" << recipe.lora_rank << ','
       << recipe.lora_rank_mlp << ',' << digits(recipe.lora_scale) << " seed=" << recipe.seed
       << " loss=" << kLosses[static_cast<size_t>(recipe.loss.value_or(DistillLoss::kKl))]
       << " held_out=" << recipe.held_out_rows;
  add_stage("transfer", recipe.transfer);
  add_stage("distill", recipe.distill);
  return text.str();
}

}  // namespace espalier
