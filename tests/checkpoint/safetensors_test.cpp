// safetensors: a good file, then every way in which one thing of it can be wrong.
#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "checkpoint/model_files.h"
#include "core/error.h"
#include "core/half.h"
#include "core/rng.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

class Safetensors : public ::testing::Test {
 protected:
  Safetensors() {
    std::string name = (fs::temp_directory_path() / "espalier-safetensors-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Safetensors() override { fs::remove_all(folder_); }

  fs::path write(const std::string& bytes, const std::string& name = "f.safetensors") const {
    fs::remove(folder_ / name);
    std::ofstream(folder_ / name, std::ios::binary) << bytes;  // nothing that need reach the disk
    return folder_ / name;
  }
  fs::path file(const std::string& header, size_t data_bytes) const {
    return write(whole(header, std::string(data_bytes, '\1')));
  }
  static std::string whole(const std::string& header, const std::string& data) {
    const uint64_t size = header.size();
    return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
  }

  // CorruptFile, whose message names the file and every one of `parts`.
  void expect_corrupt(const fs::path& path, const std::vector<std::string>& parts) const {
    try {
      SafetensorsSource({path});
      ADD_FAILURE() << "accepted: " << read_text_file(path).substr(8, 200);
    } catch (const CorruptFile& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(path.filename().string()), std::string::npos) << message;
      for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << part << ": " << message;
    }
  }

  fs::path folder_;
};

std::string entry(const std::string& name, const std::string& rest) {
  return "\"" + name + "\":{" + rest + "}";
}

// Two tensors, 24 and 8 bytes; `first` in the place of the first one's fields.
std::string with_first(const std::string& first) {
  return "{" + entry("first", first) + "," + entry("second", R"("dtype":"F16","shape":[4],"data_offsets":[24,32])") +
         "}";
}
const std::string kGood = R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24])";

TEST_F(Safetensors, OneWrongThingIsRefusedByItsName) {
  const SafetensorsSource good({file(with_first(kGood), 32)});
  EXPECT_EQ(good.find("first")->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(good.find("second")->type, "F16");
  EXPECT_EQ(good.names(), (std::vector<std::string>{"first", "second"}));
  EXPECT_EQ(good.find("third"), nullptr);

  for (const char* fields : {
           R"("dtype":"F32","shape":[2,3],"data_offsets":[0,20])",  // fewer bytes than the shape has
           R"("dtype":"F32","shape":[2,2],"data_offsets":[0,24])",  // bytes to spare
           R"("dtype":"F32","shape":[2,4],"data_offsets":[0,24])",  // too few
           R"("dtype":"F16","shape":[2,3],"data_offsets":[0,24])",
           R"("dtype":"F64","shape":[2,3],"data_offsets":[0,24])",
           R"("dtype":"F32","shape":[],"data_offsets":[0,24])",
           R"("dtype":"F32","shape":[0,3],"data_offsets":[0,24])",
           R"("dtype":"F32","shape":[2,3],"data_offsets":[24,0])",     // ends before it begins
           R"("dtype":"F32","shape":[2,3],"data_offsets":[16,40])",    // beyond the end
           R"("dtype":"F32","shape":[2,3],"data_offsets":[100,124])",  // wholly
           R"("dtype":"F32","shape":[2,3],"data_offsets":[4,28])",     // into the second
           R"("dtype":"F32","shape":[1],"data_offsets":[0,4])",        // a hole before the second
           R"("dtype":"F32","shape":[5],"data_offsets":[4,24])",       // a hole before the first
           R"("dtype":"F32","shape":[2,3],"data_offsets":[-24,0])",
           R"("dtype":"F32","shape":[2,3],"data_offsets":[0.0,24.0])",
           R"("dtype":"F32","shape":[2,3],"data_offsets":["0","24"])",
           R"("dtype":"F32","shape":[2,3],"data_offsets":[0])",
           R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24,24])",
           R"("dtype":"F32","shape":[2,3],"data_offsets":24)",
           R"("dtype":"F32","shape":[2,3],"data_offsets":[0,18446744073709551615])",
           R"("dtype":"F32","shape":[2,3],"data_offsets":[18446744073709551612,24])",
           R"("dtype":"F32","shape":[2,3])",
           R"("dtype":"F32","shape":[-2,-3],"data_offsets":[0,24])",
           R"("dtype":"F32","shape":[2.0,3],"data_offsets":[0,24])",
           R"("dtype":"F32","shape":6,"data_offsets":[0,24])",
           R"("dtype":"F32","data_offsets":[0,24])",
           R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0])",  // a product that is 0 in 64 bits
           R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])",  // so is this
           R"("dtype":"F32","shape":[1099511627776,2],"data_offsets":[0,24])",
           R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,24])",
           R"("dtype":"F32","shape":[6148914691236517206],"data_offsets":[0,24])",  // x 4 is 24 in 64 bits
           R"("dtype":4,"shape":[2,3],"data_offsets":[0,24])",
           R"("shape":[2,3],"data_offsets":[0,24])",
       }) {
    const bool hole_behind_it = std::string(fields).find("[0,4]") != std::string::npos;
    expect_corrupt(file(with_first(fields), 32), {hole_behind_it ? "second" : "first"});
  }
  for (const char* value : {"3", "[]", "null", "\"F32\""}) {
    expect_corrupt(file(std::string("{\"first\":") + value + "}", 0), {"first"});
  }
}

