// Copies share until one of them is written; each then has its own value.
#include "core/copy_on_write.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

namespace espalier {
namespace {

using Numbers = CopyOnWrite<std::vector<int>>;

TEST(CopyOnWrite, CopiesShareUntilOneIsWritten) {
  Numbers a;
  a.write() = {1, 2, 3};
  const int* alone = a->data();
  a.write()[0] = 4;
  EXPECT_EQ(a->data(), alone);  // nobody shares it: not copied
  Numbers b = a;
  EXPECT_TRUE(b.shares_with(a));
  b.write()[1] = 5;
  EXPECT_FALSE(b.shares_with(a));
  EXPECT_EQ(*a, std::vector<int>({4, 2, 3}));
  EXPECT_EQ(*b, std::vector<int>({4, 5, 3}));
  EXPECT_EQ(a->data(), alone);
  {
    const Numbers c = a;
    EXPECT_TRUE(c.shares_with(a));
  }
  a.write()[2] = 6;  // the other has gone
  EXPECT_EQ(a->data(), alone);
}

TEST(CopyOnWrite, MovesAndAssignments) {
  Numbers a;
  a.write() = {1};
  Numbers b = std::move(a);
  EXPECT_EQ(*b, std::vector<int>({1}));
  a = b;
  EXPECT_TRUE(a.shares_with(b));
  const Numbers& self = a;
  a = self;
  EXPECT_EQ(*a, std::vector<int>({1}));
  b = Numbers();
  EXPECT_TRUE(b->empty());
  EXPECT_EQ(*a, std::vector<int>({1}));
}

// Every thread writes and drops copies of its own; what is left is what was there (run under TSan, too).
TEST(CopyOnWrite, ThreadsHaveCopiesOfTheirOwn) {
  Numbers shared;
  shared.write().resize(100);
  std::iota(shared.write().begin(), shared.write().end(), 0);
  std::vector<std::thread> threads;
  std::vector<int> sums(4);
  for (size_t t = 0; t < sums.size(); ++t) {
    threads.emplace_back([copy = shared, &sum = sums[t]]() mutable {
      for (int round = 0; round < 200; ++round) {
        Numbers fork = copy;
        fork.write()[7] += round;
        copy = std::move(fork);
      }
      sum = std::accumulate(copy->begin(), copy->end(), 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int sum : sums) EXPECT_EQ(sum, 99 * 100 / 2 + 199 * 200 / 2);
  EXPECT_EQ((*shared)[7], 7);
}

}  // namespace
}  // namespace espalier
