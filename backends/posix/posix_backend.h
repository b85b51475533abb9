// POSIX shared memory: the segment NAME is the object /memstream.NAME, on Linux the file /dev/shm/memstream.NAME.
// It lives until its name is removed and the last process has unmapped it, and never longer than the machine is up.
#pragma once

#include <memory>

#include "core/base/segment.h"

namespace memstream {

std::unique_ptr<SegmentBackend> make_posix_backend();

}  // namespace memstream
