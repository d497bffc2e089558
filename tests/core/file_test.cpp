// Files are replaced as a whole or stay as they were, and nothing else lies beside them afterwards.
#include "core/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <set>
#include <stdexcept>

#include "core/error.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  Files() {
    std::string name = (fs::temp_directory_path() / "espalier-files-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Files() override { fs::remove_all(folder_); }

  std::set<std::string> names() const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder_)) all.insert(entry.path().filename().string());
    return all;
  }

  fs::path folder_;
};

using Names = std::set<std::string>;

TEST_F(Files, AreWrittenWholeAndReadWhole) {
  const std::string zeros("a\0b", 3);
  for (const std::string& content : {std::string(), std::string("x"), zeros, std::string(3'000'000, 'y')}) {
    write_file(folder_ / "f", content);
    EXPECT_EQ(read_text_file(folder_ / "f"), content);
    EXPECT_EQ(MappedFile(folder_ / "f").text(), content);
    EXPECT_EQ(MappedFile(folder_ / "f").bytes().size(), content.size());
    EXPECT_EQ(names(), Names{"f"});
  }
  const std::string_view parts[] = {"one", "", "two", "three"};
  write_file(folder_ / "f", parts);
  EXPECT_EQ(read_text_file(folder_ / "f"), "onetwothree");
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644u);  // not the temporary file's 0600
}

TEST_F(Files, KeepTheirOldContentWhenMakingTheNewOneFails) {
  write_file(folder_ / "f", "old");
  EXPECT_THROW(write_file(folder_ / "f",
                          [&](const std::function<void(std::string_view)>& write) {
                            write("new, but not");
                            EXPECT_EQ(read_text_file(folder_ / "f"), "old");  // until all is written
                            EXPECT_EQ(names().size(), 2u);                    // the temporary one stands beside it
                            throw std::runtime_error("no more");
                          }),
               std::runtime_error);
  EXPECT_EQ(read_text_file(folder_ / "f"), "old");
  EXPECT_EQ(names(), Names{"f"});
  EXPECT_THROW(write_file(folder_ / "f", [](const auto&) { throw Internal("no more"); }), Internal);
  EXPECT_EQ(read_text_file(folder_ / "f"), "old");
  EXPECT_EQ(names(), Names{"f"});
}

TEST_F(Files, LeaveNothingWhereTheyCannotBe) {
  fs::create_directories(folder_ / "taken" / "by");  // a folder that holds something cannot be replaced
  try {
    write_file(folder_ / "taken", "x");
    FAIL();
  } catch (const Internal& error) {
    EXPECT_NE(std::string(error.what()).find((folder_ / "taken").string()), std::string::npos) << error.what();
  }
  EXPECT_EQ(names(), Names{"taken"});
  EXPECT_THROW(write_file(folder_ / "none" / "f", "x"), InvalidArgument);
  EXPECT_EQ(names(), Names{"taken"});
}

using FilesDeathTest = Files;

// A limit on the size of files stands for a full disk: write() fails in the middle.
TEST_F(FilesDeathTest, LeaveNothingOnAFullDisk) {
  write_file(folder_ / "f", "old");
  const auto fill_the_disk = [&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &small);
    int code = 1;
    try {
      write_file(folder_ / "f", std::string(100'000, 'z'));
    } catch (const Internal&) {
      code = 0;
    }
    std::_Exit(code);
  };
  EXPECT_EXIT(fill_the_disk(), ::testing::ExitedWithCode(0), "");
  EXPECT_EQ(read_text_file(folder_ / "f"), "old");
  EXPECT_EQ(names(), Names{"f"});
}

TEST_F(Files, AreRefusedWhereThereIsNone) {
  EXPECT_THROW(MappedFile(folder_ / "none"), InvalidArgument);
  EXPECT_THROW(MappedFile{folder_}, InvalidArgument);
  EXPECT_THROW(read_text_file(folder_ / "none"), InvalidArgument);
  EXPECT_THROW(read_text_file("/dev/null"), InvalidArgument);
  write_file(folder_ / "f", "12345");
  EXPECT_EQ(read_text_file(folder_ / "f", 5), "12345");
  EXPECT_THROW(read_text_file(folder_ / "f", 4), InvalidArgument);
}

TEST_F(Files, AreMappedOnceHoweverTheyMove) {
  write_file(folder_ / "f", std::string(20'000, 'm'));
  MappedFile first(folder_ / "f");
  MappedFile second(std::move(first));
  EXPECT_TRUE(first.bytes().empty());  // NOLINT: what is left of it
  MappedFile::release(second.bytes());
  EXPECT_EQ(second.text(), std::string(20'000, 'm'));  // read anew
}

}  // namespace
}  // namespace espalier
