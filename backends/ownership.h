// The owner of an object of the operating system, the users that this process trusts with its values, and the errors
// for a refusal.
#pragma once

#include <sys/types.h>

#include <string>

#include "core/base/segment.h"

namespace memstream {

struct Ownership {
  uid_t owner = 0;
  // The maker. With System V an owner can give an object away, and its maker keeps all rights to it.
  uid_t creator = 0;
  gid_t group = 0;
  gid_t creator_group = 0;
  unsigned mode = 0;
  // Whether the kernel said that the object is this user's, where numbers do not tell: see is_shared_user_id().
  bool is_proven = false;

  // For messages: "user id 7", or "user id 7 (made by user id 8)".
  std::string whose() const;
};

// Whether this process shares its segment with `group`: only with spec.group if that is given, otherwise with every
// group that the process is in. Never with an id that a user namespace shows for many groups.
bool is_shared_group(gid_t group, const SegmentSpec& spec);

// Whether this process may store values in an object, or trust it as a lock. True if the object is the user's own, or
// spec.any_owner is set. An id that a user namespace shows for many users is nobody's own, unless that is proven.
//
// Also true if spec.mode and the object's mode both let all users write. Also true if both let a shared group write, a
// member of that group (or root) made the object, and all other users are kept out: its maker could then write to the
// segments of this process as well.
bool is_trusted(const Ownership& ownership, const SegmentSpec& spec);

// kNotOwner: the object is not trusted.
Status refuse_other_owner(const Ownership& ownership, const SegmentSpec& spec);

// Whether an object belongs to the user that spec.owner names; true if it names none. Below, kNotOwner for an object
// that does not.
bool is_of_named_owner(const Ownership& ownership, const SegmentSpec& spec) noexcept;
Status refuse_named_owner(const Ownership& ownership, const SegmentSpec& spec);

// kNoPermission: the system refuses access. `ownership` is what is known of the object, or null. `may_read`: the system
// refused only writing.
Status refuse_access(const Ownership* ownership, bool may_read, const SegmentSpec& spec);

// kNoPermission: this process may not give an object to spec.group.
Status refuse_group(const SegmentSpec& spec);

// kNoPermission: only the owner may remove the name.
Status refuse_removal(const Ownership& ownership, const SegmentSpec& spec);

}  // namespace memstream
