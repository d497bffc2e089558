#include "core/thread_pool.h"

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
#else
  std::this_thread::yield();
#endif
}

constexpr uint64_t kLowHalf = 0xffffffff;
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

}  // namespace

struct ThreadPool::Shared {
  // Workers look for tasks whenever `job` changes.
  alignas(kLine) std::atomic<uint32_t> job{0};
  // The current job's number in the high half, how many of its tasks are not claimed yet in the low half. Who claims
  // one may read the job's fields below: the caller changes them only when all claimed tasks are done.
  alignas(kLine) std::atomic<uint64_t> unclaimed{0};
  alignas(kLine) std::atomic<int64_t> done{0};  // tasks of the current job
  alignas(kLine) std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  int64_t tasks = 0;
  Function function = nullptr;
  void* context = nullptr;
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  // Claims and runs tasks until there are none.
  void work(int worker) {
    for (uint64_t seen = unclaimed.load(std::memory_order_relaxed); (seen & kLowHalf) != 0;) {
      if (!unclaimed.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_relaxed)) {
        continue;
      }
      run(tasks - static_cast<int64_t>(seen & kLowHalf), worker);
      seen = unclaimed.load(std::memory_order_relaxed);
    }
  }

  void run(int64_t task, int worker) {
    // Once this task counts as done, the caller may go on to the next job and its number of tasks.
    const int64_t all = tasks;
    try {
      if (!failed.load(std::memory_order_relaxed)) function(context, task, worker);
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

ThreadPool::ThreadPool(int threads) : shared_(std::make_unique<Shared>()) {
  if (threads < 1) throw InvalidArgument(error_text("threads", "1 or more", std::to_string(threads)));
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
  ESPALIER_CHECK(tasks <= static_cast<int64_t>(kLowHalf));
  shared.tasks = tasks;
  shared.function = function;
  shared.context = context;
  shared.done.store(0, std::memory_order_relaxed);
  shared.failed.store(false, std::memory_order_relaxed);
  const uint64_t number = (shared.unclaimed.load(std::memory_order_relaxed) >> 32) + 1;
  shared.unclaimed.store(number << 32 | static_cast<uint64_t>(tasks), std::memory_order_release);
  shared.job.fetch_add(1, std::memory_order_release);
  shared.job.notify_all();
  shared.work(0);
  const auto finished = [&] { return shared.done.load(std::memory_order_acquire) == tasks; };
  if (!spin_until(finished)) {
    for (int64_t done = shared.done.load(std::memory_order_acquire); done != tasks;
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
  saved_ = _mm_getcsr();
  constexpr unsigned kRounding = 0x6000u, kFlushToZero = 0x8000u, kDenormalsAreZero = 0x0040u;
  _mm_setcsr((saved_ & ~kRounding) | kFlushToZero | kDenormalsAreZero);
#else
  saved_ = 0;
#endif
}

FloatEnvironment::~FloatEnvironment() {
#if defined(__x86_64__)
  _mm_setcsr(saved_);
#endif
}

}  // namespace espalier
