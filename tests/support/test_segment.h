// A header and its initializer for the tests of the backends, which need no engine: the least that a life cycle needs,
// and a count of how often the segment was initialised.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "core/base/segment.h"

namespace memstream::test {

inline constexpr std::uint64_t kTestMagic = 0x7365'7420'6567'6573;
enum TestState : std::uint32_t { kTestUnfinished = 0, kTestReady = 1, kTestDestroyed = 2 };

struct TestHeader {
  std::atomic<std::uint64_t> magic;
  std::atomic<std::uint32_t> state;
  std::atomic<std::uint32_t> initializations;
  std::atomic<std::uint64_t> token;        // The test's own: who sees it looks at the same memory.
  std::atomic<std::uint32_t> name_length;  // Stored last: a creator may be killed in the middle of the name.
  char name[68];
};
static_assert(sizeof(TestHeader) == 96 && std::atomic<std::uint64_t>::is_always_lock_free);

inline TestHeader& header_of(std::byte* data) { return *reinterpret_cast<TestHeader*>(data); }
inline TestHeader& header_of(const Segment& segment) { return header_of(segment.data()); }

class TestInitializer : public SegmentInitializer {
 public:
  // `midway` runs in initialize(), under the creation lock, when everything is stored but "ready".
  explicit TestInitializer(std::string name, std::function<Status(TestHeader&)> midway = nullptr)
      : name_(std::move(name)), midway_(std::move(midway)) {}

  std::size_t header_size_bytes() const noexcept override { return sizeof(TestHeader); }

  SegmentState state_of(const std::byte* bytes) const noexcept override {
    const auto& header = *reinterpret_cast<const TestHeader*>(bytes);
    if (header.magic != kTestMagic) {
      static constexpr std::byte kZeros[sizeof(TestHeader)] = {};
      return std::memcmp(bytes, kZeros, sizeof kZeros) == 0 ? SegmentState::kBlank : SegmentState::kForeign;
    }
    switch (header.state.load()) {
      case kTestUnfinished:
        return SegmentState::kUnfinished;
      case kTestReady:
        return SegmentState::kReady;
      case kTestDestroyed:
        return SegmentState::kDestroyed;
      default:
        return SegmentState::kForeign;
    }
  }

  std::string name_of(const std::byte* bytes) const override {
    const auto& header = *reinterpret_cast<const TestHeader*>(bytes);
    if (header.magic != kTestMagic) return "";
    return {header.name, std::min<std::size_t>(header.name_length, sizeof header.name)};
  }

  Status initialize(Segment& segment) override {
    if (const Status status = segment.commit(0, sizeof(TestHeader)); status != Status::kOk) return status;
    TestHeader& header = header_of(segment);
    header.magic = kTestMagic;
    header.state = kTestUnfinished;
    header.name_length = static_cast<std::uint32_t>(name_.copy(header.name, sizeof header.name));
    ++header.initializations;
    ++initializations_;
    if (midway_) {
      if (const Status status = midway_(header); status != Status::kOk) return status;
    }
    header.state = kTestReady;
    return Status::kOk;
  }

  // How often this object initialised a segment.
  int initializations() const noexcept { return initializations_; }

 private:
  std::string name_;
  std::function<Status(TestHeader&)> midway_;
  std::atomic<int> initializations_ = 0;
};

// What the engine does to a segment before its name is removed.
inline void mark_destroyed(std::byte* data) { header_of(data).state = kTestDestroyed; }

}  // namespace memstream::test
