// The environment variables and the options: whatever they hold, each is taken as documented or refused by name.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "api/options.h"
#include "core/layout/layout.h"
#include "tests/fuzz/backend_choice.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/targets.h"

namespace memstream::fuzz {
namespace {

struct Variable {
  const char* name;
  int status;  // That refuses it.
};
constexpr Variable kVariables[] = {
    {"MEMSTREAM_NAME", CACHE_BAD_NAME},           {"MEMSTREAM_SIZE", CACHE_BAD_SIZE},
    {"MEMSTREAM_SHARDS", CACHE_BAD_SHARDS},       {"MEMSTREAM_TIMEOUT_MS", CACHE_BAD_TIMEOUT},
    {"MEMSTREAM_MODE", CACHE_BAD_MODE},           {"MEMSTREAM_HUGEPAGES", CACHE_BAD_HUGEPAGES},
    {"MEMSTREAM_PREFAULT", CACHE_BAD_PREFAULT},   {"MEMSTREAM_BACKEND", CACHE_BAD_BACKEND},
    {"MEMSTREAM_MAX_VALUE", CACHE_BAD_MAX_VALUE},
};
// What is said of the options: bit 0, that there are any; then a bit for each field, in the order of the variables; the
// last, that the size of the struct is another.
constexpr unsigned kOtherSize = std::size(kVariables) + 1;

// Text as the environment can hold it: no NUL.
std::string take_text(Input& input) {
  std::string text = input.text(input.byte() % 80);
  return text.substr(0, text.find('\0'));
}

// The number that the documentation means, or -1: digits alone, and not more than a 64-bit number.
double number_of(std::string_view text, int base) {
  if (text.empty()) return -1;
  double number = 0;
  for (const char c : text) {
    if (c < '0' || c >= '0' + base) return -1;
    number = number * base + (c - '0');
  }
  return number;
}

// As number_of(), with an optional unit.
double bytes_of_text(std::string_view text) {
  constexpr std::string_view kUnits = "KkMmGg";
  const std::size_t found = text.empty() ? kUnits.npos : kUnits.find(text.back());
  if (found == kUnits.npos) return number_of(text, 10);
  text.remove_suffix(1);
  return number_of(text, 10) * (found < 2 ? 1024.0 : found < 4 ? 1024.0 * 1024 : 1024.0 * 1024 * 1024);
}

bool is_good(std::size_t variable, std::string_view text) {
  switch (variable) {
    case 0: {
      constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
      return !text.empty() && text.size() <= 64 && text[0] != '.' && text.find_first_not_of(kAllowed) == text.npos;
    }
    case 1: {
      const double size = bytes_of_text(text);
      return size >= 1024.0 * 1024 && size <= static_cast<double>(kMaxShards * kMaxShardSize);
    }
    case 2:
      return number_of(text, 10) >= 1 && number_of(text, 10) <= 64;
    case 3:  // The parser lets "-0" pass.
      return (number_of(text, 10) >= 0 && number_of(text, 10) <= 3'600'000) ||
             (text.size() > 1 && text[0] == '-' && number_of(text.substr(1), 10) == 0);
    case 4: {
      const double mode = number_of(text, 8);
      return mode >= 0 && mode <= 0777 && (static_cast<unsigned>(mode) & 0600U) == 0600U;
    }
    case 5:
      return text == "off" || text == "try" || text == "require";
    case 6:
      return text == "off" || text == "on";
    case 7:
      return text == "sysv" || text == "posix";
    default: {
      const double max_value = bytes_of_text(text);
      return max_value >= 1 && max_value <= 1024.0 * 1024 * 1024 * 1024;
    }
  }
}

void must_hold(const OpenOptions& result) {
  MUST(!result.spec.name.empty() && result.spec.name.size() <= kMaxNameSize, "a name out of bounds");
  MUST(result.spec.name.find('/') == std::string::npos, "a name that is a path");
  MUST(result.spec.size_bytes >= kMinSegmentSize && result.spec.size_bytes % kPageSize == 0, "a size out of bounds");
  MUST(result.shard_choice.shards <= kMaxShards, "a number of shards out of bounds");
  MUST(result.spec.timeout.count() >= 0 && result.spec.timeout.count() <= 3'600'000, "a timeout out of bounds");
  MUST((result.spec.mode & ~0177U) == 0600U, "a mode out of bounds");
  MUST(result.backend != nullptr, "no backend");
}

}  // namespace

void run_environment(const std::uint8_t* data, std::size_t size_bytes) {
  use_backend(nullptr);
  Input input(data, size_bytes);
  const auto present = input.take<std::uint16_t>();
  const auto given = input.take<std::uint16_t>();
  std::vector<const Variable*> refused;  // Variables that must be.
  for (std::size_t i = 0; i < std::size(kVariables); ++i) {
    ::unsetenv(kVariables[i].name);
    if ((present >> i & 1) == 0) continue;
    const std::string text = take_text(input);
    ::setenv(kVariables[i].name, text.c_str(), 1);
    const bool overridden = (given & 1) != 0 && (given >> (i + 1) & 1) != 0;
    if (!overridden && !is_good(i, text)) refused.push_back(&kVariables[i]);
  }

  memstream_options_t options;
  memstream_options_init(&options);
  std::string name, hugepages, prefault, backend;
  bool options_good = true;
  if ((given & 1) != 0) {
    const auto set = [&](std::size_t variable) { return (given >> (variable + 1) & 1) != 0; };
    if (set(0)) options.name = (name = take_text(input)).c_str();
    if (set(1)) options.size_bytes = input.take<std::uint64_t>();
    if (set(2)) options.shards = input.take<std::uint32_t>();
    if (set(3)) options.timeout_ms = input.take<std::int64_t>();
    if (set(4)) options.mode = input.take<std::uint32_t>();
    if (set(5)) options.hugepages = (hugepages = take_text(input)).c_str();
    if (set(6)) options.prefault = (prefault = take_text(input)).c_str();
    if (set(7)) options.backend = (backend = take_text(input)).c_str();
    if (set(8)) options.max_value = input.take<std::uint64_t>();
    options.flags = input.byte();
    if ((given >> kOtherSize & 1) != 0) options.struct_size = input.take<std::uint16_t>();
    options_good = given == 1;
  }

  OpenOptions result;
  const int status = static_cast<int>(read_options((given & 1) != 0 ? &options : nullptr, &result));
  if (status == CACHE_OK) must_hold(result);
  if (status == CACHE_OK && (given & 1) == 0)
    MUST(refused.empty(), std::string(refused.empty() ? "" : refused.front()->name));
  if (status != CACHE_OK) {
    MUST(cache_last_error()[0] != '\0' && cache_strerror(status) != std::string("Unknown status."), "no message");
    MUST(status == CACHE_INVALID || (status <= CACHE_BAD_BACKEND && status >= CACHE_BAD_GROUP), cache_last_error());
    if (!options_good) return;
  }
  if ((given & 1) != 0) return;
  if (refused.empty()) {
    MUST(status == CACHE_OK, cache_last_error());
    return;
  }
  // Which of several is told first is the library's choice.
  MUST(std::any_of(refused.begin(), refused.end(),
                   [&](const Variable* variable) {
                     return status == variable->status &&
                            std::string_view(cache_last_error()).find(variable->name) != std::string_view::npos;
                   }),
       cache_last_error());
}

void seed_environment(const SeedSink& sink) {
  const auto input = [](std::uint8_t present, std::uint16_t given, const std::vector<std::string>& texts,
                        const Bytes& rest = {}) {
    Bytes bytes{present, static_cast<std::uint8_t>(given), static_cast<std::uint8_t>(given >> 8)};
    for (const std::string& text : texts) {
      bytes.push_back(static_cast<std::uint8_t>(text.size()));
      bytes.insert(bytes.end(), text.begin(), text.end());
    }
    bytes.insert(bytes.end(), rest.begin(), rest.end());
    return bytes;
  };
  sink("nothing", input(0, 0, {}));
  sink("all", input(255, 0, {"name", "64M", "4", "1000", "0660", "try", "on", "sysv"}));
  sink("limits", input(255, 0, {std::string(64, 'n'), "4194303G", "64", "3600000", "777", "require", "off", "posix"}));
  sink("other-units", input(3, 0, {"a.b_c-d", "1048576"}));
  sink("kibibytes", input(2, 0, {"1024k"}));
  const std::string bad[] = {
      ".hidden", "", "a/b", "0", "-1", "99999999999999999999", "0x10", "1 ", "18446744073709551615G"};
  for (std::size_t i = 0; i < std::size(bad); ++i) {
    for (std::uint8_t variable = 0; variable < std::size(kVariables); ++variable) {
      sink("bad-" + std::to_string(variable) + "-" + std::to_string(i),
           input(static_cast<std::uint8_t>(1U << variable), 0, {bad[i]}));
    }
  }
  sink("options", input(255, 1, {"name", "64M", "4", "1000", "0660", "off", "off", "sysv"}, {3}));
  sink("overridden", input(255, 511, {"", "", "", "", "", "", "", "", "other"},
                           {0, 0,    16, 0, 0, 0, 0,   0,   2,   0, 0,   0,   5, 0,   0,   0,   0,   0, 0,
                            0, 0x80, 1,  0, 0, 3, 't', 'r', 'y', 2, 'o', 'n', 4, 's', 'y', 's', 'v', 1}));
  sink("struct-size", input(0, 1U | 1U << kOtherSize, {}, {1, 72, 0}));
}

}  // namespace memstream::fuzz
