// A process that works on a scene's cache while another is stepped through an operation and killed.
#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/torture/operations.h"
#include "tests/torture/process.h"
#include "tests/torture/watched_key.h"

namespace memstream::torture {

// Rests from its beginning, and after rest(), so that the bytes of the segment can be put back under it.
class LivePeer {
 public:
  // Enters the process table. REQUIRES: before the scene's bytes are copied for the first time.
  explicit LivePeer(Scene& scene);
  LivePeer(const LivePeer&) = delete;
  LivePeer& operator=(const LivePeer&) = delete;
  ~LivePeer();

  // Which keys to work on, and what the operation makes of them.
  void watch(const Operation& operation, const Content& before, const Content& after);
  // Sets it to work. `writes_all`: also on the keys that the operation writes, which it only reads otherwise.
  void begin(bool writes_all, std::uint64_t seed);
  // Rounds since begin().
  std::uint64_t rounds() const;
  // Tells it of the death; it works three more rounds, in which nothing may hinder it, and rests. Throws its finding.
  void rest_after_death();

  struct Known {
    bool is_watched = false;
    bool is_there = false;
    std::size_t hash = 0;  // Of the value.
  };
  // What it last knew of a key. REQUIRES: it rests.
  Known known(std::string_view key) const;
  // The longest call since begin().
  double longest_ms() const;

 private:
  struct Desk;  // In memory that both share.

  // In the process.
  [[noreturn]] void serve(Scene& scene);
  void work(Scene& scene);
  void round(Scene& scene, std::uint64_t number);
  void read(Scene& scene, WatchedKey& watched);
  void view(Scene& scene, WatchedKey& watched);
  void write(Scene& scene, WatchedKey& watched);
  void look_around(Scene& scene);
  void use_other_place(Scene& scene);
  template <class Call>
  int timed(const char* what, const Call& call);

  void send(char order) const;
  void await_answer() const;

  Desk* desk_;
  int orders_[2] = {-1, -1};
  int answers_[2] = {-1, -1};
  double late_ms_;
  bool visits_other_ = false;
  std::vector<WatchedKey> watched_;
  std::mt19937_64 random_;
  std::uint64_t version_ = 0;
  std::vector<Process> process_;  // One.
};

}  // namespace memstream::torture
