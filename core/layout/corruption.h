// How the engine reports corrupt bytes from deep inside a walk over shared memory.
#pragma once

namespace memstream {

// Thrown under the write lock when a derived structure (a list, a bucket, a size) leads out of bounds or runs in a
// circle. core/shard/shard_operation.h catches it, rebuilds the shard from its authoritative state and runs the
// operation once more. Never leaves core/.
struct CorruptionDetected {
  const char* what;
};

}  // namespace memstream