TEST_F(Safetensors, HeadersAreCheckedBeforeTheyAreRead) {
  const std::string good = whole(with_first(kGood), std::string(32, '\1'));
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(SafetensorsSource({write(good.substr(0, size))}), CorruptFile) << size;  // cut anywhere
  }
  expect_corrupt(write(good + "x"), {"data"});  // and longer
  for (const uint64_t size :
       {uint64_t{good.size()} - 7, ~uint64_t{0}, ~uint64_t{0} - 7, uint64_t{1} << 63, uint64_t{100 << 20} + 1}) {
    std::string bad = good;
    std::memcpy(bad.data(), &size, 8);
    expect_corrupt(write(bad), {"header size"});
  }
  for (const char* header : {"", "[]", "3", "{", "{\"a\":}", "null", "\xff\xfe", "{} {}"}) {
    expect_corrupt(file(header, 0), {"header"});
  }
  expect_corrupt(file("{\"__metadata__\":3}", 0), {"__metadata__"});
}

TEST_F(Safetensors, ANameStandsOnce) {
  const std::string one = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  const std::string other = R"("dtype":"F32","shape":[1],"data_offsets":[4,8])";
  expect_corrupt(file("{" + entry("same", one) + "," + entry("same", other) + "}", 8), {"same", "once"});
  expect_corrupt(file("{" + entry("same", one) + "," + entry("same", one) + "}", 4), {"same", "once"});
  const fs::path first = write(whole("{" + entry("same", one) + "}", "1234"), "a.safetensors");
  const fs::path second = write(whole("{" + entry("same", one) + "}", "1234"), "b.safetensors");
  try {
    SafetensorsSource({first, second});
    FAIL();
  } catch (const CorruptFile& error) {
    EXPECT_NE(std::string(error.what()).find("b.safetensors: same"), std::string::npos) << error.what();
  }
  // A field's name may stand in every tensor, and a tensor may be called like a field.
  const SafetensorsSource fine({file("{" + entry("shape", one) + "," + entry("dtype", other) + "}", 8)});
  EXPECT_EQ(fine.names().size(), 2u);
}

// All ranges of two tensors, under names in both orders: good are those that lie one behind the other.
TEST_F(Safetensors, EveryOverlapAndHoleOfTwoIsRefused) {
  constexpr int kSize = 5;
  int accepted = 0;
  for (int b1 = 0; b1 <= kSize; ++b1) {
    for (int e1 = b1; e1 <= kSize; ++e1) {
      for (int b2 = 0; b2 <= kSize; ++b2) {
        for (int e2 = b2; e2 <= kSize; ++e2) {
          const auto tensor = [](const char* name, int begin, int end) {
            return entry(name, "\"dtype\":\"U8\",\"shape\":[" + std::to_string(end - begin) + "],\"data_offsets\":[" +
                                   std::to_string(begin) + "," + std::to_string(end) + "]");
          };
          const bool in_order = b1 == 0 && e1 == b2 && e2 == kSize;
          const bool turned = b2 == 0 && e2 == b1 && e1 == kSize;
          const fs::path path = file("{" + tensor("a", b1, e1) + "," + tensor("b", b2, e2) + "}", kSize);
          if (in_order || turned) {
            EXPECT_NO_THROW(SafetensorsSource({path})) << b1 << e1 << b2 << e2;
            ++accepted;
          } else {
            EXPECT_THROW(SafetensorsSource({path}), CorruptFile) << b1 << e1 << b2 << e2;
          }
        }
      }
    }
  }
  EXPECT_EQ(accepted, 12);
}

