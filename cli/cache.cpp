#include "cli/cache.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

#include "cli/text.h"

namespace memstream::cli {
namespace {

// Refusals after which a read-only attach may still work.
bool may_look_read_only(int status) {
  return status == CACHE_NOT_OWNER || status == CACHE_NO_PERMISSION || status == CACHE_OTHER_NAMESPACE ||
         status == CACHE_PROCESS_TABLE_FULL;
}

// All that a call lists.
template <class One, class Call>
std::vector<One> listed(memstream_t* cache, Call call) {
  std::vector<One> all(64);
  for (;;) {
    std::size_t count = 0;
    require_ok(call(cache, all.data(), all.size(), &count));
    const bool had_room = count <= all.size();
    all.resize(count);
    if (had_room) return all;
  }
}

}  // namespace

int require_ok(int status) {
  if (status < 0) throw Failure(status);
  return status;
}

Cache::Cache(const Target& target, Attach attach) {
  memstream_options_t options;
  memstream_options_init(&options);
  if (!target.name.empty()) options.name = target.name.c_str();
  if (!target.backend.empty()) options.backend = target.backend.c_str();
  options.timeout_ms = target.timeout_ms;
  if (!target.owner.empty()) {
    if (attach == Attach::kWrite || attach == Attach::kCreate) {
      throw Failure(CACHE_INVALID, fmt::format("Invalid --owner {}: expected no owner where the command writes. Run "
                                               "the command as that user.",
                                               in_quotes(target.owner)));
    }
    options.owner = target.owner.c_str();
    attach = Attach::kReadOnly;
  }
  if (attach != Attach::kCreate) options.flags = MEMSTREAM_OPEN_EXISTING;
  if (attach == Attach::kReadOnly) options.flags = MEMSTREAM_OPEN_READ_ONLY;
  memstream_t* handle = nullptr;
  int status = memstream_open(&options, &handle);
  if (attach == Attach::kLook && may_look_read_only(status)) {
    const Failure refused(status);  // Of the two errors the first one says what is wrong.
    options.flags = MEMSTREAM_OPEN_READ_ONLY;
    status = memstream_open(&options, &handle);
    if (status == CACHE_NO_PERMISSION || status == CACHE_NOT_OWNER) throw refused;
  }
  require_ok(status);
  handle_.reset(handle);
}

memstream_info_t Cache::info() const {
  memstream_info_t info{};
  info.struct_size = sizeof info;
  require_ok(memstream_info(get(), &info));
  return info;
}

cache_stats_t Cache::stats() const {
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  require_ok(memstream_stats(get(), &stats));
  return stats;
}

std::vector<memstream_process_t> Cache::processes() const {
  return listed<memstream_process_t>(get(), memstream_processes);
}

std::vector<memstream_lock_holder_t> Cache::locks() const {
  return listed<memstream_lock_holder_t>(get(), memstream_lock_holders);
}

bool Cache::read(std::string_view key, std::string* value, memstream_meta_t* meta) const {
  value->resize(std::max<std::size_t>(value->capacity(), 4096));
  for (;;) {
    std::size_t size = value->size();
    const int status = memstream_get(get(), key.data(), key.size(), value->data(), &size, meta);
    if (status != CACHE_TOO_SMALL) require_ok(status);
    value->resize(size);  // What is needed, or what there is.
    if (status != CACHE_TOO_SMALL) return status == CACHE_OK;
  }
}

std::vector<memstream_entry_t> Cache::hot_keys() const {
  std::vector<memstream_entry_t> keys(64);
  std::size_t count = 0;
  require_ok(memstream_hot_keys(get(), keys.data(), keys.size(), &count));
  keys.resize(std::min(count, keys.size()));
  return keys;
}

void Cache::scan(const std::function<bool(const memstream_entry_t&)>& visit) const {
  std::vector<memstream_entry_t> entries(64);
  std::uint64_t cursor = 0;
  do {
    std::size_t count = 0;
    require_ok(memstream_scan(get(), &cursor, entries.data(), entries.size(), &count));
    for (std::size_t i = 0; i < count; ++i) {
      if (!visit(entries[i])) return;
    }
  } while (cursor != 0);
}

std::string_view key_of(const memstream_entry_t& entry) noexcept { return {entry.key, entry.key_size}; }

bool matches(std::string_view pattern, std::string_view key) {
  if (pattern.empty()) return true;
  return fnmatch(std::string(pattern).c_str(), std::string(key).c_str(), 0) == 0;
}

}  // namespace memstream::cli
