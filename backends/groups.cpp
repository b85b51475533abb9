// See groups.h.
#include "backends/groups.h"

#include <grp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "core/cancellation.h"
#include "core/descriptors.h"

namespace memstream {

bool find_group(const char* name, gid_t* group) {
  constexpr std::size_t kLargest = std::size_t{1} << 20;
  const UncancelledScope uncancelled;
  if (!fill_standard_gaps()) return false;  // The C library opens files for this.
  for (std::size_t size = 1024; size <= kLargest; size *= 4) {
    std::vector<char> buffer(size);
    struct group entry {};
    struct group* found = nullptr;
    const int error = ::getgrnam_r(name, &entry, buffer.data(), size, &found);
    if (error == ERANGE) continue;
    if (error != 0 || found == nullptr) return false;
    *group = found->gr_gid;
    return true;
  }
  return false;
}

bool is_member_of(gid_t group) {
  if (group == ::getegid()) return true;
  const int count = ::getgroups(0, nullptr);
  if (count <= 0) return false;
  std::vector<gid_t> groups(static_cast<std::size_t>(count));
  const int got = ::getgroups(count, groups.data());
  groups.resize(static_cast<std::size_t>(std::max(got, 0)));
  return std::find(groups.begin(), groups.end(), group) != groups.end();
}

}  // namespace memstream
