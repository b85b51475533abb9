// Copies and comparisons of every small size, in exactly as much memory as they may touch.
#include "core/base/shared_bytes.h"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

namespace memstream {
namespace {

constexpr std::size_t kSizes = 200;

// On the heap and of that very size, so that the address sanitizer sees a byte beside it.
std::vector<unsigned char> numbered(std::size_t size_bytes, unsigned first) {
  std::vector<unsigned char> bytes(size_bytes);
  for (std::size_t i = 0; i < size_bytes; ++i) bytes[i] = static_cast<unsigned char>(first + i);
  return bytes;
}

TEST_CASE("a copy brings every byte and no other") {
  for (std::size_t size = 0; size < kSizes; ++size) {
    const std::vector<unsigned char> source = numbered(size, 1);
    std::vector<unsigned char> from_shared(size);
    std::vector<unsigned char> to_shared(size);
    copy_from_shared(from_shared.data(), source.data(), size);
    copy_to_shared(to_shared.data(), source.data(), size);
    CHECK(from_shared == source);
    CHECK(to_shared == source);
  }
}

TEST_CASE("bytes are equal only if each of them is") {
  for (std::size_t size = 0; size < kSizes; ++size) {
    const std::vector<unsigned char> shared = numbered(size, 7);
    std::vector<unsigned char> other = shared;
    CHECK(equal_in_shared(shared.data(), other.data(), size));
    for (unsigned char& byte : other) {
      byte ^= 0x40;
      CHECK_FALSE(equal_in_shared(shared.data(), other.data(), size));
      byte ^= 0x40;
    }
  }
}

}  // namespace
}  // namespace memstream
