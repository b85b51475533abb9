#include "cli/monitor.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "cli/text.h"

namespace memstream::cli {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kLatencyLooks = 10;    // Latencies are those of so many looks together.
constexpr std::size_t kEntriesAtOnce = 256;  // Of a walk, in one call.
constexpr double kWalkShare = 0.0065;        // Of a core, for walks.
constexpr double kWalkSaved = 0.1;           // Seconds of processor time that a walk may take at once, at most.
constexpr milliseconds kWalkPause{250};      // Between two parts of a walk.
constexpr std::chrono::seconds kWalkLongest{
    55};                                        // A walk that takes longer ends, and shows the share that it has seen.
constexpr std::chrono::seconds kWalkRest{5};    // From the end of a walk to the next one, at least.
constexpr std::chrono::seconds kWalkShown{10};  // Between two views of the first walk while it goes on.
constexpr std::chrono::seconds kLinger{30};     // Walks go on for so long after the last reader.

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <std::size_t Size>
std::array<std::uint64_t, Size> grown_by(const std::uint64_t (&before)[Size], const std::uint64_t (&now)[Size]) {
  std::array<std::uint64_t, Size> grown{};
  for (std::size_t i = 0; i < Size; ++i) grown[i] = now[i] - std::min(before[i], now[i]);
  return grown;
}

Json latencies_json(Histogram histogram) {
  Json json = Json::object();
  for (const auto& [title, part] : {std::pair{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}}) {
    const auto value = quantile(histogram, part);
    json[title] = value ? Json(*value) : Json(nullptr);
  }
  return json;
}

Json hot_json(const std::vector<HotKey>& keys) {
  Json rows = Json::array();
  for (const HotKey& key : keys) {
    Json row = entry_json(key.entry);
    row["gets_per_s"] = key.gets_per_s;
    rows.push_back(std::move(row));
  }
  return rows;
}

Json advice_json(const Snapshot& snapshot) {
  Json rows = Json::array();
  for (const Advice& one : advice_for(snapshot)) rows.push_back({{"what", one.what}, {"why", one.why}});
  return rows;
}

// Those that were seen before, where somebody keeps a lock: then all else matters more.
std::vector<memstream_entry_t> hot_keys_or(const Cache& cache, const std::vector<memstream_entry_t>& before) {
  try {
    return cache.hot_keys();
  } catch (const Failure& failure) {
    if (failure.status() != CACHE_BUSY) throw;
    return before;
  }
}

std::string event_text(const char* name, const Json& data) {
  return fmt::format("event: {}\ndata: {}\n\n", name, data.dump());
}

}  // namespace

Json sample_json(const Snapshot& before, const Snapshot& now) {
  const Interval interval = between(before, now);
  Json causes = Json::object();
  for (std::size_t cause = 0; cause < kEvictionCauses; ++cause) {
    const std::uint64_t from = before.metrics.removals[cause];
    const std::uint64_t to = now.metrics.removals[cause];
    causes[kRemovalNames[cause]] =
        interval.seconds > 0 ? static_cast<double>(to - std::min(from, to)) / interval.seconds : 0;
  }
  return {
      {"time_ms", now.stats.now_ms},
      {"seconds", interval.seconds},
      {"gets_per_s", interval.gets_per_s},
      {"puts_per_s", interval.puts_per_s},
      {"deletes_per_s", interval.deletes_per_s},
      {"expirations_per_s", interval.expirations_per_s},
      {"evictions_per_s", interval.evictions_per_s},
      {"evictions_by_cause_per_s", causes},
      {"hit_ratio", interval.gets == 0 ? Json(nullptr)
                                       : Json(static_cast<double>(interval.hits) / static_cast<double>(interval.gets))},
      {"entries", now.stats.entries},
      {"used_memory", now.stats.used_memory + now.stats.table_memory},
      {"processes", now.stats.processes}};
}

// ---- walks ----

void Walk::begin(const cache_stats_t& stats) {
  survey_.emplace(stats.now_ms, stats.max_memory, separators_);
  expected_ = stats.entries;
  is_from_start_ = cursor_ == 0;
  has_all_ = false;
  begun_ = shown_ = Clock::now();
}

