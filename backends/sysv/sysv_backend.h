// System V shared memory. A segment is found by a key, a number that is made from its name. It lives until it is
// removed (by destroy or ipcrm) and the last process has detached; a reboot removes it too. `ipcs -m` lists the
// segments.
#pragma once

#include <memory>

#include "backends/sysv/sysv_key.h"
#include "core/base/segment.h"

namespace memstream {

// `hash` is for tests that need two names with one key.
std::unique_ptr<SegmentBackend> make_sysv_backend(TextHash hash = &hash_text);

}  // namespace memstream
