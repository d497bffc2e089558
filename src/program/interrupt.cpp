#include "program/interrupt.h"

#include <csignal>

namespace espalier {
namespace {

// A signal handler reaches nothing else.
std::atomic<bool> interrupt_flag{false};

void on_interrupt(int) {
  interrupt_flag.store(true, std::memory_order_relaxed);
  std::signal(SIGINT, SIG_DFL);
}

}  // namespace

const std::atomic<bool>& interrupted() {
  return interrupt_flag;
}

void install_interrupt() {
  interrupt_flag = false;
  std::signal(SIGINT, on_interrupt);
}

void restore_interrupt() {
  std::signal(SIGINT, SIG_DFL);
}

}  // namespace espalier
