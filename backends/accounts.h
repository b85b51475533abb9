// Users and groups: their numbers, and which groups this process is in. May throw std::bad_alloc.
#pragma once

#include <sys/types.h>

namespace memstream {

// The number of the user, or of the group, with this name. False if the system knows none.
bool find_user(const char* name, uid_t* user);
bool find_group(const char* name, gid_t* group);

// Whether `group` is this process's effective group or one of its supplementary ones.
bool is_member_of(gid_t group);

}  // namespace memstream
