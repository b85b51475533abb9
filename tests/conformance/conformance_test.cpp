// The cases that every language runs, over the C interface. README.md beside this file describes them.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/memstream.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using nlohmann::json;
using std::string;

// The statuses that the cases name.
string status_name(int status) {
  switch (status) {
    case CACHE_OK:
      return "OK";
    case CACHE_MISS:
      return "MISS";
    case CACHE_EXISTS:
      return "EXISTS";
    case CACHE_CONFLICT:
      return "CONFLICT";
    case CACHE_HELD:
      return "HELD";
    case CACHE_BAD_KEY:
      return "BAD_KEY";
    case CACHE_TOO_LARGE:
      return "TOO_LARGE";
    case CACHE_NOT_NUMERIC:
      return "NOT_NUMERIC";
    default:
      return "status " + std::to_string(status);
  }
}

string bytes(const json& given) {
  if (given.is_string()) return given.get<string>();
  string result;
  if (given.contains("hex")) {
    const string digits = given.at("hex");
    for (std::size_t at = 0; at < digits.size(); at += 2) {
      result += static_cast<char>(std::stoi(digits.substr(at, 2), nullptr, 16));
    }
    return result;
  }
  const string part = given.at("repeat");
  for (int count = given.at("count"); count > 0; --count) result += part;
  return result;
}

std::int64_t number(const json& given) { return std::stoll(given.get<string>()); }

// One case: its cache, and the tokens that its steps have saved.
class Case {
 public:
  explicit Case(memstream_t* cache) : cache_(cache) {}

  // Performs a step and returns its status. Checks what else the step says of the outcome.
  int perform(const json& step) {
    const string call = step.at("call");
    const string key = step.contains("key") ? bytes(step.at("key")) : "";
    const string value = step.contains("value") ? bytes(step.at("value")) : "";
    const std::uint64_t ttl_ms = step.value("ttl_ms", std::uint64_t{0});
    const std::uint32_t flags = step.value("flags", std::uint32_t{0});
    const auto with_value = [&](auto function) {
      return function(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, flags);
    };
    if (call == "get") return get(step, key, value);
    if (call == "set") return with_value(memstream_set);
    if (call == "add") return with_value(memstream_add);
    if (call == "replace") return with_value(memstream_replace);
    if (call == "cas") {
      return memstream_cas(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, flags, token(step));
    }
    if (call == "delete") return memstream_delete(cache_, key.data(), key.size());
    if (call == "exists") return memstream_exists(cache_, key.data(), key.size());
    if (call == "touch") return memstream_touch(cache_, key.data(), key.size(), ttl_ms);
    if (call == "ttl") return time_left(step, key);
    if (call == "incr") return increment(step, key, ttl_ms);
    if (call == "get_many") return get_many(step);
    if (call == "set_many") return set_many(step, ttl_ms);
    if (call == "delete_many") return delete_many(step);
    if (call == "lease") {
      std::uint64_t& lease = tokens_[step.at("save")];
      return memstream_lease(cache_, key.data(), key.size(), 0, 0, &lease);
    }
    if (call == "fulfil") {
      return memstream_lease_fulfil(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, flags,
                                    token(step));
    }
    if (call == "release") return memstream_lease_release(cache_, key.data(), key.size(), token(step));
    if (call == "clear") return memstream_clear(cache_);
    if (call == "wait") {
      std::this_thread::sleep_for(std::chrono::milliseconds(step.at("ms").get<int>()));
      return CACHE_OK;
    }
    throw std::runtime_error("no such call: " + call);
  }

 private:
  std::uint64_t token(const json& step) const { return tokens_.at(step.at("token")); }

  int get(const json& step, const string& key, const string& expected) {
    string value(expected.size() + 100, '\0');
    std::size_t size = value.size();
    memstream_meta_t meta{};
    const int status = memstream_get(cache_, key.data(), key.size(), value.data(), &size, &meta);
    if (status != CACHE_OK) return status;
    CHECK(std::string_view(value).substr(0, size) == expected);
    if (step.contains("flags")) CHECK(meta.flags == step.at("flags"));
    if (step.contains("save")) tokens_[step.at("save")] = meta.cas;
    return status;
  }

