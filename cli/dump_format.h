// The file that `memstream dump` writes and `memstream load` reads.
//
//   "MSDUMP01"          8 bytes
//   flags               4 bytes: 1 = everything behind this is one zstd stream
//   0                   4 bytes
//   records             as below; the last one has key_size 0 and the number of entries as its value_size
//
// A record is a RecordHead, the key and the value. Numbers are little-endian. Instants are Unix time, so that a time to
// live goes on while the file lies on a disk.
#pragma once

#include <cstdint>

namespace memstream::cli {

inline constexpr char kDumpMagic[] = "MSDUMP01";
inline constexpr std::uint32_t kDumpIsCompressed = 1;

struct DumpHead {
  char magic[8];
  std::uint32_t flags;
  std::uint32_t reserved;
};
static_assert(sizeof(DumpHead) == 16);

struct RecordHead {
  std::uint32_t key_size;  // Bytes, 1 to 1024; 0 in the last record.
  std::uint32_t flags;     // The caller's 32 bits.
  std::uint64_t value_size;
  std::uint64_t expires_at_ms;  // 0: never.
  std::uint64_t checksum;       // XXH3 of the fields before it, the key and the value.
};
static_assert(sizeof(RecordHead) == 32);

}  // namespace memstream::cli
