// See sysv_key.h.
#include "backends/sysv/sysv_key.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace memstream {

std::uint32_t hash_text(std::string_view text) { return XXH32(text.data(), text.size(), 0); }

Scope scope_of_mode(unsigned mode) noexcept { return (mode & 0077U) != 0 ? Scope::kShared : Scope::kUser; }

key_t family_of(Scope scope, uid_t user, const std::string& name, TextHash hash) {
  const std::string text = scope == Scope::kUser ? fmt::format("memstream user {} {}", user, name)
                                                 : fmt::format("memstream shared {}", name);
  const key_t family = static_cast<key_t>(hash(text) & 0x7fff'ffffU) & ~(kKeysPerFamily - 1);
  return family == IPC_PRIVATE ? kKeysPerFamily : family;
}

}  // namespace memstream
