// The two checks of a block's first word, on any bytes: what they let pass lies inside the shard, and of the blocks
// that both are for they say the same.
#include "core/layout/block.h"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace memstream::test {
namespace {

constexpr std::uint64_t kShardSize = std::uint64_t{64} << 10;
constexpr std::uint32_t kPositions = kShardSize / kUnitSize;

// A shard in which a block's header can be written anywhere, also where none fits.
class Bytes {
 public:
  Bytes() : words_(kShardSize / sizeof(std::uint64_t)) {}

  std::byte* shard() { return reinterpret_cast<std::byte*>(words_.data()); }
  void set_shape(BlockPosition position, std::uint64_t word) {
    const std::uint64_t place = std::uint64_t{position} * kUnitSize / sizeof word;
    if (place < words_.size()) words_[place] = word;
  }

 private:
  std::vector<std::uint64_t> words_;
};

// Mostly near to what a block at `position` may say: sizes that reach to the shard's end or beyond, keys of the size
// asked for and others.
std::uint64_t likely_word(std::mt19937_64& random, BlockPosition position, std::uint32_t key_size) {
  const std::uint64_t rest = position < kPositions ? kPositions - position : 0;
  const auto one_of = [&](std::initializer_list<std::uint64_t> values) {
    return *(values.begin() + random() % values.size());
  };
  const BlockShape shape{
      .size_units =
          static_cast<std::uint32_t>(one_of({random() % 16, rest, rest + 1, rest - 1, random(), 0xffff'ffff})),
      .flags = static_cast<std::uint32_t>(one_of(
          {kBlockUsed, kBlockUsed | kBlockPrevFree, kBlockUsed | kBlockAligned, kBlockPrevFree, random() & 0xff})),
      .slack = static_cast<std::uint32_t>(one_of({0, random() % 32, 0xff})),
      .key_size = static_cast<std::uint32_t>(one_of({key_size, key_size, key_size + 1, random() & 0xffff})),
  };
  return shape.pack();
}

TEST_CASE("what passes a check lies inside the shard, and both checks agree") {
  Bytes bytes;
  const Backing backing(bytes.shard(), kShardSize);
  std::mt19937_64 random(0x5eed);
  int passed = 0;
  int refused = 0;
  for (int i = 0; i < 300'000; ++i) {
    const BlockPosition position{
        static_cast<std::uint32_t>(i % 3 == 0 ? random() % (2 * kPositions) : kPositions - 1 - random() % 64)};
    const auto key_size = static_cast<std::uint32_t>(1 + random() % (i % 5 == 0 ? kMaxKeySize : 40));
    const std::uint64_t word = likely_word(random, position, key_size);
    bytes.set_shape(position, word);

    CheckedBlock block;
    const bool is_block = check_block(backing, position, &block);
    if (is_block) {
      REQUIRE(block.key() >= bytes.shard() + kShardHeaderSize);
      REQUIRE(block.key() + block.key_size <= block.value);
      REQUIRE(block.value_size <= kShardSize);
      REQUIRE(block.value + block.value_size <= bytes.shard() + kShardSize);
    }
    CheckedBlock plain;
    const bool is_plain = check_plain_block(backing, position, key_size, &plain);
    const bool wanted = is_block && block.key_size == key_size && (BlockShape::unpack(word).flags & kBlockAligned) == 0;
    REQUIRE(is_plain == wanted);
    ++(is_plain ? passed : refused);
    if (!is_plain) continue;
    REQUIRE(plain.header == block.header);
    REQUIRE(plain.value == block.value);
    REQUIRE(plain.value_size == block.value_size);
    REQUIRE(plain.stored_size == block.stored_size);
    REQUIRE(plain.key_size == block.key_size);
  }
  CHECK(passed > 1000);
  CHECK(refused > 1000);
}

}  // namespace
}  // namespace memstream::test
