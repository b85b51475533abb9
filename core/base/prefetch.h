// Prefetches cache lines. Any address is allowed: the processor ignores one that it cannot load.
#pragma once

namespace memstream {

enum class LineUse { kRead, kWrite };

// kWrite fetches the line for exclusive use, so that the first store to it does not wait again.
template <LineUse kUse>
[[gnu::always_inline]] inline void prefetch_line(const void* address) noexcept {
#if defined(__x86_64__)
  // The compiler's builtin emits the read prefetch unless the whole library is built for newer processors. Processors
  // without this instruction ignore it.
  if constexpr (kUse == LineUse::kWrite) {
    asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
    return;
  }
#endif
  __builtin_prefetch(address, kUse == LineUse::kWrite ? 1 : 0);
}

}  // namespace memstream
