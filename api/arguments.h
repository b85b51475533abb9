// What every function of the full C interface does first and last: checking pointers, translating results.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string_view>

#include "api/memstream.h"
#include "core/cache.h"

namespace memstream {

// kInvalid, naming the arguments, if one of `pointers` is NULL.
template <class... Pointers>
Status require(const char* names, const Pointers*... pointers) {
  if (((pointers != nullptr) && ...)) [[likely]]
    return Status::kOk;
  return fail(Status::kInvalid, fmt::format("NULL where a pointer is needed: one of {}.", names));
}

// Bytes may be NULL only if there are none.
inline Status require_bytes(const char* name, const void* bytes, std::size_t size_bytes) {
  if (bytes != nullptr || size_bytes == 0) [[likely]]
    return Status::kOk;
  return fail(Status::kInvalid, fmt::format("{} is NULL, but its size is {}.", name, size_bytes));
}

inline std::string_view bytes_of(const void* bytes, std::size_t size_bytes) {
  return {static_cast<const char*>(bytes), size_bytes};
}

inline memstream_meta_t meta_of(const Cache& cache, const ReadResult& read) {
  return {.cas = read.cas,
          .created_at_ms = cache.to_unix_ms(read.created_ms),
          .expires_at_ms = read.expires_ms == 0 ? 0 : cache.to_unix_ms(read.expires_ms),
          .flags = read.caller_flags,
          .reserved = 0};
}

}  // namespace memstream
