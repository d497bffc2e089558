// Ctrl-C: long work looks at a flag and ends cleanly.
#pragma once

#include <atomic>

namespace espalier {

// Set by Ctrl-C after install_interrupt(), which also clears it; a second Ctrl-C ends the program at once.
const std::atomic<bool>& interrupted();
void install_interrupt();
// Ctrl-C ends the program at once again.
void restore_interrupt();

}  // namespace espalier
