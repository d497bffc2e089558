// Some rows of a tensor are those of the whole. GGUF's are tested by what a model computes (tests/cli/test_gguf.py).
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "checkpoint/adapter.h"
#include "checkpoint/model_files.h"
#include "core/error.h"

namespace espalier {
namespace {

void expect_rows_of_the_whole(const TensorSource& tensors) {
  for (const std::string& name : tensors.names()) {
    const TensorInfo& info = *tensors.find(name);
    const auto columns = static_cast<size_t>(info.columns());
    ASSERT_EQ(info.rows() * info.columns(), info.elements()) << name;
    std::vector<float> whole(static_cast<size_t>(info.elements()));
    tensors.read(name, whole.data());
    for (const int64_t step : {int64_t{1}, int64_t{7}, std::max<int64_t>(1, info.rows())}) {
      for (int64_t first = 0; first < info.rows(); first += step) {
        const auto count = static_cast<size_t>(std::min(step, info.rows() - first));
        std::vector<float> rows(count * columns + 1, 77.0f);
        tensors.read_rows(name, first, static_cast<int64_t>(count), rows.data());
        ASSERT_EQ(rows.back(), 77.0f) << tensors.where() << " " << name << " writes too far";
        rows.pop_back();
        const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(first) * columns);
        ASSERT_TRUE(std::equal(rows.begin(), rows.end(), begin)) << tensors.where() << " " << name << " row " << first;
      }
    }
  }
}

std::string model(const std::string& name) {
  return std::string(ESPALIER_TEST_DATA) + "/models/" + name;
}

TEST(TensorRows, OfSafetensorsAndOfViewsOfThem) {
  expect_rows_of_the_whole(*open_model(model("stories260K")).tensors);
  expect_rows_of_the_whole(*open_model(model("nano-sort")).tensors);  // transposed, in parts
}

TEST(TensorRows, OfMemory) {
  MemoryTensorSource tensors;
  tensors.add("matrix", {3, 5}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14});
  tensors.add("vector", {4}, {1, 2, 3, 4});
  tensors.add("scalar", {}, {7});
  tensors.add("none", {2, 0}, {});
  expect_rows_of_the_whole(tensors);
}

TEST(TensorRows, OfWhatIsNotThere) {
  ModelFiles files = open_model(model("nano-sort"));
  float out = 0;
  for (const char* name : {"nonsense", "transformer.h.0.attn.c_attn.weight"}) {  // the second is shown in parts alone
    EXPECT_EQ(files.tensors->find(name), nullptr);
    EXPECT_THROW(files.tensors->read(name, &out), InvalidArgument);
    EXPECT_THROW(files.tensors->read_rows(name, 0, 1, &out), InvalidArgument);
  }
}

TEST(TensorRows, OfABaseWithAnAdapter) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / ("espalier-rows-" + std::to_string(::getpid()));
  ModelFiles files = open_model(model("stories260K"));
  const std::string stem = "model.layers.1.self_attn.q_proj";
  const std::vector<int64_t> shape = files.tensors->find(stem + ".weight")->shape;
  constexpr int64_t kRank = 3;
  std::vector<float> a(static_cast<size_t>(kRank * shape[1])), b(static_cast<size_t>(shape[0] * kRank));
  for (size_t i = 0; i < a.size(); ++i) a[i] = 0.01f * static_cast<float>(i % 17) - 0.05f;
  for (size_t i = 0; i < b.size(); ++i) b[i] = 0.02f * static_cast<float>(i % 13) - 0.1f;
  write_adapter(folder, {.base_sha256 = base_hash(files), .attention = files.config.attention, .lora_scale = 2.0},
                {{stem + ".lora_a", {kRank, shape[1]}, a.data()}, {stem + ".lora_b", {shape[0], kRank}, b.data()}});
  std::vector<float> plain(static_cast<size_t>(shape[0] * shape[1])), adapted = plain;
  files.tensors->read(stem + ".weight", plain.data());
  apply_adapter(files, folder);
  files.tensors->read(stem + ".weight", adapted.data());
  EXPECT_NE(plain, adapted);
  EXPECT_TRUE(files.tensors->reads_rows(stem + ".weight"));
  expect_rows_of_the_whole(*files.tensors);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace espalier
