// A shard whose puts may overwrite values in their blocks, and that stops in the middle of one.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/layout/block.h"
#include "tests/support/test_shard.h"

namespace memstream::test {

class OverwritingShard : public TestShard {
 public:
  using TestShard::TestShard;

  // As set(), by the first redo record.
  Status put(std::string_view key_bytes, std::string_view value, std::uint64_t expires_ms = 0,
             std::uint32_t flags = 0) {
    const StoreRequest request{.key = key(key_bytes),
                               .value = reinterpret_cast<const std::byte*>(value.data()),
                               .value_size = value.size(),
                               .expires_ms = expires_ms,
                               .caller_flags = flags,
                               .redo = 1};
    return shard.store(request, {deadline(), now_ms});
  }
  RedoRecord& record() const noexcept {
    return *reinterpret_cast<RedoRecord*>(data() + geometry().redo_records_offset());
  }
  std::uint32_t position(std::string_view key_bytes) { return ref_block(entry(key_bytes).ref); }

  // The state in the middle of `put(key, value)`: the new value is committed, and of the block only the first `written`
  // bytes are. REQUIRES: the put overwrites.
  void begin_overwriting(std::string_view key_bytes, std::string_view value, std::size_t written,
                         std::uint32_t flags = 0) {
    block_ = &block(key_bytes);
    entry_ = &entry(key_bytes);
    const std::string before = bytes();
    REQUIRE(put(key_bytes, value, 0, flags) == Status::kOk);
    REQUIRE(&block(key_bytes) == block_);
    after_ = bytes();
    write(after_.substr(0, written) + before.substr(written));
    entry_->ref = entry_->ref & ~kLiveBit;
    header().redo = 1;
  }
  // The rest of it.
  void end_overwriting() {
    write(after_);
    entry_->ref = ref_finished(entry_->ref);
    header().redo = 0;
  }
  // As begin_overwriting(), by a writer that was killed then.
  void die_overwriting(std::string_view key_bytes, std::string_view value, std::size_t written,
                       std::uint32_t flags = 0) {
    begin_overwriting(key_bytes, value, written, flags);
    header().wait = 1;
    die_with_lock();
  }

 private:
  std::string bytes() const {
    return {reinterpret_cast<const char*>(block_), BlockShape::unpack(block_->shape).size_bytes()};
  }
  void write(const std::string& bytes) { std::memcpy(reinterpret_cast<char*>(block_), bytes.data(), bytes.size()); }

  BlockHeader* block_ = nullptr;
  Entry* entry_ = nullptr;
  std::string after_;
};

}  // namespace memstream::test
