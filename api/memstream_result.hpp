// What calls of memstream.hpp return: a value or an error, as a Result or by an exception. A part of memstream.hpp,
// which includes it.
#ifndef MEMSTREAM_MEMSTREAM_RESULT_HPP
#define MEMSTREAM_MEMSTREAM_RESULT_HPP

#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "memstream.h"

namespace memstream {
// The name of this interface in the symbols of a program. It differs from those of the library's own classes.
inline namespace cxx1 {

// A status of this header alone, beside those of cache_status: the value has another size than the type asked for.
inline constexpr int kWrongSize = -100;

// Why a call did not do what it was asked for.
class Error {
 public:
  // The status of a call that has just failed in this thread, with the message that the library keeps of it.
  static Error of(int status) { return status < 0 ? Error(status, cache_last_error()) : Error(status, std::string()); }
  Error(int status, std::string message) : status_(status), message_(std::move(message)) {}

  // A member of cache_status, or kWrongSize.
  int status() const noexcept { return status_; }
  // Whether it is an expected outcome: CACHE_MISS, CACHE_EXISTS, CACHE_CONFLICT or CACHE_HELD.
  bool is_expected() const noexcept { return status_ > 0; }
  // What was refused, why, and the remedy. Lives as long as the error.
  std::string_view message() const noexcept {
    if (message_.empty()) return cache_strerror(status_);
    return message_;
  }

 private:
  int status_;
  std::string message_;  // Empty for expected outcomes, of which the library keeps none.
};

// An error that is thrown.
class Exception : public std::runtime_error {
 public:
  explicit Exception(Error error) : std::runtime_error(std::string(error.message())), error_(std::move(error)) {}
  const Error& error() const noexcept { return error_; }
  int status() const noexcept { return error_.status(); }

 private:
  Error error_;
};

namespace detail {

// Throws the error. A program without exceptions ends here, with the message.
[[noreturn]] inline void raise(const Error& error) {
#ifdef __cpp_exceptions
  throw Exception(error);
#else
  std::fprintf(stderr, "memstream: %s\n", std::string(error.message()).c_str());
  std::abort();
#endif
}

struct Unfilled {};

}  // namespace detail

// A value or an error, as std::expected of C++23.
//
// operator*, operator-> and error() do not check. value() throws the error.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) noexcept : value_(std::move(value)), status_(CACHE_OK) {}  // NOLINT(google-explicit-constructor)
  Result(Error error) noexcept                                               // NOLINT(google-explicit-constructor)
      : error_(std::move(error)), status_(error_.status()) {}
  // For this header: a value whose bytes the call fills.
  explicit Result(detail::Unfilled) noexcept : status_(CACHE_OK) { ::new (static_cast<void*>(&value_)) T; }
  Result(const Result& other) requires std::copy_constructible<T> : status_(other.status_) {
    if (has_value()) {
      std::construct_at(&value_, other.value_);
    } else {
      std::construct_at(&error_, other.error_);
    }
  }
  Result(Result&& other) noexcept : status_(other.status_) { take(std::move(other)); }
  Result& operator=(Result other) noexcept {
    end();
    status_ = other.status_;
    take(std::move(other));
    return *this;
  }
  ~Result() { end(); }

  bool has_value() const noexcept { return status_ == CACHE_OK; }
  explicit operator bool() const noexcept { return has_value(); }
  // CACHE_OK, or the status of the error.
  int status() const noexcept { return status_; }

  T& operator*() & noexcept { return value_; }
  const T& operator*() const& noexcept { return value_; }
  T&& operator*() && noexcept { return std::move(value_); }
  T* operator->() noexcept { return &value_; }
  const T* operator->() const noexcept { return &value_; }
  // REQUIRES: !has_value().
  const Error& error() const noexcept { return error_; }

  T& value() & { return checked().value_; }
  const T& value() const& { return checked().value_; }
  T&& value() && { return std::move(checked().value_); }
  template <class Other>
  T value_or(Other&& other) const& {
    return has_value() ? value_ : static_cast<T>(std::forward<Other>(other));
  }
  template <class Other>
  T value_or(Other&& other) && {
    return has_value() ? std::move(value_) : static_cast<T>(std::forward<Other>(other));
  }

 private:
  Result& checked() {
    if (!has_value()) detail::raise(error_);
    return *this;
  }
  const Result& checked() const {
    if (!has_value()) detail::raise(error_);
    return *this;
  }
  void take(Result&& other) noexcept {
    if (has_value()) {
      std::construct_at(&value_, std::move(other.value_));
    } else {
      std::construct_at(&error_, std::move(other.error_));
    }
  }
  void end() noexcept {
    if (has_value()) {
      std::destroy_at(&value_);
    } else {
      std::destroy_at(&error_);
    }
  }

  union {
    T value_;
    Error error_;
  };
  int status_;
};

// The result of a call that gives no value.
template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() noexcept = default;
  Result(Error error) noexcept : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const noexcept { return !error_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }
  int status() const noexcept { return error_ ? error_->status() : CACHE_OK; }
  // REQUIRES: !has_value().
  const Error& error() const noexcept { return *error_; }
  void value() const {
    if (error_) detail::raise(*error_);
  }

 private:
  std::optional<Error> error_;
};

// How a cache tells what happened: everything in a Result. The face of Cache.
struct Results {
  template <class T>
  using Maybe = Result<T>;
  template <class T>
  using Sure = Result<T>;

  template <class Call>
  static auto maybe(Call&& call) {
    return call();
  }
  template <class Call>
  static auto sure(Call&& call) {
    return call();
  }
};

// How a cache tells what happened: an error is an Exception. The face of ThrowingCache.
//
// A call with an expected outcome besides success returns an optional, or a bool if it gives no value. An empty
// optional, or false, is that outcome.
struct Throws {
  template <class T>
  using Maybe = std::conditional_t<std::is_void_v<T>, bool, std::optional<T>>;
  template <class T>
  using Sure = T;

  template <class Call>
  static auto maybe(Call&& call) {
    auto result = call();
    using Value = typename decltype(result)::value_type;
    if (!result && !result.error().is_expected()) detail::raise(result.error());
    if constexpr (std::is_void_v<Value>) {
      return result.has_value();
    } else {
      return result ? std::optional<Value>(*std::move(result)) : std::nullopt;
    }
  }
  template <class Call>
  static auto sure(Call&& call) {
    return call().value();
  }
};

}  // namespace cxx1
}  // namespace memstream

#endif
