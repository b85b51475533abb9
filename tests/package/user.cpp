// A user's program in C++, with one value through an installed library.
#include <memstream/memstream.h>

#include <cstdio>
#include <string>

int main() {
  memstream_options_t options;
  memstream_options_init(&options);
  const std::string name = "package-" + std::to_string(memstream_version()) + "-" EXPECTED_VERSION;
  options.name = name.c_str();
  options.size_bytes = std::uint64_t{1} << 20;
  memstream_t* cache = nullptr;
  if (memstream_open(&options, &cache) != CACHE_OK) {
    std::printf("%s\n", cache_last_error());
    return 1;
  }
  char value[8] = "";
  size_t size = sizeof value;
  const bool is_found = memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK &&
                        memstream_get(cache, "key", 3, value, &size, nullptr) == CACHE_OK;
  const bool is_removed = memstream_destroy(cache) == CACHE_OK;
  memstream_close(cache);
  return is_found && is_removed && std::string(value, size) == "value" ? 0 : 1;
}
