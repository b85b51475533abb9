#include "api/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>

#include "api/grown_struct.h"
#include "backends/accounts.h"
#include "backends/open_segment.h"
#include "core/base/quoted.h"
#include "core/layout/layout.h"

namespace memstream {
namespace {

constexpr const char* kDefaultName = "default";
constexpr std::uint64_t kDefaultSize = std::uint64_t{256} << 20;
constexpr std::uint64_t kMaxSize = kMaxShards * kMaxShardSize;
constexpr std::uint64_t kMaxMaxValue = std::uint64_t{1024} << 30;
constexpr std::int64_t kDefaultTimeoutMs = 1000;
constexpr std::int64_t kMaxTimeoutMs = 3'600'000;
constexpr unsigned kDefaultMode = 0600;
constexpr std::uint32_t kKnownFlags = MEMSTREAM_OPEN_READ_ONLY | MEMSTREAM_OPEN_EXISTING | MEMSTREAM_OPEN_ANY_OWNER;

Status refuse(Status status, const char* source, std::string_view value, const char* expected) {
  return fail(status, fmt::format("Invalid {} {}: expected {}.", source, in_quotes(value), expected));
}

// The whole text as a number in `base`.
template <class Number>
bool parse(std::string_view text, Number* number, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number, base);
  return error == std::errc{} && end == text.data() + text.size();
}

bool is_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= kMaxNameSize && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

Status set_name(const char* source, std::string_view name, SegmentSpec* spec) {
  if (!is_name(name)) {
    return refuse(Status::kBadName, source, name, "1 to 64 characters from A-Z a-z 0-9 . _ -, not starting with a dot");
  }
  spec->name = name;
  return Status::kOk;
}

Status set_size(const char* source, std::string_view text, std::uint64_t size, bool parsed, SegmentSpec* spec) {
  if (!parsed || size < kMinSegmentSize || size > kMaxSize) {
    return refuse(Status::kBadSize, source, text, "a number of bytes from 1M to 4096G, with an optional K, M or G");
  }
  spec->size_bytes = (size + kPageSize - 1) / kPageSize * kPageSize;
  return Status::kOk;
}

// Digits, then optionally K, M or G. Saturates, because a number beyond 64 bits exceeds every limit anyway.
bool parse_bytes(std::string_view text, std::uint64_t* bytes) {
  unsigned shift = 0;
  switch (text.empty() ? '\0' : text.back()) {
    case 'K':
    case 'k':
      shift = 10;
      break;
    case 'M':
    case 'm':
      shift = 20;
      break;
    case 'G':
    case 'g':
      shift = 30;
      break;
    default:
      break;
  }
  if (shift != 0) text.remove_suffix(1);
  std::uint64_t number = 0;
  if (!parse(text, &number)) return false;
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  *bytes = number <= kMost >> shift ? number << shift : kMost;
  return true;
}

Status set_size(const char* source, std::string_view text, SegmentSpec* spec) {
  std::uint64_t size = 0;
  const bool parsed = parse_bytes(text, &size);
  return set_size(source, text, size, parsed, spec);
}

// The upper limit depends on the segment's size, and is checked when that is known.
Status set_max_value(const char* source, std::string_view text, std::uint64_t* max_value_bytes) {
  if (!parse_bytes(text, max_value_bytes) || *max_value_bytes == 0 || *max_value_bytes > kMaxMaxValue) {
    return refuse(Status::kBadMaxValue, source, text, "a number of bytes from 1 to 1024G, with an optional K, M or G");
  }
  return Status::kOk;
}

Status set_shards(const char* source, std::string_view text, std::uint32_t* shards) {
  if (!parse(text, shards) || *shards < 1 || *shards > kMaxShards) {
    return refuse(Status::kBadShards, source, text, "a number from 1 to 64");
  }
  return Status::kOk;
}

Status set_timeout(const char* source, std::string_view text, SegmentSpec* spec) {
  std::int64_t timeout_ms = 0;
  if (!parse(text, &timeout_ms) || timeout_ms < 0 || timeout_ms > kMaxTimeoutMs) {
    return refuse(Status::kBadTimeout, source, text, "a number of milliseconds from 0 to 3600000");
  }
  spec->timeout = std::chrono::milliseconds(timeout_ms);
  return Status::kOk;
}

Status set_mode(const char* source, std::string_view text, SegmentSpec* spec) {
  unsigned mode = 0;
  if (!parse(text, &mode, 8) || mode > 0777 || (mode & kDefaultMode) != kDefaultMode) {
    return refuse(Status::kBadMode, source, text,
                  "octal permission bits that let the owner read and write, such as 0600 "
                  "or 0660");
  }
  spec->mode = mode;
  return Status::kOk;
}

Status set_huge_pages(const char* source, std::string_view text, SegmentSpec* spec) {
  if (text == "off") {
    spec->huge_pages = HugePages::kOff;
  } else if (text == "try") {
    spec->huge_pages = HugePages::kTry;
  } else if (text == "require") {
    spec->huge_pages = HugePages::kRequire;
  } else {
    return refuse(Status::kBadHugePages, source, text, "off, try or require");
  }
  return Status::kOk;
}

Status set_prefault(const char* source, std::string_view text, bool* prefault) {
  if (text != "off" && text != "on") return refuse(Status::kBadPrefault, source, text, "off or on");
  *prefault = text == "on";
  return Status::kOk;
}

Status set_checksum(const char* source, std::string_view text, OpenOptions* options) {
  if (text != "off" && text != "on") return refuse(Status::kBadChecksumChoice, source, text, "off or on");
  options->checksum = text == "on";
  options->asks_for_checksum = true;
  return Status::kOk;
}

Status set_group(const char* source, const char* text, SegmentSpec* spec) {
  gid_t group = 0;
  constexpr auto kNone = static_cast<gid_t>(-1);  // The system calls read it as "do not change".
  if (!(parse(std::string_view(text), &group) ? group != kNone : find_group(text, &group))) {
    return refuse(Status::kBadGroup, source, text, "the name or number of a group that exists (see getent group)");
  }
  spec->group = group;
  return Status::kOk;
}

Status set_owner(const char* source, const char* text, SegmentSpec* spec) {
  uid_t user = 0;
  if (!(parse(std::string_view(text), &user) ? user != SegmentSpec::kNoUser : find_user(text, &user))) {
    return refuse(Status::kInvalid, source, text, "the name or number of a user (see getent passwd)");
  }
  spec->owner = user;
  return Status::kOk;
}

// The value of a field is the option if it was given, else the environment variable if it is set, else the default that
// the result holds already. A program with more rights than its caller (setuid) ignores the caller's variables.
template <class Set>
Status from_environment(const char* variable, Set set) {
  const char* text = ::secure_getenv(variable);
  return text == nullptr ? Status::kOk : set(variable, std::string_view(text));
}

Status read_spec(const memstream_options_t& given, OpenOptions* result) {
  SegmentSpec* spec = &result->spec;
  const auto name = [&](const char* source, std::string_view text) { return set_name(source, text, spec); };
  const auto size = [&](const char* source, std::string_view text) { return set_size(source, text, spec); };
  const auto shards = [&](const char* source, std::string_view text) {
    return set_shards(source, text, &result->shard_choice.shards);
  };
  const auto max_value = [&](const char* source, std::string_view text) {
    return set_max_value(source, text, &result->shard_choice.max_value_bytes);
  };
  const auto timeout = [&](const char* source, std::string_view text) { return set_timeout(source, text, spec); };
  const auto mode = [&](const char* source, std::string_view text) { return set_mode(source, text, spec); };
  const auto huge_pages = [&](const char* source, std::string_view text) { return set_huge_pages(source, text, spec); };
  const auto prefault = [&](const char* source, std::string_view text) {
    return set_prefault(source, text, &result->prefault);
  };

  result->shards_from_environment = given.shards == 0;
  result->max_value_from_environment = given.max_value == 0;
  result->huge_pages_from_environment = given.hugepages == nullptr;
  result->asks_for_size = given.size_bytes != 0 || ::secure_getenv("MEMSTREAM_SIZE") != nullptr;
  result->asks_for_mode = given.mode != 0 || ::secure_getenv("MEMSTREAM_MODE") != nullptr;
  if (given.owner != nullptr) {
    if (const Status status = set_owner("options.owner", given.owner, spec); status != Status::kOk) return status;
  }
  Status status = given.name != nullptr ? name("options.name", given.name) : from_environment("MEMSTREAM_NAME", name);
  if (status != Status::kOk) return status;
  status = given.size_bytes != 0
               ? set_size("options.size_bytes", std::to_string(given.size_bytes), given.size_bytes, true, spec)
               : from_environment("MEMSTREAM_SIZE", size);
  if (status != Status::kOk) return status;
  status = given.shards != 0 ? shards("options.shards", std::to_string(given.shards))
                             : from_environment("MEMSTREAM_SHARDS", shards);
  if (status != Status::kOk) return status;
  status = given.max_value != 0 ? max_value("options.max_value", std::to_string(given.max_value))
                                : from_environment("MEMSTREAM_MAX_VALUE", max_value);
  if (status != Status::kOk) return status;
  status = given.timeout_ms != -1 ? timeout("options.timeout_ms", std::to_string(given.timeout_ms))
                                  : from_environment("MEMSTREAM_TIMEOUT_MS", timeout);
  if (status != Status::kOk) return status;
  status = given.mode != 0 ? mode("options.mode", fmt::format("{:o}", given.mode))
                           : from_environment("MEMSTREAM_MODE", mode);
  if (status != Status::kOk) return status;
  status = given.hugepages != nullptr ? huge_pages("options.hugepages", given.hugepages)
                                      : from_environment("MEMSTREAM_HUGEPAGES", huge_pages);
  if (status != Status::kOk) return status;
  status = given.prefault != nullptr ? prefault("options.prefault", given.prefault)
                                     : from_environment("MEMSTREAM_PREFAULT", prefault);
  if (status != Status::kOk) return status;
  const auto checksum = [&](const char* source, std::string_view text) { return set_checksum(source, text, result); };
  status = given.checksum != nullptr ? checksum("options.checksum", given.checksum)
                                     : from_environment("MEMSTREAM_CHECKSUM", checksum);
  if (status != Status::kOk) return status;
  const auto group = [&](const char* source, std::string_view text) { return set_group(source, text.data(), spec); };
  return given.group != nullptr ? group("options.group", given.group) : from_environment("MEMSTREAM_GROUP", group);
}

}  // namespace

