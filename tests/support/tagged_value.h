// Values that say themselves whose they are: a reader that gets one knows whether it is whole, whether it belongs to
// the key it asked for, and how old it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/layout/hash.h"

namespace memstream::test {

// What a tagged value begins with. The rest are bytes that follow from key and sequence.
struct ValueTag {
  std::uint64_t checksum;  // Of everything behind this word.
  std::uint64_t size;      // Of the whole value, bytes.
  std::uint32_t key;
  std::uint32_t sequence;  // Counts the writes of the key, from 1.
};
inline constexpr std::size_t kMinTaggedSize = sizeof(ValueTag);
// From here on the bytes behind the tag come again: making every word anew is what slow tools would spend their time
// on. No multiple of a page or a line.
inline constexpr std::size_t kTaggedPeriod = 5000;

// Fills `value` with the tagged value of `size_bytes`. REQUIRES: size_bytes >= kMinTaggedSize.
inline void make_tagged(std::uint32_t key, std::uint32_t sequence, std::size_t size_bytes,
                        std::vector<std::byte>* value) {
  value->resize(size_bytes);
  std::uint64_t word = (std::uint64_t{key} << 32 | sequence) * 0x9e37'79b9'7f4a'7c15ULL;
  std::size_t at = sizeof(ValueTag);
  for (; at < std::min(size_bytes, kTaggedPeriod); at += sizeof word, word += 0x2545'f491'4f6c'dd1dULL) {
    std::memcpy(value->data() + at, &word, std::min(sizeof word, size_bytes - at));
  }
  for (constexpr std::size_t kPart = kTaggedPeriod - sizeof(ValueTag); at < size_bytes; at += kPart) {
    static_assert(kPart % sizeof word == 0, "the words end where they begin again");
    std::memcpy(value->data() + at, value->data() + sizeof(ValueTag), std::min(kPart, size_bytes - at));
  }
  ValueTag tag{.checksum = 0, .size = size_bytes, .key = key, .sequence = sequence};
  std::memcpy(value->data(), &tag, sizeof tag);
  tag.checksum = hash_bytes(value->data() + sizeof tag.checksum, size_bytes - sizeof tag.checksum);
  std::memcpy(value->data(), &tag, sizeof tag);
}

// The sequence of a value that was read under `key`. Throws std::runtime_error if it is torn or foreign.
inline std::uint32_t check_tagged(std::uint32_t key, const void* value, std::size_t size_bytes) {
  const auto fail = [&](const char* what) {
    throw std::runtime_error(std::string(what) + " value of " + std::to_string(size_bytes) + " bytes under key " +
                             std::to_string(key));
  };
  ValueTag tag;
  if (size_bytes < sizeof tag) fail("truncated");
  std::memcpy(&tag, value, sizeof tag);
  const auto* bytes = static_cast<const std::byte*>(value);
  const std::uint64_t sum = hash_bytes(bytes + sizeof tag.checksum, size_bytes - sizeof tag.checksum);
  if (tag.size != size_bytes || tag.checksum != sum) fail("torn");
  if (tag.key != key) fail("foreign");
  return tag.sequence;
}

}  // namespace memstream::test
