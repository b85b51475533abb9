// Reads the environment and memstream_options_t, checks every value, and gives what the backend and the engine need.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "api/memstream.h"
#include "core/base/segment.h"
#include "core/layout/geometry.h"

namespace memstream {

struct OpenOptions {
  std::unique_ptr<SegmentBackend> backend;
  SegmentSpec spec;
  ShardChoice shard_choice;  // 0: derived from the size of the segment and the memory available.
  // Whether the caller asked for them: an existing segment may have others.
  bool asks_for_size = false;
  bool asks_for_mode = false;
  bool read_only = false;
  bool existing_only = false;
  bool prefault = false;
  bool checksum = false;
  bool asks_for_checksum = false;
  // Whether they come from the environment, if they were given at all. For name_variable().
  bool shards_from_environment = false;
  bool max_value_from_environment = false;
  bool huge_pages_from_environment = false;
};

// Options with every field set to "from the environment", and with `struct_size` set to `size`.
memstream_options_t default_options(std::size_t size = sizeof(memstream_options_t)) noexcept;

// `options` may be null: the environment alone. Does not read a variable that an option overrides. Returns kBadBackend
// to kBadGroup with a message that names the variable, its value and what is allowed. Returns kInvalid for an unknown
// owner, a struct of unknown size or unknown flags.
Status read_options(const memstream_options_t* options, OpenOptions* result);

// Returns `status`, with which an open has failed. Where the segment refused a value of the environment, the message
// names the variable from now on.
Status name_variable(Status status, const OpenOptions& options);

// Sets the size of `spec`, rounded up to whole pages. kBadSize, with a message that names `source`.
Status set_spec_size(const char* source, std::uint64_t size_bytes, SegmentSpec* spec);

}  // namespace memstream
