// Many processes create one segment at once, and some are killed on the way.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <ctime>
#include <new>
#include <random>
#include <thread>

#include "tests/torture/commands.h"
#include "tests/torture/leftovers.h"
#include "tests/torture/process.h"
#include "tests/torture/watchdog.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kCreateHang{120};
constexpr std::size_t kCreators = 32;

using Uuid = std::array<std::uint8_t, 16>;

// In memory that the processes of a round share.
struct Desk {
  enum State : int { kComing, kReady, kOpening, kAttached, kFailed };
  struct Seat {
    std::atomic<int> state;
    long dies_after_us;  // 0: does not.
    Uuid uuid;
    double took_ms;
    std::array<char, 300> complaint;
  };
  std::atomic<bool> begin;
  std::array<Seat, kCreators> seats;
};

Uuid uuid_of(CacheUnderTest& cache) {
  memstream_info_t info{};
  info.struct_size = sizeof info;
  require(memstream_info(cache.handle(), &info), "memstream_info");
  Uuid uuid;
  std::copy(std::begin(info.uuid), std::end(info.uuid), uuid.begin());
  return uuid;
}

std::string key_of(std::size_t index) { return "creator-" + std::to_string(index); }

// SIGKILL comes by the clock, wherever the process is then.
void die_after(long microseconds) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  timer_t timer{};
  const itimerspec when{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = microseconds * 1000}};
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || ::timer_settime(timer, 0, &when, nullptr) != 0) {
    throw std::runtime_error(std::string("timer_create: ") + std::strerror(errno));
  }
}

// A creator: attaches, puts a key of its own, reads it, and stays.
[[noreturn]] void create(const Place& place, Desk& desk, std::size_t index) {
  Desk::Seat& seat = desk.seats[index];
  seat.state = Desk::kReady;
  while (!desk.begin) std::this_thread::yield();
  seat.state = Desk::kOpening;
  if (seat.dies_after_us != 0) die_after(seat.dies_after_us);
  try {
    const auto began = std::chrono::steady_clock::now();
    CacheUnderTest cache(place);
    seat.took_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
    seat.uuid = uuid_of(cache);
    std::string value;
    cache.put(key_of(index), make_value(key_of(index), 1, 300));
    if (!cache.get(key_of(index), &value) || value != make_value(key_of(index), 1, 300)) {
      throw Finding("a creator does not get what it put");
    }
    seat.state = Desk::kAttached;
    for (;;) ::pause();
  } catch (const std::exception& error) {
    std::strncpy(seat.complaint.data(), error.what(), seat.complaint.size() - 1);
    seat.state = Desk::kFailed;
    for (;;) ::pause();
  }
}

