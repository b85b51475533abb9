#include "tests/torture/leftovers.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <vector>

namespace memstream::torture {
namespace {

// The lines of a table of the kernel ("shm", "sem"), in numbers; both begin with the key.
std::vector<std::vector<long long>> system_v(const std::string& kind) {
  std::ifstream table("/proc/sysvipc/" + kind);
  if (!table) throw std::runtime_error("cannot read /proc/sysvipc/" + kind);
  table.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  std::vector<std::vector<long long>> lines;
  for (std::string line; std::getline(table, line);) {
    std::vector<long long> numbers;
    std::size_t end = 0;
    for (std::string rest = line; rest.find_first_not_of(' ') != std::string::npos; rest = rest.substr(end)) {
      numbers.push_back(std::stoll(rest, &end));
    }
    lines.push_back(numbers);
  }
  return lines;
}

constexpr std::size_t kKeyColumn = 0;
constexpr std::size_t kCreatorColumn = 4;  // Of a segment.

}  // namespace

Leftovers leftovers_of(const Place& place, const std::set<pid_t>& creators) {
  if (place.backend == "posix") return {std::filesystem::exists("/dev/shm/memstream." + place.name) ? 1U : 0U, 0};
  // The keys of a name are what the library makes of it: the ones that its creators have used are remembered.
  static std::set<long long> families;
  Leftovers found;
  for (const auto& segment : system_v("shm")) {
    if (!creators.contains(static_cast<pid_t>(segment.at(kCreatorColumn)))) continue;
    ++found.segments;
    families.insert(segment.at(kKeyColumn) & ~0xFLL);  // Its name has 16 keys, and the semaphore one of them.
  }
  for (const auto& semaphore : system_v("sem")) {
    found.semaphores += families.contains(semaphore.at(kKeyColumn) & ~0xFLL) ? 1 : 0;
  }
  return found;
}

}  // namespace memstream::torture
