// memstream top: the cache at work, redrawn every second. Without a terminal one block of plain lines each time.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <clocale>
#include <deque>
#include <thread>

// ncurses defines macros with the names of usual functions.
#define NCURSES_NOMACROS
#include <ncurses.h>

#include "cli/command.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

constexpr std::size_t kHistory = 240;  // Ratios that the sparkline shows at most.
constexpr std::size_t kTopKeyWidth = 50;
constexpr double kScanSeconds = 30;  // Between two searches for the largest keys.

struct TopChoices {
  double seconds = 1;
  std::uint64_t count = 0;
  std::string filter;
};

enum class Order { kRate, kGets, kSize, kKey };
constexpr const char* kOrderNames[] = {"rate", "gets", "size", "key"};

// The data on the screen: filled from the cache, read by the code that draws it.
class View {
 public:
  View(const Cache& cache, std::string filter)
      : cache_(cache), filter_(std::move(filter)), now_(take_snapshot(cache)), hot_(cache.hot_keys()) {
    find_large();
  }

  void look() {
    Snapshot before = std::move(now_);
    now_ = take_snapshot(cache_);
    interval_ = between(before, now_);
    const auto instant = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(instant - hot_at_).count();
    std::vector<memstream_entry_t> hot = cache_.hot_keys();
    rates_ = hot_keys_between(hot_, hot, seconds);
    hot_ = std::move(hot);
    hot_at_ = instant;
    if (std::chrono::duration<double>(instant - large_at_).count() > kScanSeconds) find_large();
    ratios_.push_back(interval_.gets == 0 ? -1
                                          : static_cast<double>(interval_.hits) / static_cast<double>(interval_.gets));
    if (ratios_.size() > kHistory) ratios_.pop_front();
  }

  void next_order() { order_ = static_cast<Order>((static_cast<int>(order_) + 1) % 4); }
  const std::string& filter() const { return filter_; }
  void set_filter(std::string filter) {
    filter_ = std::move(filter);
    find_large();
  }

  // The screen as lines, of which the most important come first.
  std::vector<std::string> lines(std::size_t width, std::size_t height, bool is_paused) const {
    const cache_stats_t& s = now_.stats;
    std::vector<std::string> lines;
    const auto add = [&](std::string line) { lines.push_back(std::move(line)); };
    add(fmt::format("memstream {}:{}  {}  {}", now_.backend, now_.name, format_instant(s.now_ms),
                    is_paused ? "PAUSED" : ""));
    add(fmt::format("gets/s {:.0f}  puts/s {:.0f}  evicted/s {:.0f}  expired/s {:.0f}  hits {}", interval_.gets_per_s,
                    interval_.puts_per_s, interval_.evictions_per_s, interval_.expirations_per_s,
                    format_share(interval_.hits, interval_.gets)));
    add(fmt::format("entries {}  used {} of {} ({})  tables {}  pinned {}", s.entries, format_size(s.used_memory),
                    format_size(s.max_memory), format_share(s.used_memory, s.max_memory), format_size(s.table_memory),
                    format_size(s.pinned_memory)));
    add("hit ratio " + sparkline(width > 12 ? width - 12 : 1));
    const std::size_t left = height > 7 ? height - 7 : 3;
    const std::size_t part = std::max<std::size_t>(left / 3, 2);
    add_hot(&lines, part);
    add_large(&lines, part);
    add_processes(&lines, part);
    return lines;
  }

  std::string status() const {
    return fmt::format("q quit  p pause  s sort ({})  / filter{}", kOrderNames[static_cast<int>(order_)],
                       filter_.empty() ? "" : " (" + printable(filter_, 20) + ")");
  }

 private:
  void find_large() {
    large_.clear();
    const auto is_larger = [](const memstream_entry_t& a, const memstream_entry_t& b) {
      return a.value_size > b.value_size;
    };
    cache_.scan([&](const memstream_entry_t& entry) {
      if (!matches(filter_, key_of(entry))) return true;
      const auto place = std::upper_bound(large_.begin(), large_.end(), entry, is_larger);
      if (place == large_.end() && large_.size() >= kLargest) return true;
      large_.insert(place, entry);
      if (large_.size() > kLargest) large_.pop_back();
      return true;
    });
    large_at_ = std::chrono::steady_clock::now();
  }

