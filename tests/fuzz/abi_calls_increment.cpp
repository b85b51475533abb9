// Increments against the model: of a number that is there, or of one that was evicted and began anew.
#include <charconv>

#include "tests/fuzz/abi_calls.h"
#include "tests/fuzz/must.h"

namespace memstream::fuzz {
namespace {

bool is_number(const std::string& text, std::int64_t* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

void Calls::increment(ModelHandle& handle) {
  const std::string key = take_key();
  const std::uint8_t chosen = input_.byte();
  const auto delta = chosen % 8 == 0 ? input_.take<std::int64_t>() : std::int64_t{chosen} - 100;
  const std::int64_t initial = chosen % 3;
  const std::uint64_t ttl_ms = take_ttl();
  std::int64_t result = 0;
  const int status = memstream_incr(handle.cache, key.data(), key.size(), delta, chosen % 2 == 0 ? &initial : nullptr,
                                    ttl_ms, &result);
  if (bad_key(status, key) || refused(handle, status, true)) return;
  const ModelEntry* known = handle.segment->find(key);
  if (status == CACHE_MISS) {
    MUST(chosen % 2 != 0, "an increment with an initial value that misses");
    return missed(handle, key);
  }
  if (status == CACHE_FULL || status == CACHE_NOT_NUMERIC) return;
  MUST(status == CACHE_OK, cache_last_error());
  // The number that was there, if it still was; else it began anew. Now and then the result could be either.
  std::int64_t sum = 0;
  const bool goes_on =
      known != nullptr && is_number(known->value, &sum) && !__builtin_add_overflow(sum, delta, &sum) && result == sum;
  const bool began = chosen % 2 == 0 && result == initial + delta;
  MUST(goes_on || began, "an increment of another number");
  ModelEntry entry{std::to_string(result), goes_on ? known->flags : 0, goes_on ? known->may_expire : ttl_ms != 0};
  if (goes_on && began) {
    entry.may_expire |= ttl_ms != 0;
    memstream_entry_t now{};
    if (memstream_entry_info(handle.cache, key.data(), key.size(), &now) == CACHE_OK && now.flags == 0) entry.flags = 0;
  } else if (began && known != nullptr) {
    missed(handle, key);
  }
  handle.segment->store(key, std::move(entry));
  if (token_key_ == key) token_key_.clear();
}

}  // namespace memstream::fuzz
