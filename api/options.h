// From the environment and memstream_options_t to what the backend and the engine need; every value checked.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "api/memstream.h"
#include "core/base/segment.h"
#include "core/layout/geometry.h"

namespace memstream {

struct OpenOptions {
  std::unique_ptr<SegmentBackend> backend;
  SegmentSpec spec;
  ShardChoice shard_choice;  // What is 0 goes by the size, and by the memory that there is.
  // Whether somebody asked for them: a segment that exists may have others.
  bool asks_for_size = false;
  bool asks_for_mode = false;
  bool read_only = false;
  bool existing_only = false;
  bool prefault = false;
};

// What "from the environment" is in every field; struct_size is `size`.
memstream_options_t default_options(std::size_t size = sizeof(memstream_options_t)) noexcept;

// `options` may be null: the environment alone. A variable that an option overrides is not read.
// Returns one of kBadBackend to kBadGroup. The message names the variable, its value and what is allowed. It returns
// kInvalid for an owner whom nobody knows, a struct of unknown size or unknown flags.
Status read_options(const memstream_options_t* options, OpenOptions* result);

}  // namespace memstream
