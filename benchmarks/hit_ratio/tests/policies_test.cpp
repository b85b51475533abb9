// The reference policies against sequences worked out by hand, and against brute force.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "benchmarks/hit_ratio/policy.h"
#include "benchmarks/hit_ratio/real_cache.h"

namespace memstream::bench {
namespace {

// A trace of objects named by letters, each of one byte unless `large` names it: that one has six.
Trace trace_of(const std::string& letters, char large = ' ') {
  std::stringstream text;
  for (const char letter : letters) text << letter << ',' << (letter == large ? 6 : 1) << '\n';
  return read_trace(text, "test");
}

// One character for each request: H or a dot.
std::string outcome(const PolicyKind& kind, std::uint64_t capacity, const std::string& letters, char large = ' ') {
  const Trace trace = trace_of(letters, large);
  const auto policy = kind.make(capacity, trace);
  std::string hits;
  for (std::size_t i = 0; i < trace.requests.size(); ++i) hits += policy->access(trace.requests[i], i) ? 'H' : '.';
  return hits;
}

// The most hits that any choice of what to keep can give, with objects of one byte.
std::uint64_t most_hits(const std::vector<std::uint32_t>& requests, std::size_t at, std::vector<std::uint32_t> kept,
                        std::size_t capacity) {
  if (at == requests.size()) return 0;
  if (std::find(kept.begin(), kept.end(), requests[at]) != kept.end()) {
    return 1 + most_hits(requests, at + 1, kept, capacity);
  }
  std::uint64_t most = most_hits(requests, at + 1, kept, capacity);  // Not kept at all.
  if (kept.size() < capacity) {
    kept.push_back(requests[at]);
    return std::max(most, most_hits(requests, at + 1, kept, capacity));
  }
  for (std::uint32_t& victim : kept) {
    const std::uint32_t before = std::exchange(victim, requests[at]);
    most = std::max(most, most_hits(requests, at + 1, kept, capacity));
    victim = before;
  }
  return most;
}

// Low numbers come more often.
Trace random_trace(std::uint32_t objects, std::size_t requests, std::uint32_t max_size, unsigned seed) {
  std::mt19937 random(seed);
  Trace trace;
  for (std::uint32_t i = 0; i < objects; ++i)
    trace.sizes.push_back(1 + static_cast<std::uint32_t>(random() % max_size));
  for (std::size_t i = 0; i < requests; ++i) {
    trace.requests.push_back(static_cast<std::uint32_t>(std::min(random() % objects, random() % objects)));
  }
  return trace;
}

}  // namespace

TEST_CASE("FIFO evicts in the order of arrival, hits or not") {
  CHECK(outcome(fifo(), 3, "abcadab") == "...H...");  // d takes the place of a, a of b, b of c.
}

TEST_CASE("a FIFO for each shard evicts in the order of arrival at its shard, and has its part of the bytes") {
  CHECK(outcome(sharded_fifo(1), 3, "abcadab") == outcome(fifo(), 3, "abcadab"));
  CHECK_THROWS_AS(sharded_fifo(0), std::invalid_argument);
  // Two shards of 100 places each: of 200 objects those do not fit that are too many for their shard.
  Trace trace;
  trace.sizes.assign(200, 1);
  for (std::uint32_t round = 0; round < 2; ++round) {
    for (std::uint32_t object = 0; object < 200; ++object) trace.requests.push_back(object);
  }
  const auto policy = sharded_fifo(2).make(200, trace);
  for (std::size_t i = 0; i < 200; ++i) CHECK_FALSE(policy->access(trace.requests[i], i));
  std::uint32_t held = 0;
  for (std::uint32_t object = 0; object < 200; ++object) held += policy->holds(object) ? 1 : 0;
  CHECK(held < 200);
  CHECK(held > 170);
  CHECK(policy->holds(199));
  // What is larger than a shard is never kept, and a lag that one FIFO has room for is too long for some shards.
  CHECK(outcome(sharded_fifo(2), 10, "xxyyxx", 'x') == "...H..");
  const Trace lag = generate("lag-80", 2000);
  CHECK(simulate(fifo(), 400 * 1024, lag).objects() == 1);
  CHECK(simulate(sharded_fifo(16), 400 * 1024, lag).objects() < 0.95);
  CHECK(simulate(sharded_fifo(16), 400 * 1024, lag).objects() > 0.6);
}

TEST_CASE("LRU evicts what was not requested for longest") {
  CHECK(outcome(lru(), 3, "abcadab") == "...H.H.");  // d takes the place of b.
}

TEST_CASE("CLOCK spares what was hit, once") {
  CHECK(outcome(clock_policy(), 3, "abcadab") == "...H.H.");  // The hand spares a and takes b.
  // a is spared for d; b is gone then, c and d go, and a is the oldest without a mark.
  CHECK(outcome(clock_policy(), 3, "abcadefga") == "...H.....");
}

TEST_CASE("SIEVE leaves what it spares in its place, and its hand moves on") {
  CHECK(outcome(sieve(), 3, "abcadea") == "...H..H");      // d: a is spared, b goes. e: the hand goes on and takes c.
  CHECK(outcome(sieve(), 3, "abcadefga") == "...H....H");  // A scan goes by in front of the hand.
}

TEST_CASE("S3-FIFO drops one-hit wonders and lets what returns into the main queue") {
  // Ten places, one of them small. a, hit twice, goes to the main queue; a scan leaves it alone.
  CHECK(outcome(s3_fifo(), 10, "aaabcdefghijklmnopqrstua").back() == 'H');
  CHECK(outcome(s3_fifo(), 10, "abcdefghijklmnopqrstua").back() == '.');
  // b is dropped when k comes, returns to the main queue, and the next scan does not take it.
  CHECK(outcome(s3_fifo(), 10, "bacdefghijklbmnopqrstuvwb").back() == 'H');
}

TEST_CASE("ARC keeps what was requested twice through a scan") {
  CHECK(outcome(arc(), 4, "ababcdefghab") == "..HH......HH");
}

TEST_CASE("LIRS holds on to a part of a loop, where LRU has nothing") {
  // Three places with low recency keep a, b and c; the fourth lets d and e pass.
  CHECK(outcome(lirs(), 4, "abcdeabcdeabcdeabcde") == ".....HHH..HHH..HHH..");
  CHECK(outcome(lru(), 4, "abcdeabcdeabcdeabcde") == std::string(20, '.'));
}

TEST_CASE("W-TinyLFU does not let a scan displace what is frequent") {
  CHECK(outcome(tiny_lfu(), 3, "aaabbbcccdefghabc") == ".HH.HH.HH.....HHH");
}

TEST_CASE("the candidates keep most of what a loop lets them, and lose a main queue that is stale") {
  Trace loop = generate("loop", 2000);
  for (const PolicyKind& kind : candidates()) {
    CAPTURE(kind.name);
    CHECK(simulate(kind, loop.footprint_bytes() / 5, loop).objects() > 0.13);
    CHECK(simulate(s3_fifo(), loop.footprint_bytes() / 5, loop).objects() < 0.01);
  }
}

TEST_CASE("no choice of what to keep beats Belady's, and Belady's reaches the best") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    const Trace trace = random_trace(5, 10, 1, seed);
    for (const std::uint64_t capacity : {1, 2, 3}) {
      CAPTURE(seed);
      CHECK(simulate(belady(), capacity, trace).hits == most_hits(trace.requests, 0, {}, capacity));
    }
  }
}

