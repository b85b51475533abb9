// Lock contracts that clang checks at compile time (-Wthread-safety). For other compilers the macros are empty.
#pragma once

#if defined(__clang__)
#define MEMSTREAM_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define MEMSTREAM_THREAD_ATTRIBUTE(x)
#endif

// A class whose objects a thread can hold, such as a lock.
#define MEMSTREAM_CAPABILITY(name) MEMSTREAM_THREAD_ATTRIBUTE(capability(name))
// A function whose caller must hold the object, before and after the call.
#define MEMSTREAM_REQUIRES(...) MEMSTREAM_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
// A class whose objects hold another object as long as they live.
#define MEMSTREAM_SCOPED_CAPABILITY MEMSTREAM_THREAD_ATTRIBUTE(scoped_lockable)
// A function that acquires the object.
#define MEMSTREAM_ACQUIRE(...) MEMSTREAM_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
// A function that releases the object.
#define MEMSTREAM_RELEASE(...) MEMSTREAM_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
// A function that asserts that the caller holds the object.
#define MEMSTREAM_ASSERT_HELD(...) MEMSTREAM_THREAD_ATTRIBUTE(assert_capability(__VA_ARGS__))
// A function whose body clang does not analyse, because clang does not know its lock.
#define MEMSTREAM_NOT_ANALYSED MEMSTREAM_THREAD_ATTRIBUTE(no_thread_safety_analysis)
