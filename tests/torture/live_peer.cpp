#include "tests/torture/live_peer.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>

#include "tests/torture/scenes.h"

namespace memstream::torture {
namespace {

constexpr std::size_t kOwnKeys = 3;
constexpr std::size_t kForeignKeys = 5;
constexpr std::size_t kMostWatched = 12;
constexpr std::size_t kTextRoom = std::size_t{2} << 20;
constexpr int kRoundsAfterDeath = 3;
constexpr std::uint64_t kLookAroundEvery = 4;
// A deadline bounds the waiting for others, not how long the machine lets this process wait for a processor.
constexpr double kLate = 1.5;

using Clock = std::chrono::steady_clock;
using nlohmann::json;

json optional_text(const Content& content, const std::string& key) {
  const auto found = content.find(key);
  return found == content.end() ? json() : json(found->second);
}

std::optional<std::string> text_of(const json& value) {
  return value.is_null() ? std::nullopt : std::optional<std::string>(value.get<std::string>());
}

}  // namespace

struct LivePeer::Desk {
  std::atomic<bool> writes_all;
  std::atomic<std::uint64_t> seed;
  std::atomic<std::uint64_t> rounds;
  std::atomic<bool> child_is_dead;
  std::atomic<double> longest_ms;
  std::array<char, 400> finding;  // Empty if there is none.
  std::size_t watched;
  std::array<Known, kMostWatched> known;
  std::array<std::size_t, kMostWatched> key_hashes;
  std::array<char, kTextRoom> text;  // What to watch.
};

// ---- its owner's side ----

LivePeer::LivePeer(Scene& scene) : late_ms_(kLate * static_cast<double>(scene.place.timeout_ms)) {
  void* memory = ::mmap(nullptr, sizeof(Desk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || ::pipe(orders_) != 0 || ::pipe(answers_) != 0) {
    throw std::runtime_error(std::string("a live peer: ") + std::strerror(errno));
  }
  desk_ = new (memory) Desk{};
  process_.emplace_back([&] { serve(scene); });
  ::close(answers_[1]);
  await_answer();
}

LivePeer::~LivePeer() {
  process_.clear();
  for (const int file : {orders_[0], orders_[1], answers_[0]}) ::close(file);
  ::munmap(desk_, sizeof(Desk));
}

void LivePeer::watch(const Operation& operation, const Content& before, const Content& after) {
  json keys = json::array();
  std::size_t own = 0;
  std::size_t foreign = 0;
  const auto add = [&](const std::string& key, bool is_own) {
    if (std::size_t& count = is_own ? own : foreign; count++ < (is_own ? kOwnKeys : kForeignKeys)) {
      keys.push_back({key, optional_text(before, key), optional_text(after, key)});
    }
  };
  // Those that the operation is about come first, whether it changes their values or not.
  for (const std::string_view key : {kOldKey, kNewKey, kCounterKey}) add(std::string(key), false);
  for (const Content* known : {&before, &after}) {
    for (const auto& [key, value] : *known) {
      const bool is_there = std::any_of(keys.begin(), keys.end(), [&key = key](const json& k) { return k[0] == key; });
      if (is_there || value.size() >= kLargeSize) continue;
      add(key, optional_text(before, key) == optional_text(after, key));
    }
  }
  const std::string text =
      json{{"keys", keys}, {"effect", operation.effect}, {"evicts", operation.evicts}, {"other", operation.uses_other}}
          .dump();
  if (text.size() >= kTextRoom) throw std::runtime_error("the scene is too large for a live peer");
  desk_->text.fill('\0');
  std::copy(text.begin(), text.end(), desk_->text.begin());
  send('w');
  await_answer();
}

void LivePeer::begin(bool writes_all, std::uint64_t seed) {
  desk_->writes_all = writes_all;
  desk_->seed = seed;
  desk_->rounds = 0;
  desk_->child_is_dead = false;
  desk_->longest_ms = 0;
  desk_->finding[0] = '\0';
  send('b');
}

std::uint64_t LivePeer::rounds() const { return desk_->rounds; }
double LivePeer::longest_ms() const { return desk_->longest_ms; }

void LivePeer::rest_after_death() {
  desk_->child_is_dead = true;
  await_answer();
  if (desk_->finding[0] != '\0') throw Finding(desk_->finding.data());
}

LivePeer::Known LivePeer::known(std::string_view key) const {
  const std::size_t hash = std::hash<std::string_view>{}(key);
  for (std::size_t i = 0; i < desk_->watched; ++i) {
    if (desk_->key_hashes[i] == hash) return desk_->known[i];
  }
  return {};
}

void LivePeer::send(char order) const {
  if (::write(orders_[1], &order, 1) != 1) throw Finding("the live peer ended by itself");
}

void LivePeer::await_answer() const {
  char answer = 0;
  if (::read(answers_[0], &answer, 1) != 1) throw Finding("the live peer ended by itself");
}

// ---- its own side ----

void LivePeer::serve(Scene& scene) {
  enter(scene);
  for (char order = 'e';;) {
    if (order == 'w') {
      const json orders = json::parse(desk_->text.data());
      visits_other_ = orders["other"].get<bool>();
      watched_.clear();
      for (const json& key : orders["keys"]) {
        watched_.emplace_back(key[0].get<std::string>(), text_of(key[1]), text_of(key[2]),
                              orders["effect"].get<Effect>(), orders["evicts"].get<bool>());
      }
    }
    if (order == 'b') work(scene);
    if (::write(answers_[1], &order, 1) != 1 || ::read(orders_[0], &order, 1) != 1) ::_exit(0);
  }
}

void LivePeer::work(Scene& scene) {
  random_.seed(desk_->seed);
  for (WatchedKey& watched : watched_) watched.reset();
  try {
    for (int after_death = 0; after_death < kRoundsAfterDeath;) {
      after_death += desk_->child_is_dead ? 1 : 0;
      round(scene, desk_->rounds);
      desk_->rounds.fetch_add(1);
    }
    for (WatchedKey& watched : watched_) read(scene, watched);
  } catch (const std::exception& finding) {
    std::strncpy(desk_->finding.data(), finding.what(), desk_->finding.size() - 1);
    while (!desk_->child_is_dead) ::usleep(100);
  }
  desk_->watched = watched_.size();
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    const auto& value = watched_[i].current();
    desk_->key_hashes[i] = std::hash<std::string_view>{}(watched_[i].key());
    desk_->known[i] = {true, value.has_value(), value ? std::hash<std::string_view>{}(*value) : 0};
  }
}

void LivePeer::round(Scene& scene, std::uint64_t number) {
  for (WatchedKey& watched : watched_) read(scene, watched);
  WatchedKey& chosen = watched_[random_() % watched_.size()];
  if (chosen.is_own() || desk_->writes_all) write(scene, chosen);
  view(scene, watched_[random_() % watched_.size()]);
  if (number % kLookAroundEvery == 0) look_around(scene);
  if (visits_other_) use_other_place(scene);
}

// Runs one call of the library. Being busy is an answer while the child may hold the lock, but not once it is dead.
template <class Call>
int LivePeer::timed(const char* what, const Call& call) {
  const bool child_is_dead = desk_->child_is_dead;
  const auto began = Clock::now();
  const int status = call();
  const double took_ms = std::chrono::duration<double, std::milli>(Clock::now() - began).count();
  desk_->longest_ms = std::max(desk_->longest_ms.load(), took_ms);
  if (took_ms > late_ms_) throw Finding(fmt::format("{} of the peer took {:.0f} ms", what, took_ms));
  if (status == CACHE_BUSY && !child_is_dead) return status;
  return require(status, what);
}

void LivePeer::read(Scene& scene, WatchedKey& watched) {
  std::string value;
  const int status = timed("a get", [&] { return scene.cache.try_get(watched.key(), &value); });
  if (status == CACHE_BUSY) return;
  watched.found(status == CACHE_OK ? std::optional<std::string>(value) : std::nullopt);
}

// The value stays as it is while it is held, whatever happens to the key.
void LivePeer::view(Scene& scene, WatchedKey& watched) {
  memstream_t* cache = scene.cache.handle();
  memstream_view_t view;
  const int status =
      timed("a view", [&] { return memstream_view(cache, watched.key().data(), watched.key().size(), &view); });
  if (status == CACHE_BUSY) return;
  if (status == CACHE_MISS) return watched.found(std::nullopt);
  const std::string first(static_cast<const char*>(view.data), view.size);
  watched.found(first);
  if (desk_->writes_all) write(scene, watched);
  if (first != std::string_view(static_cast<const char*>(view.data), view.size)) {
    throw Finding("a value changed while the peer held a view of it");
  }
  while (timed("a release", [&] { return memstream_release(cache, &view); }) == CACHE_BUSY) {
  }
}

void LivePeer::write(Scene& scene, WatchedKey& watched) {
  memstream_t* cache = scene.cache.handle();
  const std::string& key = watched.key();
  if (random_() % 4 == 0) {
    const int status = timed("a delete", [&] { return memstream_delete(cache, key.data(), key.size()); });
    if (status != CACHE_BUSY) watched.wrote(std::nullopt);
    return;
  }
  const std::uint64_t version = 1000 + 10 * ++version_;
  const std::string value =
      watched.is_counter() ? std::to_string(version) : make_value(key, version, 10 + version * 7 % 700);
  const int status =
      timed("a set", [&] { return memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0); });
  if (status != CACHE_BUSY) watched.wrote(value);
}

