// Every task of every job runs once, whoever comes, fails or is late.
#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/error.h"

namespace espalier {
namespace {

TEST(ThreadPool, RunsEachTaskOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (int64_t job = 0; job < 3000; ++job) {
      const int64_t tasks = job % 23;
      std::vector<std::atomic<int>> ran(static_cast<size_t>(tasks));
      pool.run(tasks, [&](int64_t task, int worker) {
        EXPECT_TRUE(worker >= 0 && worker < threads);
        ++ran[static_cast<size_t>(task)];
      });
      for (const std::atomic<int>& count : ran) ASSERT_EQ(count, 1) << threads << " threads, " << tasks << " tasks";
    }
  }
  EXPECT_THROW(ThreadPool(0), InvalidArgument);
}

TEST(ThreadPool, TakesMoreTasksThanAShareCounts) {
  for (const int64_t tasks : {65534, 65535, 65536, 200'001}) {
    ThreadPool pool(3);
    std::vector<std::atomic<int>> ran(static_cast<size_t>(tasks));
    pool.run(tasks, [&](int64_t task, int) { ++ran[static_cast<size_t>(task)]; });
    for (const std::atomic<int>& count : ran) ASSERT_EQ(count, 1) << tasks;
  }
}

TEST(ThreadPool, EndsAJobThatFailedAndGoesOn) {
  ThreadPool pool(3);
  for (int64_t bad = 0; bad < 40; ++bad) {
    EXPECT_THROW(pool.run(40,
                          [&](int64_t task, int) {
                            if (task == bad) throw std::runtime_error("task");
                          }),
                 std::runtime_error);
    std::atomic<int> ran{0};
    pool.run(40, [&](int64_t, int) { ++ran; });
    EXPECT_EQ(ran, 40);
  }
}

// Workers that lose their processor, and sleep between jobs.
TEST(ThreadPool, WaitsForTheLateAndWorksOnAlone) {
  ThreadPool pool(3);
  std::vector<std::thread> others;
  std::atomic<bool> stop{false};
  for (int i = 0; i < 6; ++i) {
    others.emplace_back([&] {
      while (!stop) {
      }
    });
  }
  for (int job = 0; job < 200; ++job) {
    std::atomic<int64_t> sum{0};
    pool.run(50, [&](int64_t task, int) {
      if (job % 50 == 7 && task == 49) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      sum += task;
    });
    EXPECT_EQ(sum, 49 * 50 / 2);
    if (job % 40 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  stop = true;
  for (std::thread& other : others) other.join();
}

}  // namespace
}  // namespace espalier