  std::string sparkline(std::size_t width) const {
    constexpr const char* kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    std::string text;
    const std::size_t begin = ratios_.size() > width ? ratios_.size() - width : 0;
    for (std::size_t i = begin; i < ratios_.size(); ++i) {
      text += ratios_[i] < 0 ? " " : kBars[std::min<std::size_t>(static_cast<std::size_t>(ratios_[i] * 8), 7)];
    }
    return text;
  }

  std::vector<HotKey> ordered() const {
    std::vector<HotKey> keys;
    std::copy_if(rates_.begin(), rates_.end(), std::back_inserter(keys),
                 [&](const HotKey& key) { return matches(filter_, key_of(key.entry)); });
    std::stable_sort(keys.begin(), keys.end(), [&](const HotKey& a, const HotKey& b) {
      switch (order_) {
        case Order::kRate:
          return a.gets_per_s > b.gets_per_s;
        case Order::kGets:
          return a.entry.access_count > b.entry.access_count;
        case Order::kSize:
          return a.entry.value_size > b.entry.value_size;
        case Order::kKey:
          break;
      }
      return key_of(a.entry) < key_of(b.entry);
    });
    return keys;
  }

  static void add_table(std::vector<std::string>* lines, const Table& table) {
    std::string text = table.render();
    for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      lines->push_back(text.substr(0, end));
      text.erase(0, end + 1);
    }
  }
  void add_hot(std::vector<std::string>* lines, std::size_t most) const {
    Table table({"HOT KEY", "GETS/S", "GETS", "SIZE"});
    const std::vector<HotKey> keys = ordered();
    for (std::size_t i = 0; i < std::min(most - 1, keys.size()); ++i) {
      table.add({printable(key_of(keys[i].entry), kTopKeyWidth), fmt::format("{:.0f}", keys[i].gets_per_s),
                 std::to_string(keys[i].entry.access_count), format_size(keys[i].entry.value_size)});
    }
    add_table(lines, table);
  }
  void add_large(std::vector<std::string>* lines, std::size_t most) const {
    Table table({"LARGE KEY", "SIZE", "GETS"});
    for (std::size_t i = 0; i < std::min(most - 1, large_.size()); ++i) {
      table.add({printable(key_of(large_[i]), kTopKeyWidth), format_size(large_[i].value_size),
                 std::to_string(large_[i].access_count)});
    }
    add_table(lines, table);
  }
  void add_processes(std::vector<std::string>* lines, std::size_t most) const {
    Table table({"PROCESS", "GETS", "HITS", "PUTS", "VIEWS"});
    for (std::size_t i = 0; i < std::min(most - 1, now_.processes.size()); ++i) {
      const memstream_process_t& process = now_.processes[i];
      table.add({std::to_string(process.pid), std::to_string(process.hits + process.misses),
                 format_share(process.hits, process.hits + process.misses), std::to_string(process.puts),
                 std::to_string(process.pins)});
    }
    add_table(lines, table);
  }

  static constexpr std::size_t kLargest = 20;

  const Cache& cache_;
  std::string filter_;
  Order order_ = Order::kRate;
  Snapshot now_;
  Interval interval_;
  std::vector<memstream_entry_t> hot_;
  std::chrono::steady_clock::time_point hot_at_ = std::chrono::steady_clock::now();
  std::vector<HotKey> rates_;
  std::vector<memstream_entry_t> large_;
  std::chrono::steady_clock::time_point large_at_;
  std::deque<double> ratios_;
};

