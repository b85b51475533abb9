// From a segment's name to its System V keys.
//
// A key has 31 bits and a name up to 64 characters, so two names can have the same hash. A name therefore has a family
// of 16 keys, which differ in the last four bits only, and its segment gets the first free one. Two families are
// disjoint or equal, so one lock for a family (creation_lock.h) covers every key that its names can ever use.
#pragma once

#include <sys/ipc.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace memstream {

inline constexpr key_t kKeysPerFamily = 16;

using TextHash = std::uint32_t (*)(std::string_view text);

// The hash, unless a test wants names to collide.
std::uint32_t hash_text(std::string_view text);

// The users that can find a name. Only its own user finds a private segment (no permission for group and others), so
// each user of a machine has a segment "default". All users find a shared one.
enum class Scope { kUser, kShared };

Scope scope_of_mode(unsigned mode) noexcept;

// The first key of the family of `name`; never IPC_PRIVATE. `user` counts in Scope::kUser only.
key_t family_of(Scope scope, uid_t user, const std::string& name, TextHash hash);

}  // namespace memstream
