// What is remembered of step times: it comes back as it was, and whatever stands in the file nothing else happens.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <set>

#include "core/file.h"
#include "decoding/step_cost_file.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

class StepCostFile : public ::testing::Test {
 protected:
  StepCostFile() : folder_(fs::temp_directory_path() / ("espalier-step-cost-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
  }
  ~StepCostFile() override { fs::remove_all(folder_); }

  fs::path folder_;
};

// As many milliseconds as rows, where they are asked for.
StepCost measured() {
  StepCost cost;
  while (const int64_t rows = cost.wanted_rows()) cost.observe(rows, 1.0 + static_cast<double>(rows) / 16);
  return cost;
}

TEST_F(StepCostFile, ComesBackAsItWas) {
  const StepCost cost = measured();
  ASSERT_EQ(cost.wanted_rows(), 0);
  const fs::path path = folder_ / "deep" / "step_times.json";
  EXPECT_FALSE(load_step_cost(path, "a"));
  EXPECT_TRUE(save_step_cost(path, "a", cost));
  EXPECT_TRUE(save_step_cost(path, "b", cost));
  for (const char* key : {"a", "b"}) {
    const auto loaded = load_step_cost(path, key);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->wanted_rows(), 0);
    for (int64_t rows = 1; rows <= 64; ++rows) EXPECT_EQ(loaded->ms(rows), cost.ms(rows)) << rows;
  }
  EXPECT_FALSE(load_step_cost(path, "c"));
}

TEST_F(StepCostFile, KeepsNothingThatIsNotMeasured) {
  EXPECT_TRUE(save_step_cost(folder_ / "t.json", "a", StepCost()));
  EXPECT_FALSE(fs::exists(folder_ / "t.json"));
  EXPECT_FALSE(StepCost::from_points({}));
}

TEST_F(StepCostFile, IsSmallWhateverComes) {
  const StepCost cost = measured();
  for (int i = 0; i < 200; ++i) save_step_cost(folder_ / "t.json", "key " + std::to_string(i), cost);
  EXPECT_LT(fs::file_size(folder_ / "t.json"), 32u << 10);
  EXPECT_TRUE(load_step_cost(folder_ / "t.json", "key 199"));
}

TEST_F(StepCostFile, IsNotBelievedBlindly) {
  fs::create_directories(folder_);
  const fs::path path = folder_ / "t.json";
  const std::string deep = "{\"x\": " + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  for (const char* text :
       {"", "[]", "{", "\xff\xfe", "{\"a\": 1}", "{\"a\": []}", "{\"a\": [1, 2]}", "{\"a\": [0, 1, 1, 1, 1, 1, 1]}",
        "{\"a\": [1, 1, 1, -1, 1, 1, 1]}", "{\"a\": [1, 1, 1, 1e300, 1, 1, 1]}", "{\"a\": [1, 1, 1, null, 1, 1, 1]}",
        deep.c_str(), "{\"a\": [1, 1, 1, \"1\", 1, 1, 1]}", "{\"a\": [1, 1, 1, 1, 1, 1, 1, 1]}"}) {
    write_file(path, text);
    EXPECT_FALSE(load_step_cost(path, "a")) << text;
    EXPECT_TRUE(save_step_cost(path, "a", measured())) << text;
    EXPECT_TRUE(load_step_cost(path, "a")) << text;
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(StepCost::from_points(std::vector<double>{1, 1, 1, nan, 1, 1, 1}));
  fs::remove(path);
  fs::create_directories(path);  // a folder where the file should be
  EXPECT_FALSE(load_step_cost(path, "a"));
  EXPECT_FALSE(save_step_cost(path, "a", measured()));
}

// Two models that differ in one thing only.
TEST(StepCostKey, TellsApartWhatTakesAnotherTime) {
  const auto key_of = [](const testing::TinyModel& shape, const Kernels* kernels = nullptr) {
    return step_cost_key(*testing::load_tiny_model(shape, WeightType::kF32, kernels), "f32", 1);
  };
  const testing::TinyModel plain{.layers = 3};
  const auto model = testing::load_tiny_model(plain);
  const std::string key = step_cost_key(*model, "f32", 1);
  EXPECT_NE(step_cost_key(*model, "f32", 2), key);
  EXPECT_NE(step_cost_key(*model, "bf16", 1), key);
  const std::vector<testing::TinyModel> others = {
      {.family = "gpt2", .layers = 3, .heads_kv = 3},
      {.vocab_size = 98, .layers = 3},
      {.hidden_size = 64, .layers = 3},
      {.intermediate_size = 81, .layers = 3},
      {.layers = 2},
      {.layers = 3, .heads_kv = 3},  // other sizes of matrices
      {.layers = 3, .tied = false},
      {.layers = 3, .attention = {"linear"}},
      {.layers = 3, .attention = {"softmax", "linear", "linear"}},
      {.layers = 3, .attention = {"softmax", "softmax", "linear"}},
      {.layers = 3, .attention = {"linear", "softmax", "softmax"}},
      {.layers = 3, .attention = {"window(group=8)"}},
      {.layers = 3, .attention = {"window(group=16)"}},
  };
  std::set<std::string> keys = {key};
  for (const testing::TinyModel& other : others) EXPECT_TRUE(keys.insert(key_of(other)).second) << key_of(other);
  for (const Isa isa : supported_isas()) {
    EXPECT_EQ(key_of(plain, &kernels_for(isa)) == key, isa == best_kernels().isa) << isa_name(isa);
  }
  EXPECT_EQ(key_of({.layers = 3, .seed = 2}), key);  // other numbers take no other time
  EXPECT_EQ(key_of(plain), key);
}

}  // namespace
}  // namespace espalier
