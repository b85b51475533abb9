// See ownership.h.
#include "backends/ownership.h"

#include <fmt/format.h>
#include <unistd.h>

#include "backends/accounts.h"
#include "core/base/identity.h"

namespace memstream {
namespace {

constexpr unsigned kGroupWrites = 0020;
constexpr unsigned kOthersWrite = 0002;

bool is_our_own(const Ownership& ownership) {
  const uid_t user = ::geteuid();
  if (ownership.owner != user || ownership.creator != user) return false;
  return ownership.is_proven || !is_shared_user_id(user);
}

}  // namespace

std::string Ownership::whose() const {
  return owner == creator ? fmt::format("user id {}", owner)
                          : fmt::format("user id {} (made by user id {})", owner, creator);
}

bool is_shared_group(gid_t group, const SegmentSpec& spec) {
  const bool is_ours = spec.group.has_value() ? group == *spec.group : is_member_of(group);
  return is_ours && !is_shared_group_id(group);
}

bool is_trusted(const Ownership& ownership, const SegmentSpec& spec) {
  if (spec.any_owner || is_our_own(ownership)) return true;
  // Both sides must share in the same way: this process's mode alone does not tell which users can write to that
  // object.
  const unsigned shared = spec.mode & ownership.mode;
  if ((shared & kOthersWrite) != 0) return true;
  if ((shared & kGroupWrites) == 0 || (ownership.mode & kOthersWrite) != 0) return false;
  // With System V an owner can give an object to any group: only the creator's says who made it.
  const bool is_roots = ownership.owner == 0 && ownership.creator == 0;
  return is_shared_group(ownership.group, spec) && (is_roots || is_shared_group(ownership.creator_group, spec));
}

Status refuse_other_owner(const Ownership& ownership, const SegmentSpec& spec) {
  if (ownership.owner == ::geteuid() && is_shared_user_id(ownership.owner)) {
    return fail(
        Status::kNotOwner,
        fmt::format("Segment '{}' belongs to {}. This process has the same number, but its user namespace shows it for "
                    "every user that it does not map. Map the user of this process (/proc/self/uid_map) to another "
                    "number, or use MEMSTREAM_BACKEND=posix and a segment of its own.",
                    spec.name, ownership.whose()));
  }
  return fail(
      Status::kNotOwner,
      fmt::format(
          "Segment '{}' belongs to {}, and this process runs as user id {}. Choose another name (MEMSTREAM_NAME), or "
          "open it read-only. If you trust that user, accept segments of any owner (MEMSTREAM_OPEN_ANY_OWNER).",
          spec.name, ownership.whose(), ::geteuid()));
}

bool is_of_named_owner(const Ownership& ownership, const SegmentSpec& spec) noexcept {
  return spec.owner == SegmentSpec::kNoUser || ownership.owner == spec.owner;
}

Status refuse_named_owner(const Ownership& ownership, const SegmentSpec& spec) {
  return fail(Status::kNotOwner, fmt::format("Segment '{}' belongs to {}, and the option 'owner' names user id {}. "
                                             "Name its owner, or leave the option out.",
                                             spec.name, ownership.whose(), spec.owner));
}

Status refuse_access(const Ownership* ownership, bool may_read, const SegmentSpec& spec) {
  std::string facts;
  if (ownership != nullptr) {
    facts = fmt::format("belongs to {} and group id {}. Its mode {:04o} ", ownership->whose(), ownership->group,
                        ownership->mode);
  }
  const char* remedy = may_read ? "write. Open it read-only (MEMSTREAM_OPEN_READ_ONLY), or ask its owner to create it "
                                  "with a MEMSTREAM_MODE that lets its group write, such as 0660."
                                : "read it. Choose another name (MEMSTREAM_NAME), or ask its owner to create it with a "
                                  "MEMSTREAM_MODE that lets its group read, such as 0660 or 0640.";
  return fail(Status::kNoPermission,
              fmt::format("Segment '{}' {}does not let this process (user id {}, group id {}) {}", spec.name, facts,
                          ::geteuid(), ::getegid(), remedy));
}

Status refuse_group(const SegmentSpec& spec) {
  return fail(Status::kNoPermission,
              fmt::format("Segment '{}' cannot belong to group id {}: this process (user id {}, group id {}) is not a "
                          "member. Choose one of its groups (MEMSTREAM_GROUP), or add the user to that group.",
                          spec.name, spec.group.value_or(0), ::geteuid(), ::getegid()));
}

Status refuse_removal(const Ownership& ownership, const SegmentSpec& spec) {
  return fail(Status::kNoPermission,
              fmt::format("Segment '{}' belongs to {}, and only that user or root can destroy it. This process runs as "
                          "user id {}. Ask that user to destroy it, or choose another name (MEMSTREAM_NAME).",
                          spec.name, ownership.whose(), ::geteuid()));
}

}  // namespace memstream