// Many tensors in any order of names; one of them moved or grown by a byte.
TEST_F(Safetensors, OneTensorOfManyOutOfItsPlaceIsRefused) {
  Random random(4);
  for (int trial = 0; trial < 150; ++trial) {
    const auto count = static_cast<size_t>(3 + random.below(6));
    std::vector<std::array<int64_t, 2>> ranges;
    int64_t end = 0;
    for (size_t i = 0; i < count; ++i) {
      const int64_t size = 1 + random.below(9);
      ranges.push_back({end, end + size});
      end += size;
    }
    const auto header = [&] {
      std::string text;
      for (size_t i = 0; i < count; ++i) {
        text += (i ? "," : "") + entry("t" + std::to_string((i * 7 + static_cast<size_t>(trial)) % 97),
                                       "\"dtype\":\"I8\",\"shape\":[" + std::to_string(ranges[i][1] - ranges[i][0]) +
                                           "],\"data_offsets\":[" + std::to_string(ranges[i][0]) + "," +
                                           std::to_string(ranges[i][1]) + "]");
      }
      return "{" + text + "}";
    };
    EXPECT_NO_THROW(SafetensorsSource({file(header(), static_cast<size_t>(end))}));
    auto& moved = ranges[static_cast<size_t>(random.below(static_cast<int64_t>(count)))];
    const int64_t kind = random.below(4);
    if (kind == 0) ++moved[1];
    if (kind == 1 && --moved[0] < 0) moved = {1, moved[1]};
    if (kind == 2) --moved[1];
    if (kind == 3) ++moved[0];
    EXPECT_THROW(SafetensorsSource({file(header(), static_cast<size_t>(end))}), CorruptFile) << header();
  }
}

