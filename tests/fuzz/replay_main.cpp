// Runs inputs through a target without libFuzzer, so that every compiler and Valgrind can.
//
//   memstream-fuzz-replay TARGET PATH...          each file, and each file of each folder
//   memstream-fuzz-replay --seeds TARGET FOLDER   writes the target's seeds
//   memstream-fuzz-replay --unpack PATH FOLDER    writes the kept findings of folder PATH as the bytes that they are
//
// A kept finding is text (findings/TARGET/NAME.txt): lines that begin with "#" say what it was, the rest is hex.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/fuzz/targets.h"

namespace fs = std::filesystem;

namespace memstream::fuzz {
namespace {

Bytes unpack(const std::string& text) {
  Bytes bytes;
  std::string digits;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (text[at] != '#') digits += text.substr(at, end - at);
    at = end + 1;
  }
  digits.erase(std::remove(digits.begin(), digits.end(), ' '), digits.end());
  for (std::size_t at = 0; at < digits.size(); at += 2) {
    std::size_t used = 0;
    bytes.push_back(static_cast<std::uint8_t>(std::stoul(digits.substr(at, 2), &used, 16)));
    if (used != 2) throw std::runtime_error("a line that is not hexadecimal");
  }
  return bytes;
}

Bytes read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot be read");
  const std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (path.extension() == ".txt") return unpack(content);
  return {content.begin(), content.end()};
}

void write(const fs::path& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw std::runtime_error(path.string() + " cannot be written");
}

std::vector<fs::path> files_of(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

int replay(const Target& target, const std::vector<std::string>& paths) {
  std::size_t count = 0;
  for (const std::string& path : paths) {
    for (const fs::path& file : files_of(path)) {
      const Bytes input = read(file);
      std::fprintf(stderr, "%s\n", file.c_str());  // What the program ends at, if it does.
      target.run(input.data(), input.size());
      ++count;
    }
  }
  std::printf("%s: %zu inputs\n", target.name, count);
  return count != 0 ? 0 : 1;
}

int run(const std::vector<std::string>& arguments) {
  const bool seeds = arguments.size() == 3 && arguments[0] == "--seeds";
  if (arguments.size() == 3 && arguments[0] == "--unpack") {
    for (const fs::path& file : files_of(arguments[1])) write(fs::path(arguments[2]) / file.stem(), read(file));
    return 0;
  }
  const Target* target = arguments.size() >= 2 ? find_target(arguments[seeds ? 1 : 0]) : nullptr;
  if (target == nullptr) {
    std::fprintf(stderr, "usage: memstream-fuzz-replay [--seeds] TARGET PATH... | --unpack PATH FOLDER\n");
    return 2;
  }
  if (!seeds) return replay(*target, {arguments.begin() + 1, arguments.end()});
  fs::create_directories(arguments[2]);
  target->seeds([&](const std::string& name, const Bytes& input) { write(fs::path(arguments[2]) / name, input); });
  return 0;
}

}  // namespace
}  // namespace memstream::fuzz

int main(int argc, char** argv) {
  try {
    return memstream::fuzz::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "memstream-fuzz-replay: %s\n", error.what());
    return 1;
  }
}