class Creating {
 public:
  Creating(const Place& place, const CommonOptions& common)
      : place_(place), watchdog_(kCreateHang * common.patience), random_(common.seed) {
    void* memory = ::mmap(nullptr, sizeof(Desk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
    desk_ = static_cast<Desk*>(memory);
  }
  Creating(const Creating&) = delete;
  Creating& operator=(const Creating&) = delete;
  ~Creating() { ::munmap(desk_, sizeof(Desk)); }

  void run(std::uint64_t rounds, Section& section) {
    std::uint64_t done = 0;
    for (; done < rounds && section.findings() == 0; ++done) {
      watchdog_.rearm(fmt::format("creating in round {}", done));
      try {
        round();
      } catch (const Finding& finding) {
        section.find(fmt::format("round {}: {}", done, finding.what()));
      }
      destroy_named(place_);
    }
    section.set("rounds", done);
    section.set("creators", done * kCreators);
    section.set("deaths", deaths_);
    section.set("deaths_while_opening", opening_deaths_);
    section.set("rounds_without_survivor", without_survivor_);
    section.set("longest_open_ms", std::round(longest_ms_ * 10) / 10);
  }

 private:
  void round() {
    new (desk_) Desk{};
    std::vector<Process> creators;
    std::set<pid_t> ids{::getpid()};
    for (std::size_t index = 0; index < kCreators; ++index) {
      creators.emplace_back([&] { create(place_, *desk_, index); });
      ids.insert(creators.back().id());
    }
    await_all(creators, [](int state) { return state >= Desk::kReady; });
    const std::vector<bool> is_alive = choose_victims();
    desk_->begin = true;
    for (std::size_t index = 0; index < kCreators; ++index) {
      if (!is_alive[index]) bury(creators[index], desk_->seats[index]);
    }
    await_all(creators, [](int state) { return state >= Desk::kAttached; });
    examine(is_alive, ids);
    creators.clear();
    destroy_named(place_);
    const Leftovers left = leftovers_of(place_, ids);
    if (left.segments + left.semaphores != 0) {
      throw Finding(fmt::format("{} segments and {} semaphores are left behind", left.segments, left.semaphores));
    }
  }

  // Up to sixteen, in one round of sixteen all of them.
  std::vector<bool> choose_victims() {
    std::vector<bool> is_alive(kCreators, true);
    const std::size_t victims = random_() % 16 == 0 ? kCreators : random_() % (kCreators / 2 + 1);
    without_survivor_ += victims == kCreators ? 1 : 0;
    for (std::size_t index = 0; index < victims; ++index) {
      is_alive[index] = false;
      // From the first microseconds to long after; a creation takes some hundred of them.
      desk_->seats[index].dies_after_us = 1 + static_cast<long>(random_() % (random_() % 2 == 0 ? 400 : 5000));
    }
    return is_alive;
  }

  void bury(Process& victim, const Desk::Seat& seat) {
    if (victim.wait()) throw Finding("a creator ended by itself");
    ++deaths_;
    opening_deaths_ += seat.state == Desk::kOpening ? 1 : 0;
    if (seat.state == Desk::kFailed) throw Finding(fmt::format("a creator that dies later: {}", seat.complaint.data()));
  }

  template <class IsThere>
  void await_all(const std::vector<Process>& creators, const IsThere& is_there) const {
    for (std::size_t index = 0; index < kCreators; ++index) {
      while (creators[index].id() > 0 && !is_there(desk_->seats[index].state)) {
        // A victim may die before it is waited for.
        if (desk_->seats[index].dies_after_us == 0 && creators[index].has_ended())
          throw Finding(fmt::format("creator {} ended by itself", index));
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    }
  }

  void examine(const std::vector<bool>& is_alive, const std::set<pid_t>& ids) {
    const bool any_alive = std::find(is_alive.begin(), is_alive.end(), true) != is_alive.end();
    Place place = place_;
    if (any_alive) place.flags = MEMSTREAM_OPEN_EXISTING;
    CacheUnderTest cache(place);
    const Uuid uuid = uuid_of(cache);
    std::string value;
    for (std::size_t index = 0; index < kCreators; ++index) {
      if (!is_alive[index]) continue;
      const Desk::Seat& seat = desk_->seats[index];
      if (seat.state == Desk::kFailed) throw Finding(fmt::format("creator {}: {}", index, seat.complaint.data()));
      if (seat.uuid != uuid) throw Finding(fmt::format("creator {} is attached to another segment", index));
      if (!cache.get(key_of(index), &value) || value != make_value(key_of(index), 1, 300)) {
        throw Finding(fmt::format("what creator {} put is not there", index));
      }
      longest_ms_ = std::max(longest_ms_, seat.took_ms);
    }
    cache.check();
    const Leftovers there = leftovers_of(place_, ids);
    if (there.segments != 1) throw Finding(fmt::format("there are {} segments", there.segments));
  }

  Place place_;
  Watchdog watchdog_;
  std::mt19937_64 random_;
  Desk* desk_ = nullptr;
  std::uint64_t deaths_ = 0;
  std::uint64_t opening_deaths_ = 0;
  std::uint64_t without_survivor_ = 0;
  double longest_ms_ = 0;
};

}  // namespace

void run_create(const CommonOptions& common, std::uint64_t rounds, Report& report) {
  for (const std::string& backend : common.backends) {
    Place place = common.place(backend, "create");
    place.size_bytes = std::uint64_t{16} << 20;  // Room for more processes than create it.
    place.timeout_ms *= 10;
    Section section(backend, "create");
    Creating(place, common).run(rounds, section);
    report.add(section);
  }
}

}  // namespace memstream::torture
