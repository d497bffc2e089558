// Cuts the attention of a step into tasks and runs them.
#pragma once

#include <span>

#include "attention/operator.h"
#include "core/arena.h"
#include "core/thread_pool.h"

namespace espalier {

// Writes `out` of every segment. Tasks are (segment, KV head) for what the rows of a head share, then (segment, KV
// head, rows) for the rows, or (KV head, tile of the past) for all of a tree; no cut changes a bit of the result.
void attend(const Kernels& kernels, ThreadPool& pool, Arena& scratch, const Mechanism& mechanism,
            std::span<const SegmentRows> segments);

// Multiply-adds of one row at `position`, all heads: the fold is read by every query head and written once per KV head,
// rows are scored and summed. Feature maps and gates are left out.
double row_multiply_adds(const StateLayout& layout, const AttentionShape& shape, int64_t position);

}  // namespace espalier
