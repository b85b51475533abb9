// What a fuzz target demands. A demand that is not met ends the program, which libFuzzer reports with the input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace memstream::fuzz {

[[noreturn]] inline void unmet(const char* file, int line, const char* demand, const std::string& detail) {
  std::fprintf(stderr, "%s:%d: '%s' does not hold: %s\n", file, line, demand, detail.c_str());
  std::abort();
}

// The bytes of an input, taken from the front; zeros when there are no more.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size_bytes) : data_(data), left_(size_bytes) {}

  bool empty() const { return left_ == 0; }
  std::size_t left() const { return left_; }
  const std::uint8_t* data() const { return data_; }

  template <class Number>
  Number take() {
    Number number{};
    const std::size_t taken = left_ < sizeof number ? left_ : sizeof number;
    std::memcpy(&number, data_, taken);
    data_ += taken;
    left_ -= taken;
    return number;
  }
  std::uint8_t byte() { return take<std::uint8_t>(); }
  std::string text(std::size_t size_bytes) {
    if (size_bytes > left_) size_bytes = left_;
    std::string result(reinterpret_cast<const char*>(data_), size_bytes);
    data_ += size_bytes;
    left_ -= size_bytes;
    return result;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

}  // namespace memstream::fuzz

#define MUST(condition, detail)                                                           \
  do {                                                                                    \
    if (!(condition)) ::memstream::fuzz::unmet(__FILE__, __LINE__, #condition, (detail)); \
  } while (false)