TEST_F(Safetensors, WhatIsUnusualButRightIsRead) {
  // Spaces behind the header, metadata with odd values, empty tensors, a scalar, an unknown type, the second first.
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\",\"odd\":3}," +
                             entry("b", R"("dtype":"F32","shape":[],"data_offsets":[0,4])") + "," +
                             entry("a", R"("dtype":"F32","shape":[2],"data_offsets":[4,12])") + "," +
                             entry("empty", R"("dtype":"F32","shape":[0,1099511627776],"data_offsets":[12,12])") + "," +
                             entry("zero", R"("dtype":"F32","shape":[3,0],"data_offsets":[0,0])") + "," +
                             entry("future", R"("dtype":"F8_E4M3","shape":[3],"data_offsets":[12,15])") + "}     ";
  const float values[] = {1.5f, -2.0f, 3.0f};
  const SafetensorsSource source(
      {write(whole(header, std::string(reinterpret_cast<const char*>(values), 12) + "abc"))});
  float out[3] = {9, 9, 9};
  source.read("b", out);
  EXPECT_EQ(out[0], 1.5f);
  source.read("a", out);
  EXPECT_EQ(out[0], -2.0f);
  EXPECT_EQ(out[1], 3.0f);
  source.read("empty", out);
  source.read("zero", out);
  EXPECT_EQ(out[2], 9.0f);
  EXPECT_EQ(source.find("empty")->elements(), 0);
  EXPECT_EQ(source.metadata().at("format"), "pt");
  EXPECT_FALSE(source.metadata().contains("odd"));
  try {
    source.read("future", out);
    FAIL();
  } catch (const NotSupported& error) {
    EXPECT_NE(std::string(error.what()).find("future"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("F8_E4M3"), std::string::npos);
  }
  EXPECT_THROW(source.read("none", out), InvalidArgument);
  EXPECT_NO_THROW(SafetensorsSource({file("{}", 0)}));
}

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

TEST_F(Safetensors, EveryTypeGivesItsNumbers) {
  struct Case {
    const char* type;
    std::string bytes;
    std::vector<float> expected;
  };
  const std::vector<Case> cases = {
      {"F64", raw<double>({1.25, -1e300, 1e-3}), {1.25f, -HUGE_VALF, 1e-3f}},
      {"F32", raw<float>({1.25f, -7.5f, 3e-40f}), {1.25f, -7.5f, 3e-40f}},
      {"F16", raw<uint16_t>({0x3c00, 0xc000, 0x0001}), {1.0f, -2.0f, 0x1p-24f}},
      {"BF16", raw<uint16_t>({0x3f80, 0xc000, 0x7f80}), {1.0f, -2.0f, HUGE_VALF}},
      {"I64", raw<int64_t>({-3, 1 << 20, 0}), {-3.0f, 1048576.0f, 0.0f}},
      {"I32", raw<int32_t>({-3, 1 << 20, 0}), {-3.0f, 1048576.0f, 0.0f}},
      {"I16", raw<int16_t>({-300, 300, 0}), {-300.0f, 300.0f, 0.0f}},
      {"I8", raw<int8_t>({-128, 127, 0}), {-128.0f, 127.0f, 0.0f}},
      {"U8", raw<uint8_t>({255, 128, 0}), {255.0f, 128.0f, 0.0f}},
      {"BOOL", raw<uint8_t>({1, 0, 1}), {1.0f, 0.0f, 1.0f}},
  };
  for (const Case& one : cases) {
    for (const std::string& before : {std::string(), std::string("x")}) {  // nothing promises an alignment
      const std::string header =
          "{" + (before.empty() ? "" : entry("pad", R"("dtype":"U8","shape":[1],"data_offsets":[0,1])") + ",") +
          entry("t", "\"dtype\":\"" + std::string(one.type) + "\",\"shape\":[3,1],\"data_offsets\":[" +
                         std::to_string(before.size()) + "," + std::to_string(before.size() + one.bytes.size()) + "]") +
          "}";
      const SafetensorsSource source({write(whole(header, before + one.bytes))});
      EXPECT_EQ(source.find("t")->type, one.type);
      EXPECT_EQ(source.read_checked("t", {3, 1}), one.expected) << one.type;
      float row = 0;
      source.read_rows("t", 1, 1, &row);
      EXPECT_EQ(row, one.expected[1]) << one.type;
      EXPECT_THROW(source.read_checked("t", {1, 3}), CorruptFile);
      EXPECT_THROW(source.read_checked("t", {3}), CorruptFile);
    }
  }
}

TEST_F(Safetensors, WhatIsWrittenComesBack) {
  Random random(2);
  std::vector<float> a(35), b(8);
  for (float& x : a) x = random.normal();
  for (float& x : b) x = random.normal();
  write_safetensors(folder_ / "w.safetensors",
                    {{"a", {5, 7}, a.data()},
                     {"none", {0, 4}, nullptr},
                     {"b", {8}, b.data(), StoredType::kBf16},
                     {"later", {2}, nullptr, StoredType::kF32, [](float* out) { out[0] = 1, out[1] = 2; }}},
                    {{"made_by", "a test"}});
  const SafetensorsSource source({folder_ / "w.safetensors"});
  EXPECT_EQ(source.names(), (std::vector<std::string>{"a", "b", "later", "none"}));
  EXPECT_EQ(source.read_checked("a", {5, 7}), a);
  for (float& x : b) x = bf16_to_float(float_to_bf16(x));
  EXPECT_EQ(source.read_checked("b", {8}), b);
  EXPECT_EQ(source.read_checked("later", {2}), (std::vector<float>{1, 2}));
  EXPECT_EQ(source.metadata().at("made_by"), "a test");
  // The data begin at a multiple of eight, as other readers like it.
  uint64_t size = 0;
  std::memcpy(&size, read_text_file(folder_ / "w.safetensors").data(), 8);
  EXPECT_EQ(size % 8, 0u);
}

// A model in two shards: the index names files of its own folder, all of which must be there.
TEST_F(Safetensors, ShardsAreWhatTheirIndexSays) {
  const fs::path model = fs::path(ESPALIER_TEST_DATA) / "models" / "stories260K";
  const SafetensorsSource whole_model({model / "model.safetensors"});
  for (const auto& part : fs::directory_iterator(model)) {
    if (part.path().extension() != ".safetensors") fs::copy(part.path(), folder_ / part.path().filename());
  }
  std::vector<std::vector<float>> values;
  std::vector<TensorToWrite> shards[2];
  std::string map;
  const std::vector<std::string> names = whole_model.names();
  for (size_t i = 0; i < names.size(); ++i) {
    const TensorInfo& info = *whole_model.find(names[i]);
    values.push_back(whole_model.read_checked(names[i], info.shape));
    shards[i % 2].push_back({names[i], info.shape, values.back().data()});
    map += (i ? ",\"" : "\"") + names[i] + "\":\"" + (i % 2 ? "two" : "one") + ".safetensors\"";
  }
  write_safetensors(folder_ / "one.safetensors", shards[0]);
  write_safetensors(folder_ / "two.safetensors", shards[1]);
  const fs::path index = folder_ / "model.safetensors.index.json";
  write_file(index, "{\"weight_map\":{" + map + "}}");
  const ModelFiles files = open_model(folder_);
  EXPECT_EQ(files.weights.size(), 2u);
  for (const std::string& name : names) {
    EXPECT_EQ(files.tensors->read_checked(name, whole_model.find(name)->shape),
              whole_model.read_checked(name, whole_model.find(name)->shape));
  }
  const auto expect_refused = [&](const std::string& json, const std::string& part) {
    write_file(index, json);
    try {
      open_model(folder_);
      ADD_FAILURE() << json.substr(0, 100);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  for (const char* file : {"\"../one.safetensors\"", "\"/etc/passwd\"", "\"\"", "3", "null", "\"a/b\""}) {
    expect_refused("{\"weight_map\":{\"odd.weight\":" + std::string(file) + "," + map + "}}", "odd.weight");
  }
  expect_refused("{\"weight_map\":{\"a\":\"three.safetensors\"," + map + "}}", "three.safetensors");
  expect_refused("{\"weight_map\":[]}", "weight_map");
  expect_refused("{}", "weight_map");
  write_safetensors(folder_ / "two.safetensors", shards[0]);  // each tensor twice
  expect_refused("{\"weight_map\":{" + map + "}}", "two.safetensors");
}

}  // namespace
}  // namespace espalier
