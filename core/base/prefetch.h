// Asking for cache lines before they are needed. Any address may be named: one that cannot be loaded is left alone.
#pragma once

namespace memstream {

enum class LineUse { kRead, kWrite };

// With kWrite the line comes so that no other processor keeps a copy, and the first store to it need not wait again.
template <LineUse kUse>
[[gnu::always_inline]] inline void prefetch_line(const void* address) noexcept {
#if defined(__x86_64__)
  // Of the compiler it would be the other kind of prefetch, unless the whole library were built for newer processors.
  // Those without this instruction do nothing for it.
  if constexpr (kUse == LineUse::kWrite) {
    asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
    return;
  }
#endif
  __builtin_prefetch(address, kUse == LineUse::kWrite ? 1 : 0);
}

}  // namespace memstream
