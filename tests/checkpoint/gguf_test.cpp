// GGUF files as such: a good one, then every way in which one thing of it can be wrong. What the metadata of a model
// mean is another matter.
#include "checkpoint/gguf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>

#include "core/error.h"
#include "core/rng.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}
std::string text(const std::string& value) {
  return raw<uint64_t>(value.size()) + value;
}

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> extents;  // innermost first
  uint32_t type = 0;              // F32
  uint64_t offset = 0;
};

// A file in the order in which it is written, with what may be wrong about it.
struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  int64_t more_tensors = 0, more_values = 0;  // than are there
  std::vector<std::string> values;            // key, kind, value
  std::vector<GgufTensor> tensors;
  size_t alignment = 32;
  size_t data_bytes = 96;

  // Up to the data.
  std::string head() const {
    std::string bytes = magic + raw(version) + raw<uint64_t>(tensors.size() + static_cast<size_t>(more_tensors)) +
                        raw<uint64_t>(values.size() + static_cast<size_t>(more_values));
    for (const std::string& value : values) bytes += value;
    for (const GgufTensor& tensor : tensors) {
      bytes += text(tensor.name) + raw<uint32_t>(static_cast<uint32_t>(tensor.extents.size()));
      for (const uint64_t extent : tensor.extents) bytes += raw(extent);
      bytes += raw(tensor.type) + raw(tensor.offset);
    }
    return bytes;
  }
  std::string whole() const {
    std::string bytes = head();
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
    for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
    return bytes;
  }
};

std::string value_of(const std::string& key, uint32_t kind, const std::string& bytes) {
  return text(key) + raw(kind) + bytes;
}

GgufBytes good_file() {
  GgufBytes file;
  file.values = {value_of("name", 8, text("a model")), value_of("count", 4, raw<uint32_t>(7)),
                 value_of("list", 9, raw<uint32_t>(8) + raw<uint64_t>(2) + text("x") + text("yz"))};
  file.tensors = {{"first", {3, 2}, 0, 0}, {"second", {32}, 2, 32}, {"third", {4}, 0, 64}};  // the second is Q4_0
  file.data_bytes = 64 + 16;
  return file;
}

