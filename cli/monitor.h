// Watches a cache for a page: looks at its numbers every second, walks over its entries in the background, and keeps a
// history. Whoever shows something waits here for what is new.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/cache.h"
#include "cli/snapshot.h"
#include "cli/survey.h"

namespace memstream::cli {

struct MonitorChoices {
  Target target;
  Attach attach = Attach::kLook;
  std::vector<std::string> separators{":", "/"};  // Where prefixes end.
  std::chrono::milliseconds interval{1000};       // Between two looks.
  bool has_walks = true;                          // Whether it walks over the entries.
};

// One look compared with the one before: what the charts show.
Json sample_json(const Snapshot& before, const Snapshot& now);

// One walk over the entries that takes no more than its share of the processor. docs/decisions/0023 has the reasons.
class Walk {
 public:
  explicit Walk(std::vector<std::string> separators) : separators_(std::move(separators)) {}

  // Goes on for as long as the processor time that has been saved up lasts. True if there is something new to show.
  bool advance(const Cache& cache, const cache_stats_t& stats);
  // To the end, whatever it takes.
  void complete(const Cache& cache, const cache_stats_t& stats);
  // What the last walk that ended found, or else the present one as far as it is. Null: nothing yet.
  const Json& found() const noexcept { return found_; }

 private:
  using Clock = std::chrono::steady_clock;

  void begin(const cache_stats_t& stats);
  // Visits some entries; true at the end of the walk.
  bool visit(const Cache& cache);
  void publish(const cache_stats_t& stats, bool is_over);

  std::vector<std::string> separators_;
  std::vector<memstream_entry_t> room_;
  std::optional<Survey> survey_;
  Json found_;
  std::uint64_t cursor_ = 0;
  std::uint64_t expected_ = 0;  // Entries when the walk began.
  bool is_from_start_ = true;
  bool has_all_ = false;
  bool had_an_end_ = false;
  Clock::time_point begun_;
  Clock::time_point ended_;
  Clock::time_point shown_;
  Clock::time_point filled_ = Clock::now();
  double saved_seconds_ = 0;  // Of processor time.
};

class Monitor {
 public:
  // Opens the cache and takes the first look. Throws Failure.
  explicit Monitor(MonitorChoices choices);
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;
  ~Monitor();

  // Looks from now on, in a thread of its own, until stop().
  void start();
  // Wakes all who wait; they get nothing more.
  void stop();

  // Without a thread: one look after the interval, and a walk over all entries.
  void look_once();

  // The cache as it is open now. Throws Failure if it went away and is not back yet.
  std::shared_ptr<const Cache> cache() const;

  // All that is known, as one document: what a page begins with.
  Json report() const;

  // A reader of the events, from its making to its end. Walks are made only for readers, and shortly after.
  class Reader {
   public:
    explicit Reader(Monitor& monitor);
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader();

    // Waits for what is new, at most so long: text for an event stream, or a comment that keeps the connection open.
    // Nothing: the monitor has stopped.
    std::optional<std::string> next(std::chrono::milliseconds longest);

   private:
    Monitor& monitor_;
    std::uint64_t samples_;
    std::uint64_t walks_;
  };
  std::size_t readers() const;

 private:
  friend class Reader;
  static constexpr std::size_t kHistory = 900;

  void run();
  void look();
  void walk();
  void reopen();
  bool is_watched() const;
  Json sample_event() const;

  MonitorChoices choices_;
  Walk walk_;
  mutable std::mutex mutex_;  // Guards what follows.
  std::condition_variable changed_;
  std::shared_ptr<const Cache> cache_;
  std::string problem_;  // Why there is nothing new; empty if there is.
  Snapshot now_;
  std::vector<memstream_entry_t> hot_;
  std::vector<HotKey> rates_;
  std::deque<Snapshot> recent_;  // For latencies, which need more than one second of a sample.
  std::deque<Json> history_;
  Json walked_;
  std::string sample_event_;
  std::string walk_event_;
  std::uint64_t samples_ = 1;
  std::uint64_t walks_ = 0;
  std::size_t readers_ = 0;
  std::chrono::steady_clock::time_point last_reader_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace memstream::cli
