// Tracing accesses through the C interface: each access to a sampled key comes once, and no other.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "api/memstream_metrics.h"
#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kSize = 16 << 20;
constexpr std::uint64_t kRing = 2046;
constexpr std::uint64_t kStep = 128;

class Tracer {
 public:
  explicit Tracer(memstream_t* cache) : cache_(cache) {
    state.struct_size = sizeof state;
    read();
  }
  // Appends what came since the last call.
  std::size_t read() {
    std::array<memstream_access_t, 100> some{};
    std::size_t all = 0;
    for (std::size_t count = some.size(); count == some.size(); all += count) {
      if (memstream_trace(cache_, &state, some.data(), some.size(), &count) != CACHE_OK) {
        throw std::runtime_error(cache_last_error());
      }
      seen.insert(seen.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(count));
    }
    return all;
  }
  memstream_trace_t state{};
  std::vector<memstream_access_t> seen;

 private:
  memstream_t* cache_;
};

int set(memstream_t* cache, const std::string& key, std::size_t size) {
  const std::string value(size, 'v');
  return memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0);
}
int get(memstream_t* cache, const std::string& key, std::size_t room = 4096) {
  std::string value(room, '\0');
  std::size_t size = room;
  return memstream_get(cache, key.data(), key.size(), value.data(), &size, nullptr);
}

// Keys of the sample.
std::vector<std::string> sampled_keys(memstream_t* cache, std::size_t count) {
  Tracer tracer(cache);
  std::vector<std::string> keys;
  for (int number = 0; keys.size() < count; ++number) {
    const std::string key = "sampled" + std::to_string(number);
    if (get(cache, key) != CACHE_MISS) throw std::runtime_error("a key that nobody stored");
    if (tracer.read() == 1) keys.push_back(key);
  }
  return keys;
}