memstream_options_t default_options(std::size_t size) noexcept {
  memstream_options_t options{};
  options.struct_size = size;
  options.timeout_ms = -1;
  return options;
}

Status set_spec_size(const char* source, std::uint64_t size_bytes, SegmentSpec* spec) {
  return set_size(source, std::to_string(size_bytes), size_bytes, true, spec);
}

Status name_variable(Status status, const OpenOptions& options) {
  const char* variable = nullptr;
  if (status == Status::kBadShards && options.shards_from_environment) variable = "MEMSTREAM_SHARDS";
  if (status == Status::kBadMaxValue && options.max_value_from_environment) variable = "MEMSTREAM_MAX_VALUE";
  if (status == Status::kNoHugePages && options.huge_pages_from_environment) variable = "MEMSTREAM_HUGEPAGES";
  const char* value = variable == nullptr ? nullptr : ::secure_getenv(variable);
  if (value == nullptr) return status;
  const std::string reason = last_error();
  return fail(status, fmt::format("Invalid {} {}: {}", variable, in_quotes(value), reason));
}

Status read_options(const memstream_options_t* options, OpenOptions* result) {
  memstream_options_t given = default_options();
  if (options != nullptr) {
    if (!is_size_of<memstream_options_t>(options->struct_size, kFirstOptionsSize)) {
      return fail(Status::kInvalid,
                  fmt::format("Invalid memstream_options_t.struct_size {}: expected {} to {}. Call "
                              "memstream_options_init() first, and do not use a library older than your program.",
                              options->struct_size, kFirstOptionsSize, sizeof(memstream_options_t)));
    }
    std::memcpy(&given, options, options->struct_size);
  }
  if ((given.flags & ~kKnownFlags) != 0) {
    return fail(
        Status::kInvalid,
        fmt::format(
            "Invalid options.flags {:#x}: expected bits of {:#x}. Do not use a library older than your program.",
            given.flags, kKnownFlags));
  }
  if (given.reserved != 0) {
    return fail(Status::kInvalid, fmt::format("Invalid options.reserved {}: expected 0. Call memstream_options_init() "
                                              "before you set fields.",
                                              given.reserved));
  }
  result->spec.name = kDefaultName;
  result->spec.size_bytes = kDefaultSize;
  result->spec.mode = kDefaultMode;
  result->spec.timeout = std::chrono::milliseconds(kDefaultTimeoutMs);
  result->spec.any_owner = (given.flags & MEMSTREAM_OPEN_ANY_OWNER) != 0;
  result->read_only = (given.flags & MEMSTREAM_OPEN_READ_ONLY) != 0 || given.owner != nullptr;
  result->existing_only = result->read_only || (given.flags & MEMSTREAM_OPEN_EXISTING) != 0;
  if (const Status status = read_spec(given, result); status != Status::kOk) return status;
  return given.backend != nullptr ? make_backend(given.backend, &result->backend)
                                  : make_backend_from_environment(&result->backend);
}

}  // namespace memstream
