#include "support/tiny_run_train.h"

#include <unistd.h>

#include "core/file.h"
#include "core/rng.h"

namespace espalier::testing {

std::vector<int32_t> ByteTokenizer::encode(std::span<const Part> parts, bool) const {
  std::vector<int32_t> ids;
  for (const Part& part : parts) {
    for (const char c : part.text) ids.push_back(static_cast<int32_t>(static_cast<unsigned char>(c) % vocab_size_));
  }
  return ids;
}

std::string ByteTokenizer::decode(std::span<const int32_t> ids, bool) const {
  std::string text;
  for (const int32_t id : ids) text += static_cast<char>(id);
  return text;
}

std::string_view ByteTokenizer::bytes(int32_t) const {
  return "?";
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "espalier-test-XXXXXX").string();
  path_ = mkdtemp(name.data());
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_text(const std::filesystem::path& path, int64_t bytes, uint64_t seed) {
  Random random(seed);
  std::string text;
  while (static_cast<int64_t>(text.size()) < bytes) {
    const int64_t word = random.below(12);
    for (int64_t i = 0; i < 3 + word % 4; ++i) text += static_cast<char>('a' + (word * 5 + i * 3) % 26);
    text += ' ';
  }
  write_file(path, text.substr(0, static_cast<size_t>(bytes)));
}

Recipe tiny_recipe(const std::string& attention) {
  Recipe recipe;
  recipe.attention = attention;
  recipe.context = 48;
  recipe.batch_tokens = 96;
  recipe.lora_rank = 4;
  recipe.lora_rank_mlp = 2;
  recipe.transfer = {.tokens = 96 * 4, .rates = {1e-2, 1e-3}, .warmup_steps = 2};
  recipe.distill = {.tokens = 96 * 6, .rates = {3e-3, 3e-3}, .warmup_steps = 2, .cosine = true, .clip = 1.0};
  recipe.held_out_rows = 2;
  recipe.checkpoint_seconds = 0;
  recipe.seed = 3;
  return recipe;
}

}  // namespace espalier::testing
