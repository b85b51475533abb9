// The systems that MemStream supports, told to the compiler of another one. CMake compiles this header first and shows
// what it says: cmake/MemstreamPlatform.cmake.
#pragma once

#if !defined(__linux__)
#error "MemStream supports Linux only: it needs robust futexes and /proc. Build it for a Linux with glibc."
#elif !defined(__SIZEOF_POINTER__) || __SIZEOF_POINTER__ != 8
#error "MemStream supports 64-bit systems only: it needs 64-bit atomics. Build it for x86-64 or arm64."
#elif __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "MemStream supports little-endian systems only: its segments are laid out so. Build it for x86-64 or arm64."
#else
#include <features.h>
#if !defined(__GLIBC__)
#error "MemStream supports glibc only: its segments hold the locks of glibc. Build it with glibc."
#endif
#endif
