// Lock contracts that clang checks at compile time (-Wthread-safety); other compilers see nothing of them.
#pragma once

#if defined(__clang__)
#define MEMSTREAM_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define MEMSTREAM_THREAD_ATTRIBUTE(x)
#endif

// A class whose objects are what a thread holds.
#define MEMSTREAM_CAPABILITY(name) MEMSTREAM_THREAD_ATTRIBUTE(capability(name))
// A function whose caller must hold it, before and after.
#define MEMSTREAM_REQUIRES(...) MEMSTREAM_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
// A function that gives it up.
#define MEMSTREAM_RELEASE(...) MEMSTREAM_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
// A function after which the caller is known to hold it.
#define MEMSTREAM_ASSERT_HELD(...) MEMSTREAM_THREAD_ATTRIBUTE(assert_capability(__VA_ARGS__))
// A function whose own body clang does not follow, since the lock is none that clang knows.
#define MEMSTREAM_NOT_ANALYSED MEMSTREAM_THREAD_ATTRIBUTE(no_thread_safety_analysis)
