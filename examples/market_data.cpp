// Market data as structs: one feed publishes quotes, many strategies read them.
//
//   market_data publish SYMBOL BID ASK     stores a quote, and adds it to the symbol's history
//   market_data show SYMBOL...             prints the last quotes of all symbols, fetched in one call
//   market_data mean SYMBOL                averages the history, which it reads in place
//
//   c++ -std=c++20 market_data.cpp $(pkg-config --cflags --libs memstream) -o market_data
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memstream/memstream.hpp>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;

// What is stored, byte for byte. Change the prefix of the keys whenever you change the struct.
struct Quote {
  double bid;
  double ask;
  std::int64_t time_ns;  // Of the clock that all processes of the machine share.
};
static_assert(sizeof(Quote) == 24, "no padding: its bytes are the same for each compiler");

static constexpr std::size_t kHistory = 1000;  // Quotes that a history keeps.

static std::string last_key(std::string_view symbol) { return "quote:1:" + std::string(symbol); }
static std::string history_key(std::string_view symbol) { return "history:1:" + std::string(symbol); }

static std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Adds to the history by compare-and-set, so that two feeds of one symbol lose nothing.
static void remember(memstream::ThrowingCache& cache, std::string_view symbol, const Quote& quote) {
  const std::string key = history_key(symbol);
  for (;;) {
    memstream::Meta meta{};
    auto history = cache.get<std::vector<Quote>>(key, meta);
    if (!history) {
      if (cache.add(key, std::vector<Quote>{quote})) return;
      continue;  // Another feed was first.
    }
    if (history->size() >= kHistory) history->erase(history->begin());
    history->push_back(quote);
    if (cache.compare_and_set(key, *history, meta.cas)) return;
  }
}

static int publish(memstream::ThrowingCache& cache, std::string_view symbol, double bid, double ask) {
  const Quote quote{bid, ask, now_ns()};
  // A quote that nobody renews for a minute is no quote any more.
  cache.set(last_key(symbol), quote, {.ttl = 60s});
  remember(cache, symbol, quote);
  return 0;
}

static int show(memstream::ThrowingCache& cache, const std::vector<std::string_view>& symbols) {
  std::vector<std::string> keys;
  for (const std::string_view symbol : symbols) keys.push_back(last_key(symbol));
  const std::vector<std::string_view> asked(keys.begin(), keys.end());
  const auto found = cache.get_many(asked);
  int missing = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    const std::string symbol(symbols[i]);
    if (const auto quote = found.get<Quote>(i)) {
      std::printf("%s %.5f %.5f\n", symbol.c_str(), quote->bid, quote->ask);
    } else {
      std::printf("%s no quote\n", symbol.c_str());
      ++missing;
    }
  }
  return missing == 0 ? 0 : 1;
}

static int mean(memstream::ThrowingCache& cache, std::string_view symbol) {
  // The view keeps these quotes as they are, while the feed goes on.
  const auto view = cache.view(history_key(symbol));
  if (!view) {
    std::printf("%s no quote\n", std::string(symbol).c_str());
    return 1;
  }
  const auto quotes = view->as_array<Quote>().value();
  double sum = 0;
  for (const Quote& quote : quotes) sum += (quote.bid + quote.ask) / 2;
  std::printf("%s %.5f of %zu\n", std::string(symbol).c_str(), sum / static_cast<double>(quotes.size()), quotes.size());
  return 0;
}

int main(int argument_count, char** arguments) {
  const std::vector<std::string_view> words(arguments + 1, arguments + argument_count);
  const std::string_view command = words.empty() ? "" : words[0];
  try {
    auto cache = memstream::ThrowingCache::open();
    if (command == "publish" && words.size() == 4) {
      return publish(cache, words[1], std::atof(arguments[3]), std::atof(arguments[4]));
    }
    if (command == "show" && words.size() > 1) return show(cache, {words.begin() + 1, words.end()});
    if (command == "mean" && words.size() == 2) return mean(cache, words[1]);
  } catch (const memstream::Exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: market_data publish SYMBOL BID ASK | show SYMBOL... | mean SYMBOL\n");
  return 2;
}
