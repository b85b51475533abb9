// The C interface of libmemstream_near.so: checks of arguments, and no exception leaves it.
#include "near/memstream_near.h"

#include <fmt/format.h>

#include <exception>
#include <memory>
#include <new>
#include <string>

#include "near/near_cache.h"

using memstream::near::fail;
using memstream::near::NearCache;

struct memstream_near {
  std::unique_ptr<NearCache> cache;
};

namespace {

template <class Operation>
int guarded(Operation operation) noexcept {
  try {
    return operation();
  } catch (const std::bad_alloc&) {
    return CACHE_NO_MEMORY;
  } catch (const std::exception& error) {
    return fail(CACHE_INTERNAL, error.what());
  }
}

int missing(const char* names) {
  return fail(CACHE_INVALID, fmt::format("Invalid argument NULL: expected pointers for {}.", names));
}
int wrong_size(const char* type) {
  return fail(CACHE_INVALID, fmt::format("Invalid struct_size: expected sizeof ({}).", type));
}

std::string_view bytes_of(const void* bytes, std::size_t size) { return {static_cast<const char*>(bytes), size}; }

bool is_room(const void* bytes, const std::size_t* size) { return size != nullptr && (bytes != nullptr || *size == 0); }

}  // namespace

extern "C" {

int memstream_near_open(memstream_t* cache, const memstream_near_options_t* options, memstream_near_t** near) {
  return guarded([&] {
    if (near != nullptr) *near = nullptr;
    if (cache == nullptr || options == nullptr || near == nullptr) return missing("cache, options, near");
    if (options->struct_size != sizeof *options) return wrong_size("memstream_near_options_t");
    NearCache::Settings settings;
    if (const int status = NearCache::read_options(*options, &settings); status != CACHE_OK) return status;
    auto opened = std::make_unique<memstream_near>();
    const int status = NearCache::open(cache, std::move(settings), &opened->cache);
    if (status == CACHE_OK) *near = opened.release();
    return status;
  });
}

int memstream_near_close(memstream_near_t* near) {
  delete near;
  return CACHE_OK;
}

int memstream_near_get(memstream_near_t* near, const void* key, size_t key_size, void* value, size_t* value_size) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || !is_room(value, value_size))
      return missing("near, key, value, value_size");
    return near->cache->get(bytes_of(key, key_size), value, value_size);
  });
}

int memstream_near_begin(memstream_near_t* near, const void* key, size_t key_size, void* value, size_t* value_size,
                         memstream_near_fill_t* fill) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || !is_room(value, value_size) || fill == nullptr)
      return missing("near, key, value, value_size, fill");
    return near->cache->begin(bytes_of(key, key_size), value, value_size, fill);
  });
}

int memstream_near_try(memstream_near_t* near, const void* key, size_t key_size, void* value, size_t* value_size,
                       memstream_near_fill_t* fill) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || !is_room(value, value_size) || fill == nullptr)
      return missing("near, key, value, value_size, fill");
    return near->cache->try_begin(bytes_of(key, key_size), value, value_size, fill);
  });
}

int memstream_near_peek(memstream_near_t* near, const void* key, size_t key_size, void* value, size_t* value_size) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || !is_room(value, value_size))
      return missing("near, key, value, value_size");
    return near->cache->peek(bytes_of(key, key_size), value, value_size);
  });
}

int memstream_near_peek_stale(memstream_near_t* near, const void* key, size_t key_size, void* value,
                              size_t* value_size) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || !is_room(value, value_size))
      return missing("near, key, value, value_size");
    return near->cache->peek_stale(bytes_of(key, key_size), value, value_size);
  });
}

int memstream_near_store(memstream_near_t* near, const void* key, size_t key_size, const void* value, size_t value_size,
                         int64_t pttl_ms, memstream_near_fill_t* fill) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || !is_room(value, &value_size) || fill == nullptr)
      return missing("near, key, value, fill");
    const std::string_view bytes = bytes_of(value, value_size);
    return near->cache->store(bytes_of(key, key_size), &bytes, pttl_ms, fill);
  });
}

int memstream_near_store_absent(memstream_near_t* near, const void* key, size_t key_size, memstream_near_fill_t* fill) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || fill == nullptr) return missing("near, key, fill");
    return near->cache->store(bytes_of(key, key_size), nullptr, 0, fill);
  });
}

int memstream_near_abandon(memstream_near_t* near, const void* key, size_t key_size, memstream_near_fill_t* fill) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || fill == nullptr) return missing("near, key, fill");
    return near->cache->abandon(bytes_of(key, key_size), fill);
  });
}

int memstream_near_set(memstream_near_t* near, const void* key, size_t key_size, const void* value, size_t value_size,
                       uint64_t ttl_ms) {
  return guarded([&] {
    if (near == nullptr || key == nullptr || !is_room(value, &value_size)) return missing("near, key, value");
    return near->cache->set(bytes_of(key, key_size), bytes_of(value, value_size), ttl_ms);
  });
}

int memstream_near_delete(memstream_near_t* near, const void* key, size_t key_size) {
  return guarded([&] {
    if (near == nullptr || key == nullptr) return missing("near, key");
    return near->cache->remove(bytes_of(key, key_size));
  });
}

int memstream_near_invalidate(memstream_near_t* near, const void* key, size_t key_size) {
  return guarded([&] {
    if (near == nullptr || key == nullptr) return missing("near, key");
    return near->cache->invalidate(bytes_of(key, key_size));
  });
}

int memstream_near_stats(memstream_near_t* near, memstream_near_stats_t* stats) {
  return guarded([&] {
    if (near == nullptr || stats == nullptr) return missing("near, stats");
    if (stats->struct_size != sizeof *stats) return wrong_size("memstream_near_stats_t");
    return near->cache->stats(stats);
  });
}

const char* memstream_near_last_error(void) { return memstream::near::last_error(); }

const char* memstream_near_agent_error(memstream_near_t* near) {
  thread_local std::string error;
  const int status = guarded([&] {
    error = near == nullptr ? std::string{} : near->cache->agent_error();
    return CACHE_OK + 0;
  });
  return status == CACHE_OK ? error.c_str() : "";
}

}  // extern "C"
