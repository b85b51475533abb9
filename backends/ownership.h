// Whose an object of the operating system is, whom this process trusts with what it stores, and the sentences for
// those who are refused.
#pragma once

#include <sys/types.h>

#include <string>

#include "core/base/segment.h"

namespace memstream {

struct Ownership {
  uid_t owner = 0;
  // Who made it. With System V an owner can give an object away, and its maker keeps all power over it.
  uid_t creator = 0;
  gid_t group = 0;
  gid_t creator_group = 0;
  unsigned mode = 0;

  // For messages: "user id 7", or "user id 7 (made by user id 8)".
  std::string whose() const;
};

// Whether this process shares with `group`: with spec.group alone if that is given, or else with every group that it is
// in.
bool is_shared_group(gid_t group, const SegmentSpec& spec);

// Whether this process may put its values into an object, or trust in it as a lock: the object is the user's own, or
// spec.any_owner says that this does not matter. Or spec.mode and the object's mode both let everybody write; or both
// let a shared group write, and a member of it (or root) made the object and keeps everybody else out. Then its maker
// could write to what this process makes as well.
bool is_trusted(const Ownership& ownership, const SegmentSpec& spec);

// kNotOwner: the object is not trusted.
Status refuse_other_owner(const Ownership& ownership, const SegmentSpec& spec);

// Whether an object belongs to the user that spec.owner names, if it names one. And kNotOwner, for one that does not.
bool is_of_named_owner(const Ownership& ownership, const SegmentSpec& spec) noexcept;
Status refuse_named_owner(const Ownership& ownership, const SegmentSpec& spec);

// kNoPermission: the system refuses access, and all there is to know is in `ownership`, or not even that (null).
// `may_read`: reading was not what it refused.
Status refuse_access(const Ownership* ownership, bool may_read, const SegmentSpec& spec);

// kNoPermission: this process may not give an object to spec.group.
Status refuse_group(const SegmentSpec& spec);

// kNoPermission: only its owner may take its name away.
Status refuse_removal(const Ownership& ownership, const SegmentSpec& spec);

}  // namespace memstream