// A scan reports what is there once; the process table and the checker take their locks too.
void LivePeer::look_around(Scene& scene) {
  std::array<memstream_process_t, 8> processes;
  std::size_t count = 0;
  timed("a list of processes",
        [&] { return memstream_processes(scene.cache.handle(), processes.data(), processes.size(), &count); });
  std::set<std::string, std::less<>> keys;
  const bool at_rest = desk_->child_is_dead;  // Otherwise it may evict a key and store it anew, behind the cursor.
  if (timed("a scan", [&] { return scene.cache.try_scan(&keys, at_rest); }) == CACHE_BUSY) return;
  for (WatchedKey& watched : watched_) {
    if (!watched.is_own() || !watched.current() || keys.contains(watched.key())) continue;
    // Only an eviction can have taken it.
    read(scene, watched);
    if (watched.current()) throw Finding("a scan leaves out the key '" + watched.key() + "'");
  }
  std::uint64_t problems = 0;
  timed("a check", [&] { return memstream_check(scene.cache.handle(), &problems); });
}

// Whoever else creates or destroys that segment: this process gets one that it can use until it is destroyed.
void LivePeer::use_other_place(Scene& scene) {
  const memstream_options_t options = options_for(scene.other_place);
  memstream_t* cache = nullptr;
  if (timed("an open", [&] { return memstream_open(&options, &cache); }) == CACHE_BUSY) return;
  constexpr std::string_view kKey = "a key of the peer";
  const std::string value = make_value(kKey, random_(), 100);
  std::string room(200, '\0');
  std::size_t size = room.size();
  int status = memstream_set(cache, kKey.data(), kKey.size(), value.data(), value.size(), 0, 0);
  if (status == CACHE_OK) status = memstream_get(cache, kKey.data(), kKey.size(), room.data(), &size, nullptr);
  const bool is_right = status == CACHE_GONE || (status == CACHE_OK && room.compare(0, size, value) == 0);
  memstream_close(cache);
  if (!is_right) throw Finding(fmt::format("the peer's use of the other segment: status {}, {} bytes", status, size));
}

}  // namespace memstream::torture
