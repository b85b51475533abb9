// The page that shows a cache: one HTML file with all that it needs. docs/decisions/0023 says how it is made.
#pragma once

#include <string>
#include <string_view>

#include "cli/snapshot.h"

namespace memstream::cli {

// The file as it was built.
std::string_view page_bytes();

// The page with a report in it: it shows that one and asks nobody for more.
std::string page_with(const Json& report);

// What the page may load and run, as it says itself: the value of the header Content-Security-Policy.
std::string page_policy();

}  // namespace memstream::cli