bool Walk::visit(const Cache& cache) {
  room_.resize(kEntriesAtOnce);
  std::size_t count = 0;
  require_ok(memstream_scan(cache.get(), &cursor_, room_.data(), room_.size(), &count));
  for (std::size_t i = 0; i < count; ++i) survey_->add(room_[i]);
  // A walk that began in the middle goes on at the start, until it has seen as many as there were.
  has_all_ = cursor_ == 0 && is_from_start_;
  return has_all_ || (!is_from_start_ && survey_->entries() >= expected_) || (cursor_ == 0 && count == 0);
}

void Walk::publish(const cache_stats_t& stats, bool is_over) {
  const auto seen = static_cast<double>(survey_->entries());
  const double share = has_all_ || expected_ == 0 ? 1 : std::min(1.0, seen / static_cast<double>(expected_));
  found_ = survey_->json(share, stats.now_ms);
  found_["is_over"] = is_over;
  shown_ = Clock::now();
}

bool Walk::advance(const Cache& cache, const cache_stats_t& stats) {
  const auto now = Clock::now();
  saved_seconds_ = had_an_end_ || survey_ ? saved_seconds_ : kWalkSaved;
  saved_seconds_ = std::min(kWalkSaved, saved_seconds_ + kWalkShare * duration<double>(now - filled_).count());
  filled_ = now;
  if (!survey_) {
    if (had_an_end_ && now - ended_ < kWalkRest) return false;
    begin(stats);
  }
  const double begin_seconds = thread_seconds();
  double spent = 0;
  bool is_over = false;
  while (!is_over && spent < saved_seconds_) {
    is_over = visit(cache);
    spent = thread_seconds() - begin_seconds;
  }
  is_over = is_over || Clock::now() - begun_ > kWalkLongest;
  const bool is_shown = is_over || (!had_an_end_ && (found_.is_null() || Clock::now() - shown_ > kWalkShown));
  if (is_shown) publish(stats, is_over);
  if (is_over) {
    survey_.reset();
    ended_ = Clock::now();
    had_an_end_ = true;
  }
  saved_seconds_ -= thread_seconds() - begin_seconds;
  return is_shown;
}

void Walk::complete(const Cache& cache, const cache_stats_t& stats) {
  cursor_ = 0;
  begin(stats);
  while (!visit(cache)) continue;
  publish(stats, true);
  survey_.reset();
}

// ---- the monitor ----

Monitor::Monitor(MonitorChoices choices)
    : choices_(std::move(choices)),
      walk_(choices_.separators),
      cache_(std::make_shared<const Cache>(choices_.target, choices_.attach)),
      now_(take_snapshot(*cache_)),
      hot_(hot_keys_or(*cache_, {})),
      recent_{now_} {
  sample_event_ = event_text("sample", sample_event());
}

Monitor::~Monitor() { stop(); }

void Monitor::start() {
  thread_ = std::thread([this] { run(); });
}

void Monitor::stop() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Monitor::look_once() {
  std::this_thread::sleep_for(choices_.interval);
  look();
  walk_.complete(*cache_, now_.stats);
  walked_ = walk_.found();
}

std::shared_ptr<const Cache> Monitor::cache() const {
  const std::lock_guard lock(mutex_);
  if (cache_ == nullptr) throw Failure(CACHE_GONE, problem_);
  return cache_;
}

std::size_t Monitor::readers() const {
  const std::lock_guard lock(mutex_);
  return readers_;
}

// REQUIRES: the caller holds the mutex.
bool Monitor::is_watched() const {
  return readers_ != 0 || (last_reader_ != steady_clock::time_point() && steady_clock::now() - last_reader_ < kLinger);
}

void Monitor::run() {
  auto next_look = steady_clock::now() + choices_.interval;
  auto next_walk = steady_clock::now();
  std::unique_lock lock(mutex_);
  while (!is_stopping_) {
    const bool walks = choices_.has_walks && cache_ != nullptr && is_watched();
    const auto next = walks ? std::min(next_look, next_walk) : next_look;
    changed_.wait_until(lock, next, [this] { return is_stopping_; });
    if (is_stopping_) return;
    lock.unlock();
    try {
      if (steady_clock::now() >= next_look) {
        // After a pause of the machine the looks that were missed stay away.
        next_look = std::max(next_look + choices_.interval, steady_clock::now());
        look();
      }
      if (walks && steady_clock::now() >= next_walk) {
        next_walk = steady_clock::now() + kWalkPause;
        walk();
      }
    } catch (const Failure& failure) {
      const std::lock_guard again(mutex_);
      problem_ = failure.what();
      if (failure.status() == CACHE_GONE) cache_ = nullptr;
      sample_event_ = event_text("problem", {{"message", problem_}});
      ++samples_;
      changed_.notify_all();
    }
    lock.lock();
  }
}

