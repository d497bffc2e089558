#include <ATen/Parallel.h>
#include <malloc.h>

#include <thread>

#include "training/verbs/verbs.h"

namespace espalier {
int training_threads(int threads) {
  return threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency());
}

void set_up_training(int threads) {
  at::set_num_threads(training_threads(threads));
  // Large tensors come and go in every step: keep their memory instead of asking the kernel again. 32 MiB is the
  // greatest threshold that glibc takes.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace espalier
