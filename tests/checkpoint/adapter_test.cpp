// Adapters: a good one, then every way in which one thing of it can be wrong.
#include "checkpoint/adapter.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/rng.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kStem = "model.layers.1.self_attn.q_proj";

class Adapters : public ::testing::Test {
 protected:
  Adapters() : base_(open_model(fs::path(ESPALIER_TEST_DATA) / "models" / "stories260K")) {
    std::string name = (fs::temp_directory_path() / "espalier-adapter-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    shape_ = base_.tensors->find(kStem + ".weight")->shape;
    a_.assign(static_cast<size_t>(2 * shape_[1]), 0.5f);
    b_.assign(static_cast<size_t>(shape_[0] * 2), 0.25f);
    info_ = {.base_sha256 = base_hash(base_),
             .base_name = "stories",
             .attention = base_.config.attention,
             .lora_scale = 1.5,
             .command = "a test"};
    tensors_ = {{kStem + ".lora_a", {2, shape_[1]}, a_.data()}, {kStem + ".lora_b", {shape_[0], 2}, b_.data()}};
  }
  ~Adapters() override { fs::remove_all(folder_); }

  ModelFiles applied() const {
    ModelFiles files = base_;
    apply_adapter(files, folder_);
    return files;
  }
  template <class Kind>
  void expect_refused(const std::string& part) const {
    try {
      applied();
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Kind& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << ": " << error.what();
    }
  }
  Json description() const { return Json::parse(read_text_file(folder_ / "adapter.json")); }

  ModelFiles base_;
  fs::path folder_;
  std::vector<int64_t> shape_;
  std::vector<float> a_, b_;
  AdapterInfo info_;
  std::vector<TensorToWrite> tensors_;
};

TEST_F(Adapters, AddTheirProductToTheWeight) {
  Random random(3);
  for (float& x : a_) x = random.normal();
  for (float& x : b_) x = random.normal();
  write_adapter(folder_, info_, tensors_);
  const ModelFiles files = applied();
  const auto plain = base_.tensors->read_checked(kStem + ".weight", shape_);
  const auto adapted = files.tensors->read_checked(kStem + ".weight", shape_);
  const auto columns = static_cast<size_t>(shape_[1]);
  for (size_t i = 0; i < plain.size(); ++i) {
    const size_t row = i / columns, column = i % columns;
    const double product = double{b_[row * 2]} * a_[column] + double{b_[row * 2 + 1]} * a_[columns + column];
    ASSERT_NEAR(adapted[i], plain[i] + 1.5 * product, 1e-5) << i;
  }
  const std::string other = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_EQ(files.tensors->read_checked(other, shape_), base_.tensors->read_checked(other, shape_));
  EXPECT_TRUE(files.config.attention_trained);
  EXPECT_EQ(files.tensors->find(kStem + ".lora_a"), nullptr);
  EXPECT_EQ(files.tensors->names(), base_.tensors->names());
  const AdapterInfo back = read_adapter_info(folder_);
  EXPECT_EQ(back.base_sha256, info_.base_sha256);
  EXPECT_EQ(back.base_name, "stories");
  EXPECT_EQ(back.attention, info_.attention);
  EXPECT_EQ(back.lora_scale, 1.5);
  EXPECT_EQ(back.command, "a test");
}

TEST_F(Adapters, OneWrongFieldIsRefusedByItsName) {
  write_adapter(folder_, info_, tensors_);
  const Json good = description();
  const auto with = [&](const char* key, const Json& value) {
    Json json = good;
    json[key] = value;
    write_file(folder_ / "adapter.json", json.dump());
  };
  with("note", 3);
  EXPECT_NO_THROW(applied());
  for (const Json& value : {Json("espalier-adapter-2"), Json("espalier-adapter-"), Json(1), Json()}) {
    with("format", value);
    expect_refused<CorruptFile>("adapter.json: format");
  }
  with("base_sha256", std::string(64, '0'));
  expect_refused<InvalidArgument>(std::string(12, '0'));
  expect_refused<InvalidArgument>(info_.base_sha256.substr(0, 12));  // both are named
  expect_refused<InvalidArgument>("stories");
  std::string close = info_.base_sha256;
  close.back() = close.back() == '0' ? '1' : '0';
  with("base_sha256", close);
  expect_refused<InvalidArgument>("adapter " + folder_.string());
  with("base_sha256", info_.base_sha256.substr(0, 63));
  expect_refused<InvalidArgument>("adapter");
  with("base_sha256", 7);
  expect_refused<CorruptFile>("adapter.json: fields");
  std::vector<std::string> attention = info_.attention;
  attention.pop_back();
  with("attention", attention);
  expect_refused<CorruptFile>("attention");
  attention.insert(attention.end(), 2, "softmax");
  with("attention", attention);
  expect_refused<CorruptFile>("attention");
  with("attention", "softmax");
  expect_refused<CorruptFile>("adapter.json: fields");
  with("lora_scale", "2");
  expect_refused<CorruptFile>("adapter.json: fields");
  for (const char* text : {"", "[]", "3", "{", "\"x\""}) {
    write_file(folder_ / "adapter.json", text);
    expect_refused<CorruptFile>("adapter.json: format");
  }
  for (const char* key : {"base_sha256", "attention"}) {
    Json json = good;
    json.erase(key);
    write_file(folder_ / "adapter.json", json.dump());
    expect_refused<CorruptFile>("adapter.json: fields");
  }
  fs::remove(folder_ / "adapter.json");
  expect_refused<InvalidArgument>("adapter.json");
  write_file(folder_ / "adapter.json", good.dump());
  fs::remove(folder_ / "adapter.safetensors");
  expect_refused<InvalidArgument>("adapter.safetensors");
}

TEST_F(Adapters, OneWrongTensorIsRefusedByItsName) {
  const auto with = [&](std::vector<TensorToWrite> tensors, const std::string& name) {
    write_adapter(folder_, info_, tensors);
    expect_refused<CorruptFile>(name);
  };
  write_adapter(folder_, info_, tensors_);
  EXPECT_NO_THROW(applied());
  const int64_t outputs = shape_[0], inputs = shape_[1];
  const std::vector<float> zeros(static_cast<size_t>(4 * outputs * inputs));
  const TensorToWrite a = tensors_[0], b = tensors_[1];
  with({a}, kStem + ".lora_a");
  with({b}, kStem + ".lora_b");
  with({a, {b.name, {outputs, 3}, zeros.data()}}, kStem);  // ranks 2 and 3
  with({{a.name, {3, inputs}, zeros.data()}, b}, kStem);
  with({a, {b.name, {outputs + 1, 2}, zeros.data()}}, kStem);
  with({a, {b.name, {outputs - 1, 2}, zeros.data()}}, kStem);
  with({{a.name, {2, inputs + 1}, zeros.data()}, b}, kStem);
  with({{a.name, {2, inputs - 1}, zeros.data()}, b}, kStem);
  with({{a.name, {2 * inputs}, zeros.data()}, b}, kStem);
  with({a, {b.name, {outputs, 2, 1}, zeros.data()}}, kStem);
  with({{"model.layers.9.self_attn.q_proj.lora_a", {2, inputs}, zeros.data()},
        {"model.layers.9.self_attn.q_proj.lora_b", {outputs, 2}, zeros.data()}},
       "model.layers.9");  // no such weight
  with({{"model.norm.lora_a", {2, inputs}, zeros.data()}, {"model.norm.lora_b", {inputs, 2}, zeros.data()}},
       "model.norm");  // no matrix
  write_adapter(folder_, info_, {});
  EXPECT_EQ(applied().tensors->read_checked(kStem + ".weight", shape_),
            base_.tensors->read_checked(kStem + ".weight", shape_));
}

// A scale that is no number, as only a hand writes it.
TEST_F(Adapters, AScaleIsAFiniteNumber) {
  write_adapter(folder_, info_, tensors_);
  Json json = description();
  json.erase("lora_scale");
  const std::string rest = json.dump().substr(1);
  for (const char* scale : {"1e999", "-1e999"}) {
    write_file(folder_ / "adapter.json", std::string("{\"lora_scale\":") + scale + "," + rest);
    EXPECT_THROW(applied(), CorruptFile) << scale;
  }
  write_file(folder_ / "adapter.json", "{" + rest);
  EXPECT_EQ(read_adapter_info(folder_).lora_scale, 1.0);  // without one
}

// Nothing of a new adapter lies there when it cannot be written, and the old one still does.
TEST_F(Adapters, AnOldOneStaysWhenTheNewOneFails) {
  write_adapter(folder_, info_, tensors_);
  const std::string values = read_text_file(folder_ / "adapter.safetensors");
  std::vector<TensorToWrite> failing = tensors_;
  failing[1].values = nullptr;
  failing[1].read = [](float*) { throw Internal("no more"); };
  EXPECT_THROW(write_adapter(folder_, info_, failing), Internal);
  EXPECT_EQ(read_text_file(folder_ / "adapter.safetensors"), values);
  EXPECT_NO_THROW(applied());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 2);
}

}  // namespace
}  // namespace espalier