class Gguf : public ::testing::Test {
 protected:
  Gguf() {
    std::string name = (fs::temp_directory_path() / "espalier-gguf-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Gguf() override { fs::remove_all(folder_); }

  GgufFile open(const std::string& bytes) const {
    fs::remove(folder_ / "f.gguf");
    std::ofstream(folder_ / "f.gguf", std::ios::binary) << bytes;  // nothing that need reach the disk
    return GgufFile(folder_ / "f.gguf");
  }
  // CorruptFile that names the file and the field.
  void expect_corrupt(const std::string& bytes, const std::string& field) const {
    try {
      open(bytes);
      ADD_FAILURE() << "accepted, although wrong: " << field;
    } catch (const CorruptFile& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find("f.gguf: "), std::string::npos) << message;
      EXPECT_NE(message.find(field), std::string::npos) << field << ": " << message;
    }
  }
  template <class Change>
  void expect_changed_corrupt(Change&& change, const std::string& field) const {
    GgufBytes file = good_file();
    change(file);
    expect_corrupt(file.whole(), field);
  }

  fs::path folder_;
};

TEST_F(Gguf, AGoodFileIsReadAsItStands) {
  for (const uint32_t version : {2, 3}) {
    GgufBytes bytes = good_file();
    bytes.version = version;
    const GgufFile file = open(bytes.whole());
    EXPECT_EQ(file.text("name", ""), "a model");
    EXPECT_EQ(file.integer("count", 0), 7);
    EXPECT_EQ(file.list<std::string>("list"), (std::vector<std::string>{"x", "yz"}));
    ASSERT_EQ(file.tensors().size(), 3u);
    const GgufFile::Tensor& first = file.tensors().at("first");
    EXPECT_EQ(first.info.shape, (std::vector<int64_t>{2, 3}));  // outermost first
    EXPECT_EQ(first.bytes, 24u);
    EXPECT_EQ(static_cast<int>(first.data[0]), 0);
    EXPECT_EQ(file.tensors().at("second").bytes, 18u);
    EXPECT_EQ(static_cast<int>(file.tensors().at("second").data[0]), 32);
    EXPECT_EQ(static_cast<int>(file.tensors().at("third").data[15]), 79);  // the file's last byte
  }
}

TEST_F(Gguf, EveryKindOfValueIsRead) {
  GgufBytes bytes;
  bytes.data_bytes = 0;
  const auto list = [](uint32_t kind, uint64_t size, const std::string& items) {
    return raw(kind) + raw(size) + items;
  };
  bytes.values = {value_of("u8", 0, raw<uint8_t>(255)),
                  value_of("i8", 1, raw<int8_t>(-128)),
                  value_of("u16", 2, raw<uint16_t>(65535)),
                  value_of("i16", 3, raw<int16_t>(-32768)),
                  value_of("u32", 4, raw<uint32_t>(4294967295u)),
                  value_of("i32", 5, raw<int32_t>(-2147483647)),
                  value_of("f32", 6, raw(1.5f)),
                  value_of("yes", 7, raw<uint8_t>(1)),
                  value_of("no", 7, raw<uint8_t>(0)),
                  value_of("text", 8, text(std::string("a\0b", 3))),
                  value_of("u64", 10, raw<uint64_t>(1) + ""),
                  value_of("i64", 11, raw<int64_t>(-5)),
                  value_of("f64", 12, raw(-2.25)),
                  value_of("u8s", 9, list(0, 2, raw<uint8_t>(200) + raw<uint8_t>(1))),
                  value_of("i8s", 9, list(1, 2, raw<int8_t>(-1) + raw<int8_t>(127))),
                  value_of("u64s", 9, list(10, 1, raw(uint64_t{1} << 40))),
                  value_of("i32s", 9, list(5, 2, raw<int32_t>(-1) + raw<int32_t>(2))),
                  value_of("f32s", 9, list(6, 1, raw(0.5f))),
                  value_of("f64s", 9, list(12, 1, raw(0.25))),
                  value_of("flags", 9, list(7, 2, raw<uint8_t>(0) + raw<uint8_t>(1))),
                  value_of("none", 9, list(8, 0, ""))};
  const GgufFile file = open(bytes.whole());
  EXPECT_EQ(file.integer("u8", 0), 255);
  EXPECT_EQ(file.integer("i8", 0), -128);
  EXPECT_EQ(file.integer("u16", 0), 65535);
  EXPECT_EQ(file.integer("i16", 0), -32768);
  EXPECT_EQ(file.integer("u32", 0), 4294967295);
  EXPECT_EQ(file.integer("i32", 0), -2147483647);
  EXPECT_EQ(file.number("f32", 0), 1.5);
  EXPECT_TRUE(file.flag("yes", false));
  EXPECT_FALSE(file.flag("no", true));
  EXPECT_EQ(file.text("text", ""), std::string("a\0b", 3));
  EXPECT_EQ(file.integer("u64", 0), 1);
  EXPECT_EQ(file.integer("i64", 0), -5);
  EXPECT_EQ(file.number("f64", 0), -2.25);
  EXPECT_EQ(file.list<int64_t>("u8s"), (std::vector<int64_t>{200, 1}));
  EXPECT_EQ(file.list<int64_t>("i8s"), (std::vector<int64_t>{-1, 127}));
  EXPECT_EQ(file.list<int64_t>("u64s"), (std::vector<int64_t>{int64_t{1} << 40}));
  EXPECT_EQ(file.list<int64_t>("i32s"), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(file.list<double>("f32s"), (std::vector<double>{0.5}));
  EXPECT_EQ(file.list<double>("f64s"), (std::vector<double>{0.25}));
  EXPECT_EQ(file.list<int64_t>("flags"), (std::vector<int64_t>{0, 1}));
  EXPECT_TRUE(file.list<std::string>("none").empty());
  // What is not there has the default; another kind is an error that names the key.
  EXPECT_EQ(file.integer("nothing", 42), 42);
  EXPECT_EQ(file.number("nothing", 4.5), 4.5);
  EXPECT_TRUE(file.flag("nothing", true));
  EXPECT_EQ(file.text("nothing", "d"), "d");
  EXPECT_EQ(file.find("nothing"), nullptr);
  EXPECT_THROW(file.required("nothing"), CorruptFile);
  EXPECT_NO_THROW(file.required("u8"));
  for (const auto& wrong :
       {+[](const GgufFile& f) { f.integer("f32", 0); }, +[](const GgufFile& f) { f.flag("f32", 0); },
        +[](const GgufFile& f) { f.text("f32", ""); }, +[](const GgufFile& f) { f.list<double>("f32"); }}) {
    try {
      wrong(file);
      ADD_FAILURE();
    } catch (const CorruptFile& error) {
      EXPECT_NE(std::string(error.what()).find("f32"), std::string::npos);
    }
  }
  EXPECT_THROW(file.number("u8", 0), CorruptFile);
}

TEST_F(Gguf, OneWrongThingIsRefusedByItsName) {
  expect_changed_corrupt([](GgufBytes& f) { f.magic = "GGUE"; }, "magic");
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    expect_changed_corrupt([&](GgufBytes& f) { f.version = version; }, "version");
  }
  // Counts of what is not there: far beyond the file, and by one.
  for (const int64_t more : {int64_t{-1} ^ 7, int64_t{1} << 62, int64_t{1} << 32, int64_t{100}}) {
    expect_changed_corrupt([&](GgufBytes& f) { f.more_tensors = more; }, "tensor count");
    expect_changed_corrupt([&](GgufBytes& f) { f.more_values = more; }, "metadata count");
  }
  GgufBytes more = good_file();
  more.more_tensors = 1;
  EXPECT_THROW(open(more.head()), CorruptFile);
  more = good_file();
  more.more_values = 1;
  EXPECT_THROW(open(more.whole()), CorruptFile);

  const auto value = [&](const std::string& bytes, const std::string& field) {
    expect_changed_corrupt([&](GgufBytes& f) { f.values.push_back(bytes); }, field);
  };
  value(value_of("count", 4, raw<uint32_t>(7)), "each key once");  // the same again
  value(value_of("name", 4, raw<uint32_t>(7)), "name");
  for (const uint32_t kind : {13u, 255u, ~0u}) value(value_of("odd", kind, raw<uint64_t>(0)), "odd");
  value(value_of("odd", 8, raw<uint64_t>(1 << 20) + "short"), "odd length");
  value(value_of("odd", 8, raw(~uint64_t{0})), "odd length");
  value(value_of("odd", 9, raw<uint32_t>(9) + raw<uint64_t>(0)), "odd");  // arrays of arrays
  value(value_of("odd", 9, raw<uint32_t>(13) + raw<uint64_t>(1) + "x"), "odd");
  for (const uint64_t size : {~uint64_t{0}, uint64_t{1} << 61, uint64_t{1} << 40}) {
    for (const uint32_t kind : {0u, 6u, 8u, 10u, 12u}) {
      value(value_of("odd", 9, raw(kind) + raw(size)), "odd size");
    }
  }
  value(raw(~uint64_t{0}), "metadata key length");

  const auto second = [&](auto&& change, const std::string& field = "second") {
    expect_changed_corrupt([&](GgufBytes& f) { change(f.tensors[1]); }, field);
  };
  second([](GgufTensor& t) { t.name = "first"; }, "each name once");
  second([](GgufTensor& t) { t.extents = {}; });
  second([](GgufTensor& t) { t.extents = {32, 1, 1, 1, 1}; });
  second([](GgufTensor& t) { t.extents = {0}; });
  second([](GgufTensor& t) { t.extents = {32, 0}; });
  second([](GgufTensor& t) { t.extents = {~uint64_t{0}}; });
  second([](GgufTensor& t) { t.extents = {uint64_t{1} << 32, uint64_t{1} << 32}; });  // 0 elements in 64 bits
  second([](GgufTensor& t) { t.extents = {uint64_t{1} << 33, 1 << 16, 1 << 15}; });
  second([](GgufTensor& t) { t.extents = {(uint64_t{1} << 40) + 32}; });
  second([](GgufTensor& t) { t.extents = {16}; });  // half a block
  second([](GgufTensor& t) { t.extents = {33}; });
  second([](GgufTensor& t) { t.extents = {64}; }, "third");  // 36 bytes reach into the third
  second([](GgufTensor& t) { t.extents = {96}; });           // beyond the end
  for (const uint64_t offset : {1, 16, 31, 33, 40}) {
    second([&](GgufTensor& t) { t.offset = offset; });  // not aligned
  }
  second([](GgufTensor& t) { t.offset = 0; });  // the first's
  second([](GgufTensor& t) { t.offset = 64; });
  for (const uint64_t offset : {uint64_t{96}, uint64_t{1} << 40, ~uint64_t{0} - 31, uint64_t{1} << 63}) {
    second([&](GgufTensor& t) { t.offset = offset; });
  }
  for (const int64_t alignment : {0, 3, 48, -32, 131072}) {
    expect_changed_corrupt([&](GgufBytes& f) { f.values.push_back(value_of("general.alignment", 11, raw(alignment))); },
                           "general.alignment");
  }
  expect_changed_corrupt([](GgufBytes& f) { f.values.push_back(value_of("general.alignment", 8, text("32"))); },
                         "general.alignment");
  expect_changed_corrupt([](GgufBytes& f) { --f.data_bytes; }, "third");  // its last byte is missing
}

TEST_F(Gguf, IsRefusedWhereverItIsCut) {
  const std::string good = good_file().whole();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(open(good.substr(0, size)), CorruptFile) << size;
  }
}

