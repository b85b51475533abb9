// A fence of which one side is free: the side that runs often takes no locked instruction.
//
// Two threads that each store to one word and then load the other's must not both miss the other's store. Usually both
// need a full fence between store and load. Here the frequent side needs none: it keeps its compiler from exchanging
// the two. The rare side asks the kernel (membarrier) to run a full fence on every processor that runs a thread of this
// process at that moment; the other threads pass one when they get a processor again. In each thread that fence lies
// either behind the store, which the rare side then sees, or before the load, which then sees the rare side's store.
#pragma once

#include <atomic>

namespace memstream {

// Readies this process for fence_all_threads(). False if the kernel refuses it, as a kernel before 4.14 or a filter of
// system calls does. Asks the kernel once; with several threads that may take some ms.
bool prepare_process_fence() noexcept;

// The frequent side, between its store and its load.
inline void light_fence() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

// The rare side, between its store and its load. False if the kernel refuses it: then the caller has to do without what
// it would have learnt. REQUIRES: prepare_process_fence() was true, in this process or in one that forked it.
bool fence_all_threads() noexcept;

}  // namespace memstream
