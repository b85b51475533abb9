// Chooses the backend that provides the memory. Only this file knows all backends and reads MEMSTREAM_BACKEND.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "core/base/segment.h"

namespace memstream {

// Makes the backend called `name`. kBadBackend, with the names that exist in the message, if there is none.
Status make_backend(std::string_view name, std::unique_ptr<SegmentBackend>* backend);

// Makes the backend that MEMSTREAM_BACKEND names, or the first of the table if the variable is not set. A variable that
// is set but empty is kBadBackend, since it is a mistake in a script.
Status make_backend_from_environment(std::unique_ptr<SegmentBackend>* backend);

// The name of the backend with that number, the default one first; null behind the last.
const char* backend_name(std::size_t number) noexcept;

}  // namespace memstream
