// What a thread does between two looks at a word that another thread is about to change.
#pragma once

namespace memstream {

// Gives the processor's other thread the room for a moment. Sleeps for no time.
inline void pause_processor() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace memstream
