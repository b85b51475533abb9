// From a segment's name to its System V keys.
//
// A key has 31 bits, a name has 64 characters: two names can have one hash. So a name has a family of 16 keys, which
// differ in the last four bits only, and its segment has the first of them that was free. Two families are disjoint or
// the same, so that one lock for a family (creation_lock.h) covers every key that its names can ever use.
#pragma once

#include <sys/ipc.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace memstream {

inline constexpr key_t kKeysPerFamily = 16;

using TextHash = std::uint32_t (*)(std::string_view text);

// The hash that is used unless a test wants names to collide.
std::uint32_t hash_text(std::string_view text);

// Who can find a name. A private segment (no permission for group and others) is found by its own user alone, so that
// each user of a machine has a segment "default" of his own; a shared one is found by all.
enum class Scope { kUser, kShared };

Scope scope_of_mode(unsigned mode) noexcept;

// The first key of the family of `name`; never IPC_PRIVATE. `user` counts in Scope::kUser only.
key_t family_of(Scope scope, uid_t user, const std::string& name, TextHash hash);

}  // namespace memstream
