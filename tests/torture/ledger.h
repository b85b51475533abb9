// What processes were told is stored, kept outside the segment: the truth that a cache is audited against.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "tests/torture/cache_under_test.h"

namespace memstream::torture {

// How much eight processes put.
struct Load {
  std::size_t keys = 16;           // Of each process; nobody else writes them. At most Ledger::kMostKeys.
  std::uint64_t large_every = 64;  // One version of so many is a large value.
  bool evicts = false;             // More than the cache holds: a key may be missing, but never old or torn.
};

// In memory that forked processes share. Each key has versions: a version says whether it is a value or a delete, and
// determines the value.
class Ledger {
 public:
  static constexpr std::size_t kProcesses = 8;
  static constexpr std::size_t kMostKeys = 64;

  explicit Ledger(const Load& load);
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  ~Ledger();

  const Load& load() const { return load_; }

  static std::string key(std::size_t process, std::size_t key);
  // Absent: the version is a delete.
  std::optional<std::string> value(std::size_t process, std::size_t key, std::uint64_t version) const;

  // By the one process that writes the key: before its call and when the library said that it is done.
  std::uint64_t begin(std::size_t process, std::size_t key);
  void stored(std::size_t process, std::size_t key, std::uint64_t version);

  // By whoever reads the key: the last version that was stored before the read ...
  std::uint64_t last_stored(std::size_t process, std::size_t key) const;
  // ... and what it found. Throws Finding for a value that nobody wrote whole, for one that is older than that, and
  // for a key that is lost.
  void verify(std::size_t process, std::size_t key, std::uint64_t last_stored,
              const std::optional<std::string>& found) const;
  // The same for a process that is dead and a shard that is right again: from here on no other value may come.
  void settle(std::size_t process, std::size_t key, const std::optional<std::string>& found);

  // What processes report of themselves.
  void note_call(std::size_t process, double took_ms, bool busy);
  double longest_ms() const;
  std::uint64_t calls() const;
  std::uint64_t busy() const;
  // Reads, by anybody, that did not find what was stored: each is a finding too.
  std::uint64_t lost() const;

 private:
  struct Pages;

  // The version of a value; throws Finding if it is none.
  std::uint64_t version_of(std::size_t process, std::size_t key, const std::string& found) const;

  Load load_;
  Pages* pages_;
};

}  // namespace memstream::torture
