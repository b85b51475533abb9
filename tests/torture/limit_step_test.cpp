// A process that dies at any instruction of a call on a limit or a semaphore has made its step or not. While it stands
// there, nobody gets more than there is.
#include <doctest/doctest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "api/memstream_limits.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"
#include "tests/torture/stepped_child.h"

namespace memstream::torture {
namespace {

constexpr std::uint64_t kSize = 64 << 20;  // With a place for each key that the test uses.
constexpr std::uint64_t kHourMs = 3'600'000;
constexpr std::uint64_t kBurst = 4;
constexpr int kPoints = 60;  // Instructions at which a child stands, of each call.
constexpr int kNothing = -1000;
constexpr std::string_view kName = "name";

int request(memstream_t* cache, std::string_view key) {
  std::uint64_t wait_ms = 0;
  return memstream_limit(cache, key.data(), key.size(), 1, kHourMs, kBurst, &wait_ms);
}
// All permits of a handle have one number, so the last of a process is that of its only handle here.
std::uint64_t last_permit = 0;
int acquire(memstream_t* cache) {
  return memstream_semaphore_acquire(cache, kName.data(), kName.size(), 1, 0, &last_permit);
}
int give_back(memstream_t* cache, std::uint64_t permit) {
  return memstream_semaphore_release(cache, kName.data(), kName.size(), permit);
}

// A segment, the child's handle on it, and a word that says what the child's last call gave.
class Scene {
 public:
  Scene()
      : word_(::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    REQUIRE(word_ != MAP_FAILED);
    outcome() = kNothing;
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() { ::munmap(word_, sizeof(std::atomic<int>)); }

  std::atomic<int>& outcome() const { return *static_cast<std::atomic<int>*>(word_); }
  // For the child. It never closes: it is killed.
  memstream_t* open() {
    const memstream_options_t options = segment_.spec().options();
    std::uint64_t held = 0;  // So that the table has its memory.
    if (memstream_open(&options, &child_) != CACHE_OK ||
        memstream_semaphore_held(child_, kName.data(), kName.size(), &held) != CACHE_OK) {
      ::_exit(1);
    }
    return child_;
  }
  memstream_t* child() const { return child_; }
  const test::CacheSpec& spec() const { return segment_.spec(); }

 private:
  // Little patience with the lock that a stopped process holds.
  test::TemporarySegment segment_{"limit-step", kSize, 1, 30};
  void* word_;
  memstream_t* child_ = nullptr;
};

// Whether the child dies where it stands, or goes on when the parent has looked.
enum class Then { kDie, kGoOn };

// Walks a child to its instructions in `run`. `look(is_over)` is the parent, while the child stands there and after its
// end. `forget` makes all as it was.
int walk(Scene& scene, Then then, const std::function<void()>& begin, const std::function<void()>& run,
         const std::function<void(bool is_over)>& look, const std::function<void()>& forget) {
  const Route route(trace_of(begin, run));
  forget();
  int instructions = 0;
  const std::size_t stride =
      std::max<std::size_t>(1, route.instructions() / static_cast<std::size_t>(test::scaled(kPoints)));
  for (std::size_t instruction = 0; instruction < route.instructions(); instruction += stride) {
    scene.outcome() = kNothing;
    {
      SteppedChild child(begin, run);
      if (child.go(route.legs(instruction))) {
        ++instructions;
        look(false);
        if (then == Then::kGoOn) child.finish();
      }
      if (then == Then::kGoOn) look(true);  // It lives, and has what it has.
      child.kill();
    }
    if (then == Then::kDie) look(true);
    forget();
  }
  MESSAGE(instructions << " of " << route.instructions() << " instructions");
  return instructions;
}

// How often the key may still be used.
std::uint64_t use_up(memstream_t* cache, std::string_view key) {
  std::uint64_t used = 0;
  int status = CACHE_OK;
  while ((status = request(cache, key)) == CACHE_OK) ++used;
  CHECK(status == CACHE_HELD);
  return used;
}

void check_limit(bool is_new, Then then) {
  Scene scene;
  const test::OpenCache cache(scene.spec());
  std::string key = "key 1000";
  // A key that has a place needs no lock, a new one takes a place under the lock.
  const std::uint64_t before = is_new ? 0 : 1;
  const auto forget = [&] {
    key = "key " + std::to_string(std::stoi(key.substr(4)) + 1);
    if (!is_new) CHECK(request(cache, key) == CACHE_OK);
  };
  forget();
  std::uint64_t used_meanwhile = 0;
  int counted = 0;
  int uncounted = 0;
  const auto look = [&](bool is_over) {
    if (!is_over) {
      // CACHE_BUSY: the child stands with the lock.
      const int status = request(cache, key);
      CHECK((status == CACHE_OK || (is_new && status == CACHE_BUSY)));
      used_meanwhile = status == CACHE_OK ? 1 : 0;
      return;
    }
    const std::uint64_t by_child = kBurst - before - used_meanwhile - use_up(cache, key);
    CHECK(by_child <= 1);
    if (scene.outcome() == CACHE_OK) CHECK(by_child == 1);
    if (then == Then::kGoOn) CHECK(scene.outcome() == CACHE_OK);
    ++(by_child == 1 ? counted : uncounted);
    used_meanwhile = 0;
  };
  const int instructions = walk(
      scene, then, [&] { scene.open(); }, [&] { scene.outcome() = request(scene.child(), key); }, look, forget);
  CHECK(instructions > 20);
  CHECK(counted > 0);
  if (then == Then::kDie) CHECK(uncounted > 0);
}

void check_semaphore(bool gives_back, Then then) {
  Scene scene;
  const test::OpenCache cache(scene.spec());
  int mine = CACHE_HELD;
  std::uint64_t own_permit = 0;
  int taken_by_parent = 0;
  int taken_by_child = 0;
  const auto look = [&](bool is_over) {
    // CACHE_BUSY: the child stands with the lock.
    if (mine != CACHE_OK) mine = acquire(cache);
    if (mine == CACHE_OK) own_permit = last_permit;
    CHECK((mine == CACHE_OK || mine == CACHE_HELD || (!is_over && mine == CACHE_BUSY)));
    const bool has_child = scene.outcome() == CACHE_OK;
    if (then == Then::kDie && is_over) {
      CHECK(mine == CACHE_OK);  // All of the dead is free.
    } else if (gives_back) {
      // The child began with the permit. Once its call has returned, the permit is free.
      if (has_child) CHECK(mine == CACHE_OK);
    } else {
      CHECK_FALSE((mine == CACHE_OK && has_child));
      if (is_over) CHECK((mine == CACHE_OK || has_child));
      taken_by_child += is_over && has_child ? 1 : 0;
    }
    taken_by_parent += mine == CACHE_OK ? 1 : 0;
  };
  const auto forget = [&] {
    if (mine == CACHE_OK) CHECK(give_back(cache, own_permit) == CACHE_OK);
    mine = CACHE_HELD;
  };
  const int instructions = walk(
      scene, then,
      [&] {
        scene.open();
        if (gives_back && acquire(scene.child()) != CACHE_OK) ::_exit(1);
      },
      [&] { scene.outcome() = gives_back ? give_back(scene.child(), last_permit) : acquire(scene.child()); }, look,
      forget);
  CHECK(instructions > 20);
  CHECK(taken_by_parent > 0);
  if (!gives_back && then == Then::kGoOn) CHECK(taken_by_child > 0);
}

}  // namespace

TEST_CASE("a request of a process that dies or stops at any instruction is counted once or not at all") {
  for (const bool is_new : {false, true}) {
    check_limit(is_new, Then::kDie);
    check_limit(is_new, Then::kGoOn);
  }
}

TEST_CASE("a permit has one holder, wherever a process dies or stops that takes it") {
  check_semaphore(false, Then::kDie);
  check_semaphore(false, Then::kGoOn);
}

TEST_CASE("a permit is free as soon as its call has returned or its process is dead, wherever it dies or stops") {
  check_semaphore(true, Then::kDie);
  check_semaphore(true, Then::kGoOn);
}

}  // namespace memstream::torture
