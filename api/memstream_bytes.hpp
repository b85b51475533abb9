// How values of C++ become bytes and come back. A part of memstream.hpp, which includes it.
#ifndef MEMSTREAM_MEMSTREAM_BYTES_HPP
#define MEMSTREAM_MEMSTREAM_BYTES_HPP

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "memstream_result.hpp"

namespace memstream {
inline namespace cxx1 {

// A type whose values are their bytes: numbers, enums, structs and arrays of them. Pointers, spans and string_views are
// not: what they point to is in one process.
//
// The bytes are those of this compiler and this machine, padding included. All processes need the same definition.
template <class T>
concept Plain =
    std::is_trivially_copyable_v<T> && std::default_initializable<T> && !std::is_const_v<T> && !std::is_pointer_v<T> &&
    !std::is_member_pointer_v<T> && !std::is_null_pointer_v<T> && !std::is_array_v<T> && !std::ranges::view<T>;

namespace detail {

template <class T>
inline constexpr bool kIsPlainVector = false;
template <class T, class Allocator>
inline constexpr bool kIsPlainVector<std::vector<T, Allocator>> = Plain<T> && !std::same_as<T, bool>;

template <class T>
concept Text = std::convertible_to<const T&, std::string_view>;

template <class T>
concept PlainRange = !Text<T> && std::ranges::contiguous_range<const T> && std::ranges::sized_range<const T> &&
                     Plain<std::remove_cv_t<std::ranges::range_value_t<const T>>>;

}  // namespace detail

// What a get can return: a plain type, a std::string, or a std::vector of a plain type.
template <class T>
concept Value = Plain<T> || std::same_as<T, std::string> || detail::kIsPlainVector<T>;

// The bytes of a value to store: of a text, of a contiguous range of plain elements, or of a plain object.
//
// A text is what converts to std::string_view. A literal is stored without its NUL. The object must outlive the call.
class Bytes {
 public:
  template <detail::Text T>
  Bytes(const T& text) noexcept  // NOLINT(google-explicit-constructor): made for calls.
      : bytes_(std::as_bytes(std::span(static_cast<std::string_view>(text)))) {}
  template <detail::PlainRange T>
  Bytes(const T& range) noexcept  // NOLINT(google-explicit-constructor)
      : bytes_(std::as_bytes(std::span(std::ranges::data(range), std::ranges::size(range)))) {}
  template <class T>
  requires(Plain<T> && !detail::Text<T> && !detail::PlainRange<T>) Bytes(const T& object)
  noexcept  // NOLINT(google-explicit-constructor)
      : bytes_(std::as_bytes(std::span(&object, 1))) {}

  const std::byte* data() const noexcept { return bytes_.data(); }
  std::size_t size() const noexcept { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
};

namespace detail {

inline Error wrong_size(std::size_t size, std::size_t expected, const char* rule) {
  return {kWrongSize, "Invalid size of the value, " + std::to_string(size) + " bytes: expected " + rule +
                          std::to_string(expected) + ". Ask for the type that was stored, or for a std::string."};
}

// The value that these bytes are.
template <Value T>
Result<T> decode(std::span<const std::byte> bytes) {
  if constexpr (Plain<T>) {
    if (bytes.size() != sizeof(T)) return wrong_size(bytes.size(), sizeof(T), "");
    Result<T> result{Unfilled{}};
    std::memcpy(&*result, bytes.data(), sizeof(T));
    return result;
  } else {
    using Element = typename T::value_type;
    if (bytes.size() % sizeof(Element) != 0) return wrong_size(bytes.size(), sizeof(Element), "a multiple of ");
    T value(bytes.size() / sizeof(Element), Element{});
    if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), bytes.size());
    return value;
  }
}

// Refuses a duration that the C interface cannot express.
inline std::optional<Error> refuse_negative(const char* name, std::chrono::milliseconds duration) {
  if (duration.count() >= 0) return std::nullopt;
  return Error(CACHE_INVALID, std::string("Invalid ") + name + " '" + std::to_string(duration.count()) +
                                  " ms': expected 0 or more milliseconds. Compute the duration again.");
}

inline std::uint64_t count_of(std::chrono::milliseconds duration) noexcept {
  return static_cast<std::uint64_t>(duration.count());
}

}  // namespace detail
}  // namespace cxx1
}  // namespace memstream

#endif
