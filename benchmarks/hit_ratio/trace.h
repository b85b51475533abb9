// Sequences of requests: read from text, or generated from a fixed seed.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

namespace memstream::bench {

// Objects are numbered in the order of their first request. An object keeps the size of that request.
struct Trace {
  std::string name;
  std::vector<std::uint32_t> requests;  // Object numbers.
  std::vector<std::uint32_t> ttls;      // One for each request, counted in requests; 0: for ever. Empty: all are 0.
  std::vector<std::uint32_t> sizes;     // Bytes, one for each object: key and value.

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
std::vector<std::string> generated_names();
// `scale` is a number of objects; there are twenty times as many requests. Throws std::invalid_argument for a name that
// is none of these.
Trace generate(const std::string& name, std::uint32_t scale);

}  // namespace memstream::bench