TEST_F(Gguf, WhatIsUnusualButRightIsRead) {
  EXPECT_NO_THROW(open(good_file().whole() + "more behind the last tensor"));
  GgufBytes bytes = good_file();
  std::swap(bytes.tensors[0], bytes.tensors[2]);  // in another order than their data
  EXPECT_EQ(static_cast<int>(open(bytes.whole()).tensors().at("third").data[0]), 64);
  bytes = good_file();
  bytes.tensors[1].type = 99;  // a type of tomorrow
  EXPECT_EQ(open(bytes.whole()).tensors().at("second").info.shape, (std::vector<int64_t>{32}));
  for (const size_t alignment : {1, 8, 64, 256}) {
    GgufBytes aligned = good_file();
    aligned.alignment = alignment;
    aligned.values.push_back(value_of("general.alignment", 4, raw(static_cast<uint32_t>(alignment))));
    aligned.tensors[1].offset = alignment == 1 ? 25 : (24 + alignment - 1) / alignment * alignment;
    aligned.tensors[2].offset = (aligned.tensors[1].offset + 18 + alignment - 1) / alignment * alignment;
    aligned.data_bytes = aligned.tensors[2].offset + 16;
    const GgufFile file = open(aligned.whole());
    EXPECT_EQ(static_cast<uint8_t>(file.tensors().at("second").data[0]),
              static_cast<uint8_t>(aligned.tensors[1].offset));
  }
  bytes = {};
  bytes.data_bytes = 0;
  EXPECT_TRUE(open(bytes.head()).tensors().empty());
}