TEST_CASE("no policy beats Belady's with objects of one size, and with room for all each object misses once") {
  for (unsigned seed = 0; seed < 10; ++seed) {
    const Trace trace = random_trace(200, 4000, 1, seed);
    const std::uint64_t best = simulate(belady(), 40, trace).hits;
    for (const PolicyKind& kind : all_policies()) {
      CAPTURE(kind.name);
      const std::uint64_t hits = simulate(kind, 40, trace).hits;
      CHECK(hits <= best);
      CHECK(hits > best / 4);
      if (kind.name != "w-tinylfu") CHECK(simulate(kind, 40'000, trace).hits >= trace.requests.size() - 200);
    }
  }
}

TEST_CASE("no policy holds more bytes than its capacity") {
  const Trace trace = random_trace(100, 20'000, 50, 1);
  for (const PolicyKind& kind : all_policies()) {
    CAPTURE(kind.name);
    const auto policy = kind.make(500, trace);
    // Objects hit with no miss between were there at the same time.
    std::map<std::uint32_t, bool> run;
    std::uint64_t run_bytes = 0;
    for (std::size_t i = 0; i < trace.requests.size(); ++i) {
      const std::uint32_t object = trace.requests[i];
      if (!policy->access(object, i)) {
        run.clear();
        run_bytes = 0;
      } else if (!std::exchange(run[object], true)) {
        run_bytes += trace.sizes[object];
        REQUIRE(run_bytes <= 500);
      }
    }
    CHECK(outcome(kind, 5, "xxyyxx", 'x') == "...H..");  // What is larger than the cache is never kept.
  }
}

TEST_CASE("a trace in text is read, and a line that is none is named") {
  std::stringstream text("a,10\nb,20,2\na,10\nb,20,2\nb,20,2\nb,20\n");
  const Trace trace = read_trace(text, "test");
  CHECK(trace.requests == std::vector<std::uint32_t>{0, 1, 0, 1, 1, 1});
  CHECK(trace.footprint_bytes() == 30);
  // b is stored at request 1 for two requests: at 3 its time has come, and it is stored anew, until 5.
  const HitRatio ratio = simulate(lru(), 100, trace);
  CHECK(ratio.hits == 2);
  CHECK(ratio.bytes == 100);
  CHECK(ratio.hit_bytes == 30);
  for (const char* bad : {"a", "a,", "a,x", "a,0", ",5", "a,5,x", "a,5,6,7"}) {
    std::stringstream wrong(std::string("a,10\n") + bad + "\n");
    CHECK_THROWS_WITH_AS(read_trace(wrong, "t"), doctest::Contains("t:2: not key,size[,ttl]"), std::runtime_error);
  }
}

TEST_CASE("generated traces are the same every time and about as large as was asked") {
  for (const std::string& name : generated_names()) {
    CAPTURE(name);
    const Trace trace = generate(name, 1000);
    CHECK(trace.requests == generate(name, 1000).requests);
    CHECK(trace.sizes.size() > 500);
    CHECK(trace.sizes.size() < 3000);
  }
  CHECK_THROWS_AS(generate("nothing", 1000), std::invalid_argument);
}

TEST_CASE("the library replays a trace, and holds about what it was given") {
  const Trace trace = generate("zipf", 20'000);
  const std::uint64_t capacity = trace.footprint_bytes() / 5;
  const auto real = replay_through_library(capacity, trace);
  REQUIRE(real.has_value());
  CHECK(static_cast<double>(real->held_bytes) == doctest::Approx(static_cast<double>(capacity)).epsilon(0.1));
  CHECK(real->ratio.objects() > simulate(fifo(), capacity, trace).objects() - 0.02);
  CHECK(real->ratio.objects() < simulate(belady(), capacity, trace).objects());
  CHECK_FALSE(replay_through_library(100'000, trace).has_value());
}

}  // namespace memstream::bench
