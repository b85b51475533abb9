// Checks of arguments and conversions of results, for every function of the full C interface.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "api/memstream.h"
#include "core/cache/cache.h"

namespace memstream {

// The longest wait, in milliseconds: longer than any caller waits, and small enough to add to a point in time without
// overflow.
inline constexpr uint64_t kLongestWaitMs = uint64_t{1} << 40;

// The errors of require() and require_bytes().
[[gnu::cold]] inline Status missing_pointer(const char* names) noexcept {
  return fail_without_throwing(Status::kInvalid,
                               [&] { return fmt::format("Invalid argument NULL: expected pointers for {}.", names); });
}
[[gnu::cold]] inline Status missing_bytes(const char* name, std::size_t size_bytes) noexcept {
  return fail_without_throwing(Status::kInvalid, [&] {
    return fmt::format("Invalid {} NULL: expected a pointer to {} bytes.", name, size_bytes);
  });
}

// kInvalid, naming the arguments, if one of `pointers` is NULL.
template <class... Pointers>
inline Status require(const char* names, const Pointers*... pointers) noexcept {
  const bool is_one_missing = ((pointers == nullptr) || ...);
  if (is_one_missing) [[unlikely]]
    return missing_pointer(names);
  return Status::kOk;
}

// kInvalid if `bytes` is NULL and there are any.
inline Status require_bytes(const char* name, const void* bytes, std::size_t size_bytes) noexcept {
  if (bytes == nullptr && size_bytes != 0) [[unlikely]]
    return missing_bytes(name, size_bytes);
  return Status::kOk;
}

inline std::string_view bytes_of(const void* bytes, std::size_t size_bytes) {
  return {static_cast<const char*>(bytes), size_bytes};
}

inline memstream_meta_t meta_of(const Cache& cache, const ReadResult& read) {
  return {.cas = read.cas ^ cache.token_salt(),
          .created_at_ms = cache.to_unix_ms(read.created_ms),
          .expires_at_ms = read.expires_ms == 0 ? 0 : cache.to_unix_ms(read.expires_ms),
          .flags = static_cast<std::uint32_t>(read.caller_flags),
          .reserved = 0};
}

}  // namespace memstream