// Three tensors of one to three blocks of 32 bytes anywhere in the data, in any order: good are those that share none.
TEST_F(Gguf, EveryOverlapIsRefused) {
  int accepted = 0;
  for (int a = 0; a < 5; ++a) {
    for (int b = 0; b < 5; ++b) {
      for (int c = 0; c < 5; ++c) {
        for (int sizes = 0; sizes < 27; ++sizes) {
          const std::array<int, 3> place = {a, b, c}, blocks = {1 + sizes % 3, 1 + sizes / 3 % 3, 1 + sizes / 9};
          std::array<int, 5> used{};
          bool good = true;
          GgufBytes bytes;
          for (size_t i = 0; i < 3; ++i) {
            bytes.tensors.push_back({std::string(1, static_cast<char>('x' + i)),
                                     {static_cast<uint64_t>(8 * blocks[i])},
                                     0,
                                     static_cast<uint64_t>(32 * place[i])});
            for (int block = place[i]; block < place[i] + blocks[i]; ++block) {
              if (block >= 5) {
                good = false;
              } else {
                good = ++used[static_cast<size_t>(block)] == 1 && good;
              }
            }
          }
          bytes.data_bytes = 5 * 32;
          if (good) {
            EXPECT_NO_THROW(open(bytes.whole()));
            ++accepted;
          } else {
            EXPECT_THROW(open(bytes.whole()), CorruptFile) << a << b << c << " " << sizes;
          }
        }
      }
    }
  }
  EXPECT_GT(accepted, 100);
}

// A tensor whose size nobody knows hides no overlap of two others.
TEST_F(Gguf, UnknownTypesHideNoOverlap) {
  GgufBytes bytes;
  bytes.data_bytes = 160;
  bytes.tensors = {{"unknown", {8}, 99, 0}, {"wide", {32}, 0, 0}, {"inside", {8}, 0, 32}};
  expect_corrupt(bytes.whole(), "inside");
  std::swap(bytes.tensors[1], bytes.tensors[2]);
  expect_corrupt(bytes.whole(), "wide");
}

}  // namespace
}  // namespace espalier