// A segment that was destroyed is often made again.
void Monitor::reopen() {
  auto cache = std::make_shared<const Cache>(choices_.target, choices_.attach);
  Snapshot first = take_snapshot(*cache);
  const std::lock_guard lock(mutex_);
  cache_ = std::move(cache);
  now_ = std::move(first);
  recent_ = {now_};
  hot_.clear();
  walk_ = Walk(choices_.separators);
}

void Monitor::look() {
  if (cache_ == nullptr) reopen();
  const Cache& cache = *cache_;  // Only this thread replaces it.
  Snapshot now = take_snapshot(cache);
  std::vector<memstream_entry_t> hot = hot_keys_or(cache, hot_);
  Json sample = sample_json(now_, now);
  const double seconds = sample["seconds"];
  std::vector<HotKey> rates = hot_keys_between(hot_, hot, seconds);
  sample["get_ns"] = latencies_json(grown_by(recent_.front().metrics.get_ns, now.metrics.get_ns));
  sample["set_ns"] = latencies_json(grown_by(recent_.front().metrics.set_ns, now.metrics.set_ns));
  const std::lock_guard lock(mutex_);
  problem_.clear();
  now_ = std::move(now);
  hot_ = std::move(hot);
  rates_ = std::move(rates);
  recent_.push_back(now_);
  if (recent_.size() > kLatencyLooks) recent_.pop_front();
  history_.push_back(std::move(sample));
  if (history_.size() > kHistory) history_.pop_front();
  if (readers_ != 0) sample_event_ = event_text("sample", sample_event());
  ++samples_;
  changed_.notify_all();
}

void Monitor::walk() {
  if (!walk_.advance(*cache_, now_.stats)) return;
  const std::lock_guard lock(mutex_);
  walked_ = walk_.found();
  walk_event_ = event_text("survey", walked_);
  ++walks_;
  changed_.notify_all();
}

// REQUIRES: the caller holds the mutex.
Json Monitor::sample_event() const {
  return {{"stat", as_json(now_)},
          {"sample", history_.empty() ? Json(nullptr) : history_.back()},
          {"hot", hot_json(rates_)},
          {"processes", processes_json(now_.processes, now_.locks)},
          {"advice", advice_json(now_)}};
}

Json Monitor::report() const {
  const std::lock_guard lock(mutex_);
  Json report = sample_event();
  report["version"] = cache_version();
  report["problem"] = problem_;
  report["interval_ms"] = choices_.interval.count();
  report["history"] = history_;
  report["survey"] = walked_;
  return report;
}

// ---- readers ----

Monitor::Reader::Reader(Monitor& monitor) : monitor_(monitor) {
  const std::lock_guard lock(monitor_.mutex_);
  ++monitor_.readers_;
  samples_ = monitor_.samples_;
  walks_ = 0;  // It gets what the last walk found.
}

Monitor::Reader::~Reader() {
  const std::lock_guard lock(monitor_.mutex_);
  --monitor_.readers_;
  monitor_.last_reader_ = steady_clock::now();
}

std::optional<std::string> Monitor::Reader::next(milliseconds longest) {
  std::unique_lock lock(monitor_.mutex_);
  monitor_.changed_.wait_for(lock, longest, [this] {
    return monitor_.is_stopping_ || monitor_.samples_ != samples_ || monitor_.walks_ != walks_;
  });
  if (monitor_.is_stopping_) return std::nullopt;
  std::string text;
  if (monitor_.walks_ != walks_) text += monitor_.walk_event_;
  if (monitor_.samples_ != samples_) text += monitor_.sample_event_;
  walks_ = monitor_.walks_;
  samples_ = monitor_.samples_;
  return text.empty() ? ": nothing new\n\n" : text;
}

}  // namespace memstream::cli