  int time_left(const json& step, const string& key) {
    memstream_entry_t entry;
    const int status = memstream_entry_info(cache_, key.data(), key.size(), &entry);
    if (status != CACHE_OK) return status;
    CHECK((entry.expires_at_ms == 0) == step.value("never", false));
    if (entry.expires_at_ms == 0) return status;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const std::int64_t left = static_cast<std::int64_t>(entry.expires_at_ms) -
                              std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
    CHECK(left >= step.at("at_least"));
    CHECK(left <= step.at("at_most"));
    return status;
  }

  int increment(const json& step, const string& key, std::uint64_t ttl_ms) {
    const std::int64_t initial = step.contains("initial") ? number(step.at("initial")) : 0;
    std::int64_t result = 0;
    const int status = memstream_incr(cache_, key.data(), key.size(), number(step.at("delta")),
                                      step.contains("initial") ? &initial : nullptr, ttl_ms, &result);
    if (status == CACHE_OK) CHECK(result == number(step.at("result")));
    return status;
  }

  static std::vector<memstream_item_t> items_of(const std::vector<string>& keys) {
    std::vector<memstream_item_t> items(keys.size());
    for (std::size_t at = 0; at < keys.size(); ++at) {
      items[at].key = keys[at].data();
      items[at].key_size = keys[at].size();
    }
    return items;
  }

  int get_many(const json& step) {
    const std::vector<string> keys = step.at("keys");
    std::vector<memstream_item_t> items = items_of(keys);
    string buffer(1 << 20, '\0');
    std::size_t size = buffer.size();
    const int status = memstream_get_many(cache_, items.data(), items.size(), buffer.data(), &size);
    if (status != CACHE_OK) return status;
    for (std::size_t at = 0; at < keys.size(); ++at) {
      const json& expected = step.at("values").at(at);
      CHECK((items[at].status == CACHE_MISS) == expected.is_null());
      if (expected.is_null()) continue;
      CHECK(std::string_view(static_cast<const char*>(items[at].value), items[at].value_size) == bytes(expected));
    }
    return status;
  }

  int set_many(const json& step, std::uint64_t ttl_ms) {
    std::vector<string> keys;
    std::vector<string> values;
    for (const auto& [key, value] : step.at("values").items()) {
      keys.push_back(key);
      values.push_back(bytes(value));
    }
    std::vector<memstream_item_t> items = items_of(keys);
    for (std::size_t at = 0; at < keys.size(); ++at) {
      items[at].value = values[at].data();
      items[at].value_size = values[at].size();
      items[at].ttl_ms = ttl_ms;
    }
    return memstream_set_many(cache_, items.data(), items.size());
  }

  int delete_many(const json& step) {
    const std::vector<string> keys = step.at("keys");
    std::vector<memstream_item_t> items = items_of(keys);
    const int status = memstream_delete_many(cache_, items.data(), items.size());
    int removed = 0;
    for (const memstream_item_t& item : items) removed += item.status == CACHE_OK ? 1 : 0;
    CHECK(removed == step.at("removed"));
    return status;
  }

  memstream_t* cache_;
  std::map<string, std::uint64_t> tokens_;
};

TEST_CASE("each case that every language runs") {
  std::ifstream file(MEMSTREAM_CONFORMANCE_CASES);
  const json cases = json::parse(file);
  const json& segment = cases.at("segment");
  REQUIRE(cases.at("cases").size() >= 10);
  for (const json& one : cases.at("cases")) {
    const string name = one.at("name");
    CAPTURE(name);
    const TemporarySegment temporary("conformance", segment.at("size_bytes"), segment.at("shards"));
    const OpenCache cache(temporary.spec());
    Case performed(cache);
    for (const json& step : one.at("steps")) {
      const string text = step.dump();
      CAPTURE(text);
      const int status = performed.perform(step);
      CHECK(status_name(status) == step.at("expect").get<string>());
      if (step.contains("message")) CHECK(string(cache_last_error()).find(step.at("message")) != string::npos);
    }
  }
}

}  // namespace
}  // namespace memstream::test
