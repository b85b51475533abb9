// What the processes of a benchmark do: which keys they draw, and values that show whether they are whole.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace memstream::bench {

// What a store holds before a measurement begins: every key once, all values of one size.
struct DataSet {
  std::uint32_t keys = 0;
  std::uint32_t value_size = 0;  // Bytes; at least kMinValueSize.

  std::uint64_t bytes() const noexcept { return std::uint64_t{keys} * (value_size + 13); }
  bool operator==(const DataSet&) const = default;
};

enum class Distribution { kUniform, kZipf };

// One measurement: a data set, and what how many processes do with it.
struct Cell {
  DataSet data;
  Distribution distribution = Distribution::kUniform;
  unsigned get_percent = 100;  // The others are puts that overwrite.
  unsigned processes = 1;

  // "keys=100000/size=64/dist=zipf/gets=95/processes=2"
  std::string name() const;
};

const char* name_of(Distribution distribution) noexcept;

// Key numbers in [0, keys), always the same ones. Zipf has the exponent 0.99, its ranks scattered over the keys.
// The length is a power of two.
std::vector<std::uint32_t> draw_keys(Distribution distribution, std::uint32_t keys);

// ---- keys ----

inline constexpr std::size_t kKeySize = 13;

// "user:%08d", written by hand: making the key must not outweigh finding it.
class Key {
 public:
  explicit Key(std::uint32_t number = 0) noexcept {
    std::memcpy(text_.data(), "user:", 5);
    text_[kKeySize] = '\0';
    for (std::size_t digit = kKeySize; digit-- > 5; number /= 10) text_[digit] = static_cast<char>('0' + number % 10);
  }
  std::string_view view() const noexcept { return {text_.data(), kKeySize}; }
  const char* c_str() const noexcept { return text_.data(); }

 private:
  std::array<char, kKeySize + 1> text_;
};

// ---- values ----

// Both ends carry the key's number and a version. Another key's value is wrong; two different versions are a torn one.
inline constexpr std::size_t kMinValueSize = 2 * sizeof(std::uint64_t);

inline void stamp(std::span<std::byte> value, std::uint32_t key, std::uint32_t version) noexcept {
  const std::uint64_t word = std::uint64_t{key} << 32 | version;
  std::memcpy(value.data(), &word, sizeof word);
  std::memcpy(value.data() + value.size() - sizeof word, &word, sizeof word);
}

enum class Verdict { kWhole, kTorn, kWrong };

inline Verdict judge(const void* data, std::size_t size, std::uint32_t key, std::size_t expected_size) noexcept {
  if (size != expected_size) return Verdict::kWrong;
  std::uint64_t head = 0;
  std::uint64_t tail = 0;
  std::memcpy(&head, data, sizeof head);
  std::memcpy(&tail, static_cast<const std::byte*>(data) + size - sizeof tail, sizeof tail);
  if (head >> 32 != key || tail >> 32 != key) return Verdict::kWrong;
  return head == tail ? Verdict::kWhole : Verdict::kTorn;
}

}  // namespace memstream::bench
