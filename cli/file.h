// Files that commands write.
#pragma once

#include <string>

namespace memstream::cli {

// Writes a file that is complete under its name or not there at all. Throws Failure.
void write_file(const std::string& path, const std::string& bytes);
// Throws Failure if the file cannot be written, before a command works for it.
void require_writable(const std::string& path);

}  // namespace memstream::cli
