// The calls that the targets make on an image that may hold anything.
#pragma once

#include <string>
#include <vector>

#include "api/memstream.h"
#include "tests/fuzz/records.h"

namespace memstream::fuzz {

// Reads through the C interface, checking what can be told whatever the bytes are: sizes and pointers that fit.
class Reader {
 public:
  Reader(memstream_t* cache, const Scene& scene) : cache_(cache), scene_(scene) {}

  // The read that the record names.
  void call(const Record& record);
  // Everything once: the whole scan, the statistics, the processes, the checker, and each of some keys.
  void everything(std::size_t keys);

 private:
  void get(const std::string& key, std::size_t room_bytes);
  void view(const std::string& key);
  void entry_info(const std::string& key);
  void get_many(std::size_t first, std::size_t room_bytes);
  void scan(std::uint64_t* cursor, std::size_t capacity);
  void processes(std::size_t capacity);
  const std::string& key_of(std::size_t number) const { return scene_.keys[number % scene_.keys.size()]; }

  memstream_t* cache_;
  const Scene& scene_;
};

// Touches every byte, so that a sanitizer and the guards around the image have their say.
void touch(const void* bytes, std::size_t size_bytes);

// Ends the program for a status that no damage explains.
void must_be_sane(int status, const char* call);

}  // namespace memstream::fuzz