// Sets the terminal up, and restores it when the object ends.
class Screen {
 public:
  Screen() {
    std::setlocale(LC_CTYPE, "");
    initscr();
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen() { endwin(); }

  static std::size_t width() { return static_cast<std::size_t>(std::max(getmaxx(stdscr), 1)); }
  static std::size_t height() { return static_cast<std::size_t>(std::max(getmaxy(stdscr), 1)); }

  // After a change of the size the terminal may show anything: what was written for the old size is drawn again.
  void draw(const View& view, bool is_paused) {
    if (height() != drawn_height_ || width() != drawn_width_) clearok(stdscr, TRUE);
    drawn_height_ = height();
    drawn_width_ = width();
    erase();
    const std::vector<std::string> lines = view.lines(width(), height(), is_paused);
    for (std::size_t row = 0; row + 1 < height() && row < lines.size(); ++row) {
      mvaddnstr(static_cast<int>(row), 0, lines[row].c_str(), -1);
    }
    attron(A_REVERSE);
    mvaddnstr(static_cast<int>(height()) - 1, 0, view.status().c_str(), static_cast<int>(width()) - 1);
    attroff(A_REVERSE);
    refresh();
  }

  static std::string ask(const char* question) {
    const int row = static_cast<int>(height()) - 1;
    move(row, 0);
    clrtoeol();
    addstr(question);
    echo();
    timeout(-1);
    char answer[128] = "";
    getnstr(answer, sizeof answer - 1);
    noecho();
    return answer;
  }

 private:
  std::size_t drawn_height_ = 0;
  std::size_t drawn_width_ = 0;
};

int show_on_screen(View& view, const TopChoices& choices) {
  Screen screen;
  bool is_paused = false;
  std::uint64_t looks = 0;
  auto next_look = std::chrono::steady_clock::now();
  for (;;) {
    screen.draw(view, is_paused);
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(next_look - std::chrono::steady_clock::now());
    timeout(static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    const int key = getch();
    if (key == 'q') return kDone;
    if (key == 'p') is_paused = !is_paused;
    if (key == 's') view.next_order();
    if (key == '/') view.set_filter(Screen::ask("pattern (empty: all): "));
    if (std::chrono::steady_clock::now() < next_look) continue;
    if (!is_paused) {
      view.look();
      if (choices.count != 0 && ++looks > choices.count) return kDone;
    }
    next_look = std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<int>(choices.seconds * 1000));
  }
}

int show_as_lines(View& view, const TopChoices& choices) {
  for (std::uint64_t look = 0; choices.count == 0 || look < choices.count; ++look) {
    std::this_thread::sleep_for(std::chrono::duration<double>(choices.seconds));
    view.look();
    for (const std::string& line : view.lines(100, 40, false)) fmt::print("{}\n", line);
    fmt::print("\n");
    if (std::fflush(stdout) != 0) return kRefused;
  }
  return kDone;
}

int top(const Session& session, const TopChoices& choices) {
  const Cache cache(session.target, Attach::kLook);
  if (session.json) {
    const Snapshot before = take_snapshot(cache);
    std::this_thread::sleep_for(std::chrono::duration<double>(choices.seconds));
    const Snapshot now = take_snapshot(cache);
    const Interval interval = between(before, now);
    fmt::print("{}\n", Json{{"seconds", interval.seconds},
                            {"gets_per_s", interval.gets_per_s},
                            {"puts_per_s", interval.puts_per_s},
                            {"evictions_per_s", interval.evictions_per_s},
                            {"hits", interval.hits},
                            {"gets", interval.gets}}
                           .dump(2));
    return kDone;
  }
  View view(cache, choices.filter);
  return isatty(STDOUT_FILENO) != 0 && isatty(STDIN_FILENO) != 0 ? show_on_screen(view, choices)
                                                                 : show_as_lines(view, choices);
}

}  // namespace

void add_top_command(CLI::App& app, Session& session) {
  CLI::App* command = add_look_command(app, session, "top", "Watch a cache: rates, hot keys, large keys, processes",
                                       "  memstream top\n  memstream top --filter 'user:*'\n"
                                       "  memstream top --count 1 | cat");
  const auto choices = std::make_shared<TopChoices>();
  command->add_option("--seconds", choices->seconds, "between two looks")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  command->add_option("--count", choices->count, "stop after so many looks")->check(CLI::PositiveNumber);
  command->add_option("--filter", choices->filter, "show keys that match this shell pattern");
  command->callback([&session, choices] { session.run = [&session, choices] { return top(session, *choices); }; });
}

}  // namespace memstream::cli
