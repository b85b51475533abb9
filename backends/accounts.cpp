// See accounts.h.
#include "backends/accounts.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "core/base/descriptors.h"
#include "core/base/thread_cancel.h"

namespace memstream {
namespace {

// `look_up` is getpwnam_r or getgrnam_r, which refuses a buffer that is too small for the account.
template <class Account, class Id>
bool find_account(int (*look_up)(const char*, Account*, char*, std::size_t, Account**), const char* name,
                  Id Account::*id_of, Id* id) {
  constexpr std::size_t kLargest = std::size_t{1} << 20;
  const DisableCancelScope uncancelled;
  if (!fill_standard_gaps()) return false;  // The C library opens files for this.
  for (std::size_t size = 1024; size <= kLargest; size *= 4) {
    std::vector<char> buffer(size);
    Account account{};
    Account* found = nullptr;
    const int error = look_up(name, &account, buffer.data(), size, &found);
    if (error == ERANGE) continue;
    if (error != 0 || found == nullptr) return false;
    *id = found->*id_of;
    return true;
  }
  return false;
}

}  // namespace

bool find_user(const char* name, uid_t* user) { return find_account(::getpwnam_r, name, &passwd::pw_uid, user); }

bool find_group(const char* name, gid_t* group_id) {
  return find_account(::getgrnam_r, name, &group::gr_gid, group_id);
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
