// Converts an entry of the engine to the C struct.
#pragma once

#include <cstdint>

#include "api/memstream.h"
#include "core/cache/cache.h"

namespace memstream {

inline void describe(const Cache& cache, std::uint32_t shard, const ScannedEntry& scanned, memstream_entry_t* entry) {
  *entry = {};
  entry->value_size = scanned.block.value_size;
  entry->stored_size = scanned.block.stored_size;
  entry->data_offset = static_cast<std::uint64_t>(scanned.block.value - cache.segment().data());
  entry->created_at_ms = cache.to_unix_ms(scanned.block.created_ms);
  entry->last_access_ms = cache.to_unix_ms(scanned.last_access_ms);
  entry->expires_at_ms = scanned.block.expires_ms == 0 ? 0 : cache.to_unix_ms(scanned.block.expires_ms);
  entry->access_count = scanned.access_count;
  entry->cas = scanned.cas ^ cache.token_salt();
  entry->flags = static_cast<std::uint32_t>(scanned.block.caller_flags);
  entry->key_size = scanned.block.key_size;
  entry->shard = shard;
  entry->is_valid = 1;
  entry->key[sizeof entry->key - 1] = scanned.block.has_tags ? 1 : 0;  // Behind the longest key and its NUL.
  copy_from_shared(entry->key, scanned.block.key, scanned.block.key_size);
}

}  // namespace memstream
