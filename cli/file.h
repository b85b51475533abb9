// Files that commands write.
#pragma once

#include <string>

namespace memstream::cli {

// Writes a file that is complete under its name or not there at all. Throws Failure.
void write_file(const std::string& path, const std::string& bytes);

}  // namespace memstream::cli
