// Sequences of requests: read from text, or generated from a fixed seed.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

namespace memstream::bench {

enum class Op : std::uint8_t {
  kFetch,  // A get; what it misses is stored.
  kPut,    // A store that asks for nothing.
  kGet,    // A get; nobody stores what it misses.
};

// Objects are numbered in the order of their first request. An object keeps the size of that request.
struct Trace {
  std::string name;
  std::vector<std::uint32_t> requests;  // Object numbers.
  std::vector<Op> ops;                  // One for each request. Empty: all are kFetch.
  std::vector<std::uint32_t> ttls;      // One for each request, counted in requests; 0: for ever. Empty: all are 0.
  std::vector<std::uint32_t> sizes;     // Bytes, one for each object: key and value.

  std::size_t counted_from = 0;  // Requests before this one warm the cache up.
  double percent = 0;            // The size of the cache that it is made for, of the footprint; 0: any.
  bool expires = false;          // The library gets a ttl with each object, which never passes.

  Op op(std::size_t position) const noexcept { return ops.empty() ? Op::kFetch : ops[position]; }
  std::uint64_t footprint_bytes() const noexcept;
};

// Lines of `key,size[,ttl]`; the ttl counts requests, the only clock that a trace has. Throws std::runtime_error with
// the number of the first line that is none.
Trace read_trace(std::istream& text, const std::string& name);

// The generated ones:
//   zipf        exponent 0.99
//   zipf-sizes  the same, objects of 64 bytes to 64 KiB
//   scan        Zipf, a third of the requests being long runs over objects that never come again
//   loop        over and over through all objects in order
//   shift       Zipf over a working set that moves on all the time
//   phases      Zipf, then a loop over other objects, then the Zipf again
//   far         objects that come back after periods of their own, most of them long
//   blocks      loops of four lengths, and Zipf, between one another
//   decay       new objects all the time, and the older one is the fewer ask for it
//   mix-zipf, mix-scan, mix-loop   these, with a producer and its consumer between their requests
//   turns       Zipf, a producer, a loop, a producer, and the Zipf again
//   lag-N       a producer, whose consumer gets each key once, N percent of the cache later; nobody stores what is gone
//   lag-sizes-N, lag-expiring-N, lag-producers-N, lag-repeats-N, lag-after-zipf-N
//               the same with many sizes, with a ttl on each key, by three producers, with a share of repeated reads,
//               and in a cache that is full of popular keys
// Those with a lag may end in "-refill": the consumer stores what is gone.
std::vector<std::string> generated_names();
inline constexpr std::uint64_t kDefaultSeed = 1970;
// `scale` is a number of objects. Throws std::invalid_argument for a name that is none of these.
Trace generate(const std::string& name, std::uint32_t scale, std::uint64_t seed = kDefaultSeed);

}  // namespace memstream::bench