TEST_CASE("each access to a sampled key is traced once, in its order, with its size") {
  const TemporarySegment segment("trace", kSize);
  const OpenCache cache(segment.spec());
  Tracer tracer(cache);
  CHECK(tracer.seen.empty());
  CHECK(tracer.state.sample_step == kStep);
  std::string unsampled = "unsampled";
  for (; get(cache, unsampled) == CACHE_MISS && tracer.read() != 0; unsampled += '+') continue;
  tracer.seen.clear();
  constexpr int kKeys = 20'000;
  for (int number = 0; number < kKeys; ++number) {
    const std::string key = "key" + std::to_string(number);
    REQUIRE(set(cache, key, static_cast<std::size_t>(number % 1000) + 1) == CACHE_OK);
    REQUIRE(memstream_add(cache, key.data(), key.size(), "", 0, 0, 0) == CACHE_EXISTS);
    REQUIRE(get(cache, key) == CACHE_OK);
    REQUIRE(get(cache, key, 0) == CACHE_TOO_SMALL);
    memstream_view_t view{};
    REQUIRE(memstream_view(cache, key.data(), key.size(), &view) == CACHE_OK);
    REQUIRE(memstream_release(cache, &view) == CACHE_OK);
    memstream_item_t items[2]{};
    for (memstream_item_t& item : items) item.key = key.data(), item.key_size = key.size();
    items[0].key = unsampled.data(), items[0].key_size = unsampled.size();
    std::vector<std::byte> room(4096);
    std::size_t size = room.size();
    REQUIRE(memstream_get_many(cache, items, 2, room.data(), &size) >= 0);
    REQUIRE(memstream_delete(cache, key.data(), key.size()) == CACHE_OK);
    REQUIRE(get(cache, key) == CACHE_MISS);
    if (number % 100 == 0) tracer.read();
  }
  tracer.read();
  CHECK(tracer.state.lost == 0);
  CHECK(tracer.state.gaps == 0);
  std::map<std::uint64_t, std::vector<memstream_access_t>> by_key;
  for (const memstream_access_t& access : tracer.seen) by_key[access.key_hash].push_back(access);
  CHECK(by_key.size() > kKeys / kStep / 2);
  CHECK(by_key.size() < kKeys / kStep * 2);
  const std::uint64_t now_ms = stats_of(cache).now_ms;
  for (const auto& [hash, accesses] : by_key) {
    CHECK((hash >> 32) % kStep == 0);
    REQUIRE(accesses.size() == 6);
    constexpr std::uint32_t kWhat[] = {MEMSTREAM_ACCESS_STORE, MEMSTREAM_ACCESS_HIT, MEMSTREAM_ACCESS_HIT,
                                       MEMSTREAM_ACCESS_HIT,   MEMSTREAM_ACCESS_HIT, MEMSTREAM_ACCESS_MISS};
    for (std::size_t i = 0; i < accesses.size(); ++i) {
      CHECK(accesses[i].what == kWhat[i]);
      CHECK(accesses[i].size == (i == 5 ? 0 : accesses[0].size));
      CHECK(accesses[i].time_ms <= now_ms);
      CHECK(accesses[i].time_ms + 600'000 > now_ms);
    }
    CHECK(accesses[0].size >= 1);
    CHECK(accesses[0].size <= 1000);
  }
}

TEST_CASE("nothing is noted before a trace, nor a second after its last call") {
  const TemporarySegment segment("trace-off", kSize);
  const OpenCache cache(segment.spec());
  const std::string key = sampled_keys(cache, 1)[0];
  Tracer tracer(cache);
  get(cache, key);
  CHECK(tracer.read() == 1);
  std::this_thread::sleep_for(milliseconds(1100));
  get(cache, key);
  get(cache, key);
  CHECK(tracer.read() == 0);
  CHECK(tracer.state.gaps == 1);
  get(cache, key);
  CHECK(tracer.read() == 1);  // The call has begun it again.
  CHECK(tracer.state.gaps == 1);
  CHECK(tracer.state.lost == 0);
}

TEST_CASE("a trace ends with a tracer that is killed, and one that is stopped knows that it has missed something") {
  const TemporarySegment segment("trace-killed", kSize);
  const OpenCache cache(segment.spec());
  const std::string key = sampled_keys(cache, 1)[0];
  Tracer tracer(cache);
  const Signal has_begun;
  ChildProcess other([&]() -> Complaint {
    const OpenCache own(segment.spec());
    Tracer endless(own);
    has_begun.post();
    for (;; std::this_thread::sleep_for(milliseconds(2))) endless.read();
  });
  has_begun.wait();
  std::this_thread::sleep_for(milliseconds(1200));
  get(cache, key);  // The other one keeps the trace on.
  other.send_signal(SIGKILL);
  CHECK(other.wait() == "killed by signal 9");
  std::this_thread::sleep_for(milliseconds(1200));
  get(cache, key);
  get(cache, key);
  CHECK(tracer.read() == 1);
  CHECK(tracer.state.gaps == 1);
  CHECK(tracer.state.lost == 0);
}

TEST_CASE("two processes that trace see the same accesses of a third") {
  const TemporarySegment segment("trace-two", kSize);
  const OpenCache cache(segment.spec());
  const std::vector<std::string> keys = sampled_keys(cache, 5);
  const Signal has_begun;
  const auto trace = [&]() -> Complaint {
    const OpenCache own(segment.spec());
    Tracer tracer(own);
    has_begun.post();
    for (int looks = 0; tracer.seen.size() < 500 && looks < 5000; ++looks) {
      std::this_thread::sleep_for(milliseconds(1));
      tracer.read();
    }
    if (tracer.state.lost != 0 || tracer.state.gaps != 0) return "something was lost";
    if (tracer.seen.size() != 500) return std::to_string(tracer.seen.size()) + " accesses";
    for (std::size_t i = 5; i < tracer.seen.size(); ++i) {
      if (tracer.seen[i].key_hash != tracer.seen[i - 5].key_hash) return "another order";
    }
    return "";
  };
  ChildProcess one(trace);
  ChildProcess other(trace);
  has_begun.wait();
  has_begun.wait();
  for (int i = 0; i < 500; ++i) get(cache, keys[static_cast<std::size_t>(i) % keys.size()]);
  CHECK(one.wait() == "");
  CHECK(other.wait() == "");
}

TEST_CASE("a reader that comes too late knows how much it has lost, and each reader sees all") {
  const TemporarySegment segment("trace-late", kSize);
  const OpenCache cache(segment.spec());
  const std::string key = sampled_keys(cache, 1)[0];
  Tracer one(cache);
  Tracer other(cache);
  for (std::uint64_t i = 0; i < kRing; ++i) get(cache, key);
  CHECK(one.read() == kRing);
  CHECK(one.state.lost == 0);
  for (int i = 0; i < 1000; ++i) get(cache, key);
  CHECK(one.read() == 1000);
  CHECK(one.state.lost == 0);
  CHECK(other.read() == kRing);
  CHECK(other.state.lost == 1000);
}

// Processes that are killed and stopped while they note accesses, and overtake each other in the ring. The size of a
// value is that of its key, so that a record of two writers is found.
TEST_CASE("no record that is read is torn, whatever becomes of its writer") {
  const TemporarySegment segment("trace-torn", kSize, 1);
  const OpenCache cache(segment.spec());
  const std::vector<std::string> keys = sampled_keys(cache, 8);
  std::map<std::uint64_t, std::uint64_t> sizes;
  {
    Tracer tracer(cache);
    for (std::size_t i = 0; i < keys.size(); ++i) REQUIRE(set(cache, keys[i], 1 + 37 * i) == CACHE_OK);
    REQUIRE(tracer.read() == keys.size());
    for (const memstream_access_t& access : tracer.seen) sizes[access.key_hash] = access.size;
  }
  const auto begin = [&](std::size_t number) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    const OpenCache own(segment.spec());
    for (std::size_t i = number;; ++i) get(own, keys[i % keys.size()]);
  };
  std::array<pid_t, 4> children{};
  for (std::size_t number = 0; number < children.size(); ++number) children[number] = begin(number);
  Tracer tracer(cache);
  std::mt19937 random(30);
  std::uint64_t traced = 0;
  int kills = 0;
  const auto end = steady_clock::now() + stress_time(3);
  while (steady_clock::now() < end) {
    tracer.read();
    for (const memstream_access_t& access : tracer.seen) {
      const bool is_right = access.what == MEMSTREAM_ACCESS_HIT && sizes.contains(access.key_hash) &&
                            sizes[access.key_hash] == access.size;
      if (!is_right) FAIL_CHECK(access.what << " " << access.key_hash << " " << access.size);
    }
    traced += tracer.seen.size();
    tracer.seen.clear();
    if (random() % 50 != 0) continue;
    const std::size_t number = random() % children.size();
    ::kill(children[number], random() % 2 == 0 ? SIGSTOP : SIGKILL);
    ::kill(children[number], SIGCONT);
    if (::waitpid(children[number], nullptr, WNOHANG) == children[number]) children[number] = begin(number), ++kills;
  }
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  MESSAGE(traced << " accesses, " << tracer.state.lost << " lost, " << kills << " kills");
  CHECK(traced > 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a wrong call, a small segment and a reader are refused") {
  const TemporarySegment segment("trace-refused", kSize);
  const OpenCache cache(segment.spec());
  memstream_access_t access{};
  std::size_t count = 0;
  memstream_trace_t state{};
  CHECK(memstream_trace(cache, &state, &access, 1, &count) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("Invalid memstream_trace_t.struct_size 0: expected 56.") == 0);
  state.struct_size = sizeof state;
  CHECK(memstream_trace(cache, &state, &access, 0, &count) == CACHE_INVALID);
  CHECK(memstream_trace(cache, &state, nullptr, 1, &count) == CACHE_INVALID);
  memstream_options_t options = segment.spec().options();
  options.flags |= MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(memstream_trace(reader, &state, &access, 1, &count) == CACHE_READ_ONLY);
  const TemporarySegment small("trace-small", 8 << 20);
  const OpenCache small_cache(small.spec());
  CHECK(memstream_trace(small_cache, &state, &access, 1, &count) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("at least 16 MiB") != std::string::npos);
}

}  // namespace
}  // namespace memstream::test
