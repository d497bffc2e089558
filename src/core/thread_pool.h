// A pool of threads that share one job at a time.
//
// The caller is worker 0. Every worker begins with a share of tasks that follow each other, so that it goes through
// memory in its order, and then takes others' last tasks one by one: a worker that loses its core delays one task, not
// its share, and one that does not come delays nothing. Idle workers spin for some microseconds, then sleep. Every
// worker (and the caller, while a job runs) computes with flush-to-zero, denormals-are-zero and round-to-nearest; the
// caller's own setting is restored.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace espalier {

class ThreadPool {
 public:
  // `threads` >= 1 counts the caller; throws InvalidArgument otherwise.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls body(task, worker) once for every task in [0, tasks); worker in [0, size()). Returns when
  // all are done. The first exception of a body is rethrown here. Not reentrant.
  template <class Body>
  void run(int64_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_erased(
        tasks, [](void* context, int64_t task, int worker) { (*static_cast<Plain*>(context))(task, worker); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Function = void (*)(void* context, int64_t task, int worker);
  void run_erased(int64_t tasks, Function function, void* context);

  struct Shared;
  std::unique_ptr<Shared> shared_;
};

// Sets flush-to-zero, denormals-are-zero and round-to-nearest for a scope.
class FloatEnvironment {
 public:
  FloatEnvironment();
  ~FloatEnvironment();
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  uint64_t saved_;
};

}  // namespace espalier
