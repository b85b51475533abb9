// One computation for all processes and threads: the first caller computes, the others wait for its value.
//
//   single_flight KEY     prints the value, and whether this process computed it
//
//   c++ -std=c++20 single_flight.cpp $(pkg-config --cflags --libs memstream) -o single_flight
#include <chrono>
#include <cstdio>
#include <memstream/memstream.hpp>
#include <string>
#include <thread>

using namespace std::chrono_literals;

// Stands for a query or a rendering that takes long.
static std::string make_report(const std::string& key) {
  std::this_thread::sleep_for(500ms);
  return "report of " + key;
}

int main(int argument_count, char** arguments) {
  if (argument_count != 2) {
    std::fprintf(stderr, "usage: single_flight KEY\n");
    return 2;
  }
  auto opened = memstream::Cache::open();
  if (!opened) {
    std::fprintf(stderr, "%s\n", std::string(opened.error().message()).c_str());
    return 1;
  }

  bool is_mine = false;
  const std::string key = arguments[1];
  const memstream::MemoizeOptions options{
      .ttl = 5min,   // The value is used for so long.
      .wait = 10s,   // A caller that waited for so long computes by itself.
      .lease = 30s,  // A computation that takes longer no longer holds the others up.
      .not_stored = [](const memstream::Error& error) {
        std::fprintf(stderr, "not stored: %s\n", std::string(error.message()).c_str());
      }};
  // If the process that computes dies, one of those that wait takes over immediately.
  const auto report = opened->memoize(
      "report:" + key,
      [&] {
        is_mine = true;
        return make_report(key);
      },
      options);
  if (!report) {
    std::fprintf(stderr, "%s\n", std::string(report.error().message()).c_str());
    return 1;
  }
  std::printf("%s, %s\n", report->c_str(), is_mine ? "computed here" : "computed elsewhere");
  return 0;
}
