#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <pmmintrin.h>
#endif

namespace espalier {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#else
  std::this_thread::yield();
#endif
}

constexpr int64_t kMostUnits = 0xffff;
constexpr size_t kLine = 64;  // what threads write stands in cache lines of its own

// How long an idle worker looks for a job before it sleeps, and the caller for the last worker's end.
constexpr std::chrono::microseconds kSpin{60};

// Spins until done() or the time is over; true when done.
template <class Done>
bool spin_until(Done&& done) {
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause_briefly();
    }
    if (std::chrono::steady_clock::now() - start > kSpin) return done();
  }
}

// Units [begin, end) of a worker's share that nobody has claimed yet, and the number of their job, in one word. A unit
// is a task, or some in a row where there are very many.
struct Share {
  uint32_t job;
  uint16_t begin, end;

  static Share of(uint64_t word) {
    return {static_cast<uint32_t>(word >> 32), static_cast<uint16_t>(word >> 16), static_cast<uint16_t>(word)};
  }
  uint64_t word() const { return uint64_t{job} << 32 | uint64_t{begin} << 16 | end; }
};

struct alignas(kLine) SharedWord {
  std::atomic<uint64_t> word{0};
};

}  // namespace

struct ThreadPool::Shared {
  explicit Shared(int threads) : shares(static_cast<size_t>(threads)) {}

  // Workers look for tasks whenever `job` changes.
  alignas(kLine) std::atomic<uint32_t> job{0};
  alignas(kLine) std::atomic<int64_t> done{0};  // units of the current job
  alignas(kLine) std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  // One for each worker. Who claims a unit may read the job's fields below: the caller changes them only when all
  // claimed units are done.
  std::vector<SharedWord> shares;
  uint32_t number = 0;
  int64_t tasks = 0, units = 0, tasks_per_unit = 1;
  Function function = nullptr;
  void* context = nullptr;
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  // Claims and runs units until there are none: the first ones of its own share, then the last ones of others'.
  void work(int worker) {
    const int all = static_cast<int>(shares.size());
    for (int next = 0; next < all; ++next) {
      const int owner = (worker + next) % all;
      std::atomic<uint64_t>& share = shares[static_cast<size_t>(owner)].word;
      for (uint64_t seen = share.load(std::memory_order_relaxed);;) {
        const Share left = Share::of(seen);
        if (left.begin == left.end) break;
        Share after = left;
        const uint16_t unit = owner == worker ? after.begin++ : --after.end;
        if (!share.compare_exchange_weak(seen, after.word(), std::memory_order_acq_rel, std::memory_order_relaxed)) {
          continue;
        }
        run(unit, worker);
        seen = share.load(std::memory_order_relaxed);
      }
    }
  }

  void run(int64_t unit, int worker) {
    // Once this unit counts as done, the caller may go on to the next job and its numbers.
    const int64_t all = units, begin = unit * tasks_per_unit, end = std::min(tasks, begin + tasks_per_unit);
    try {
      for (int64_t task = begin; task < end && !failed.load(std::memory_order_relaxed); ++task) {
        function(context, task, worker);
      }
    } catch (...) {
      const std::scoped_lock lock(error_mutex);
      if (!error) error = std::current_exception();
      failed.store(true, std::memory_order_relaxed);
    }
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == all) done.notify_one();
  }

  void loop(int worker) {
    const FloatEnvironment environment;
    uint32_t seen = 0;
    for (;;) {
      if (!spin_until([&] { return job.load(std::memory_order_acquire) != seen; })) {
        job.wait(seen, std::memory_order_acquire);
      }
      seen = job.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return;
      work(worker);
    }
  }
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1) throw InvalidArgument(error_text("threads", "1 or more", std::to_string(threads)));
  shared_ = std::make_unique<Shared>(threads);
  for (int worker = 1; worker < threads; ++worker) {
    shared_->workers.emplace_back([shared = shared_.get(), worker] { shared->loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  shared_->stop.store(true, std::memory_order_relaxed);
  shared_->job.fetch_add(1, std::memory_order_release);
  shared_->job.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
}

int ThreadPool::size() const {
  return static_cast<int>(shared_->workers.size()) + 1;
}

void ThreadPool::run_erased(int64_t tasks, Function function, void* context) {
  const FloatEnvironment environment;
  if (shared_->workers.empty() || tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) function(context, task, 0);
    return;
  }
  Shared& shared = *shared_;
  shared.tasks = tasks;
  shared.tasks_per_unit = (tasks + kMostUnits - 1) / kMostUnits;
  shared.units = (tasks + shared.tasks_per_unit - 1) / shared.tasks_per_unit;
  shared.function = function;
  shared.context = context;
  shared.done.store(0, std::memory_order_relaxed);
  shared.failed.store(false, std::memory_order_relaxed);
  ++shared.number;
  const int64_t units = shared.units;
  for (int64_t w = 0; w < size(); ++w) {
    const Share share{shared.number, static_cast<uint16_t>(units * w / size()),
                      static_cast<uint16_t>(units * (w + 1) / size())};
    shared.shares[static_cast<size_t>(w)].word.store(share.word(), std::memory_order_release);
  }
  shared.job.fetch_add(1, std::memory_order_release);
  shared.job.notify_all();
  shared.work(0);
  const auto finished = [&] { return shared.done.load(std::memory_order_acquire) == units; };
  if (!spin_until(finished)) {
    for (int64_t done = shared.done.load(std::memory_order_acquire); done != units;
         done = shared.done.load(std::memory_order_acquire)) {
      shared.done.wait(done, std::memory_order_acquire);
    }
  }
  if (shared.error) {
    const std::exception_ptr error = std::exchange(shared.error, nullptr);
    std::rethrow_exception(error);
  }
}

FloatEnvironment::FloatEnvironment() {
#if defined(__x86_64__)
  const unsigned saved = _mm_getcsr();
  constexpr unsigned kRounding = 0x6000u, kFlushToZero = 0x8000u, kDenormalsAreZero = 0x0040u;
  _mm_setcsr((saved & ~kRounding) | kFlushToZero | kDenormalsAreZero);
  saved_ = saved;
#elif defined(__aarch64__)
  constexpr uint64_t kRounding = 0x00c00000u, kFlushToZero = 0x01000000u;  // of inputs, too
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" : : "r"((saved_ & ~kRounding) | kFlushToZero) : "memory");
#else
  saved_ = 0;
#endif
}

FloatEnvironment::~FloatEnvironment() {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<unsigned>(saved_));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" : : "r"(saved_) : "memory");
#endif
}

}  // namespace espalier
