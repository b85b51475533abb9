// Which backend the C interface opens its segments on in the programs of this folder.
#pragma once

#include <memory>
#include <string_view>

#include "core/base/segment.h"

namespace memstream::fuzz {

using MakeBackend = std::unique_ptr<SegmentBackend> (*)();

// From now on every open goes to a backend made by `make`, whatever the environment says; null: to the real ones again.
void use_backend(MakeBackend make);

}  // namespace memstream::fuzz

namespace memstream {

// backends/open_segment.cpp as it is, compiled under these names beside the substitute (CMakeLists.txt).
Status real_make_backend(std::string_view name, std::unique_ptr<SegmentBackend>* backend);
Status real_make_backend_from_environment(std::unique_ptr<SegmentBackend>* backend);

}  // namespace memstream
