// The environment and the options: every variable, what it allows, and the message for what it does not.
#include "api/options.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/quoted.h"
#include "tests/support/expectations.h"

namespace memstream::test {
namespace {

// MEMSTREAM_* as a test wants them, and as they were before afterwards.
class Environment {
 public:
  Environment() {
    for (const char* name : kNames) {
      if (const char* value = std::getenv(name)) before_[name] = value;
      ::unsetenv(name);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const char* name : kNames) ::unsetenv(name);
    for (const auto& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

 private:
  static constexpr const char* kNames[] = {"MEMSTREAM_BACKEND",   "MEMSTREAM_NAME",       "MEMSTREAM_SIZE",
                                           "MEMSTREAM_SHARDS",    "MEMSTREAM_TIMEOUT_MS", "MEMSTREAM_MODE",
                                           "MEMSTREAM_HUGEPAGES", "MEMSTREAM_PREFAULT",   "MEMSTREAM_GROUP",
                                           "MEMSTREAM_MAX_VALUE", "MEMSTREAM_CHECKSUM"};
  std::map<std::string, std::string> before_;
};

memstream_options_t fresh_options() {
  memstream_options_t options;
  memstream_options_init(&options);
  return options;
}

TEST_CASE("without variables and options everything has its default") {
  const Environment environment;
  OpenOptions options;
  REQUIRE(read_options(nullptr, &options) == Status::kOk);
  CHECK(options.spec.name == "default");
  CHECK(options.spec.size_bytes == 256U << 20);
  CHECK(options.spec.mode == 0600);
  CHECK(options.spec.timeout == std::chrono::milliseconds(1000));
  CHECK_FALSE(options.spec.any_owner);
  CHECK(options.shard_choice.shards == 0);
  CHECK(options.shard_choice.max_value_bytes == 0);
  CHECK_FALSE(options.read_only);
  CHECK_FALSE(options.existing_only);
  CHECK(options.spec.huge_pages == HugePages::kOff);
  CHECK_FALSE(options.prefault);
  CHECK(std::string(options.backend->name()) == "posix");
}

struct Good {
  const char* variable;
  const char* value;
  bool (*is_read)(const OpenOptions&);
};

TEST_CASE("every variable is read, up to its limits") {
  for (const Good& good : {
           Good{"MEMSTREAM_BACKEND", "sysv",
                [](const OpenOptions& o) { return std::string(o.backend->name()) == "sysv"; }},
           Good{"MEMSTREAM_NAME", "Az09._-", [](const OpenOptions& o) { return o.spec.name == "Az09._-"; }},
           Good{"MEMSTREAM_SIZE", "1M", [](const OpenOptions& o) { return o.spec.size_bytes == 1U << 20; }},
           Good{"MEMSTREAM_SIZE", "3m", [](const OpenOptions& o) { return o.spec.size_bytes == 3U << 20; }},
           Good{"MEMSTREAM_SIZE", "2G", [](const OpenOptions& o) { return o.spec.size_bytes == 2ULL << 30; }},
           Good{"MEMSTREAM_SIZE", "1024k", [](const OpenOptions& o) { return o.spec.size_bytes == 1U << 20; }},
           Good{"MEMSTREAM_SIZE", "2048K", [](const OpenOptions& o) { return o.spec.size_bytes == 2U << 20; }},
           Good{"MEMSTREAM_SIZE", "1048577",
                [](const OpenOptions& o) { return o.spec.size_bytes == (1U << 20) + 4096; }},
           Good{"MEMSTREAM_SHARDS", "1", [](const OpenOptions& o) { return o.shard_choice.shards == 1; }},
           Good{"MEMSTREAM_SHARDS", "64", [](const OpenOptions& o) { return o.shard_choice.shards == 64; }},
           Good{"MEMSTREAM_MAX_VALUE", "1", [](const OpenOptions& o) { return o.shard_choice.max_value_bytes == 1; }},
           Good{"MEMSTREAM_MAX_VALUE", "64M",
                [](const OpenOptions& o) { return o.shard_choice.max_value_bytes == 64U << 20; }},
           Good{"MEMSTREAM_MAX_VALUE", "1024G",
                [](const OpenOptions& o) { return o.shard_choice.max_value_bytes == 1ULL << 40; }},
           Good{"MEMSTREAM_TIMEOUT_MS", "0", [](const OpenOptions& o) { return o.spec.timeout.count() == 0; }},
           Good{"MEMSTREAM_TIMEOUT_MS", "3600000",
                [](const OpenOptions& o) { return o.spec.timeout.count() == 3'600'000; }},
           Good{"MEMSTREAM_MODE", "0660", [](const OpenOptions& o) { return o.spec.mode == 0660; }},
           Good{"MEMSTREAM_MODE", "600", [](const OpenOptions& o) { return o.spec.mode == 0600; }},
           Good{"MEMSTREAM_MODE", "777", [](const OpenOptions& o) { return o.spec.mode == 0777; }},
           Good{"MEMSTREAM_HUGEPAGES", "off",
                [](const OpenOptions& o) { return o.spec.huge_pages == HugePages::kOff; }},
           Good{"MEMSTREAM_HUGEPAGES", "try",
                [](const OpenOptions& o) { return o.spec.huge_pages == HugePages::kTry; }},
           Good{"MEMSTREAM_HUGEPAGES", "require",
                [](const OpenOptions& o) { return o.spec.huge_pages == HugePages::kRequire; }},
           Good{"MEMSTREAM_GROUP", "0", [](const OpenOptions& o) { return o.spec.group == 0U; }},
           Good{"MEMSTREAM_GROUP", "4294967294", [](const OpenOptions& o) { return o.spec.group == 4294967294U; }},
           Good{"MEMSTREAM_GROUP", "root", [](const OpenOptions& o) { return o.spec.group == 0U; }},
           Good{"MEMSTREAM_PREFAULT", "off", [](const OpenOptions& o) { return !o.prefault; }},
           Good{"MEMSTREAM_PREFAULT", "on", [](const OpenOptions& o) { return o.prefault; }},
           Good{"MEMSTREAM_CHECKSUM", "off", [](const OpenOptions& o) { return !o.checksum && o.asks_for_checksum; }},
           Good{"MEMSTREAM_CHECKSUM", "on", [](const OpenOptions& o) { return o.checksum && o.asks_for_checksum; }},
       }) {
    CAPTURE(good.variable);
    CAPTURE(good.value);
    const Environment environment;
    Environment::set(good.variable, good.value);
    OpenOptions options;
    REQUIRE_MESSAGE(read_options(nullptr, &options) == Status::kOk, last_error());
    CHECK(good.is_read(options));
  }
}

struct Variable {
  const char* name;
  Status status;
  const char* allowed;  // What the message says instead.
  std::vector<std::string> bad_values;
};

TEST_CASE("a value that is not possible is an error that names the variable, the value and what is allowed") {
  const Variable variables[] = {
      {"MEMSTREAM_BACKEND", Status::kBadBackend, "posix or sysv", {"", "mmap", "POSIX", "sysv "}},
      {"MEMSTREAM_NAME",
       Status::kBadName,
       "1 to 64 characters from A-Z a-z 0-9 . _ -",
       {"", ".hidden", "a/b", "a b", "naïve", "..", std::string(65, 'x'), "a\nb"}},
      {"MEMSTREAM_SIZE",
       Status::kBadSize,
       "from 1M to 4096G",
       {"", "M", "1", "1023K", "1048575", "-1M", "+1M", "1.5G", "1MB", "1T", "0x100000", " 1M", "1M ", "5000G", "4097G",
        "18446744073709551615", "18446744073709551616", "99999999999999999999G", "17179869185G"}},
      {"MEMSTREAM_SHARDS",
       Status::kBadShards,
       "from 1 to 64",
       {"", "0", "65", "-1", "+4", "2.0", "two", "4 ", "4294967297"}},
      {"MEMSTREAM_TIMEOUT_MS",
       Status::kBadTimeout,
       "from 0 to 3600000",
       {"", "-1", "3600001", "1s", "1.0", "x", "99999999999999999999"}},
      {"MEMSTREAM_MODE",
       Status::kBadMode,
       "octal permission bits",
       {"", "0", "0400", "0200", "0066", "1777", "0o600", "rw", "0680", "-600"}},
      {"MEMSTREAM_HUGEPAGES",
       Status::kBadHugePages,
       "off, try or require",
       {"", "on", "yes", "1", "Try", "try ", "required"}},
      {"MEMSTREAM_GROUP",
       Status::kBadGroup,
       "name or number of a group",
       {"", "no-such-group", "-1", "4294967295", "4294967296", "1.0"}},
      {"MEMSTREAM_PREFAULT", Status::kBadPrefault, "off or on", {"", "1", "true", "ON", "on ", "no"}},
      {"MEMSTREAM_CHECKSUM", Status::kBadChecksumChoice, "off or on", {"", "1", "true", "ON", "on ", "xxh3"}},
      {"MEMSTREAM_MAX_VALUE",
       Status::kBadMaxValue,
       "from 1 to 1024G",
       {"", "0", "K", "-1", "1.5M", "1025G", "64MB", " 64M", "18446744073709551616", "17179869185G"}},
  };
  for (const Variable& variable : variables) {
    for (const std::string& value : variable.bad_values) {
      CAPTURE(variable.name);
      CAPTURE(value);
      const Environment environment;
      Environment::set(variable.name, value);
      OpenOptions options;
      CHECK(read_options(nullptr, &options) == variable.status);
      CHECK(message_has(variable.name));
      CHECK(message_has(in_quotes(value).c_str()));
      CHECK(message_has(variable.allowed));
    }
  }
}

TEST_CASE("a hostile value is shown without control bytes and shortened, and what is expected follows") {
  for (const char* variable : {"MEMSTREAM_BACKEND", "MEMSTREAM_NAME", "MEMSTREAM_SIZE", "MEMSTREAM_SHARDS",
                               "MEMSTREAM_TIMEOUT_MS", "MEMSTREAM_MODE", "MEMSTREAM_HUGEPAGES", "MEMSTREAM_GROUP",
                               "MEMSTREAM_PREFAULT", "MEMSTREAM_CHECKSUM", "MEMSTREAM_MAX_VALUE"}) {
    CAPTURE(variable);
    const Environment environment;
    OpenOptions options;
    Environment::set(variable, "\x1b[2J\xff\n\\");
    CHECK(read_options(nullptr, &options) != Status::kOk);
    CHECK_MESSAGE(message_has("'\\x1b[2J\\xff\\x0a\\\\': expected "), last_error());
    Environment::set(variable, std::string(5000, 'x'));
    CHECK(read_options(nullptr, &options) != Status::kOk);
    CHECK_MESSAGE(message_has("xxx...' (5000 bytes): expected "), last_error());
  }
}

TEST_CASE("a value that the segment refuses is named by its variable, if it came from there") {
  struct Refused {
    const char* variable;
    const char* value;
    Status status;
    void (*set)(memstream_options_t&);
  };
  const std::string name = "options-" + std::to_string(::getpid());
  for (const Refused& one :
       {Refused{"MEMSTREAM_SHARDS", "64", Status::kBadShards, [](memstream_options_t& o) { o.shards = 64; }},
        Refused{"MEMSTREAM_MAX_VALUE", "1G", Status::kBadMaxValue,
                [](memstream_options_t& o) { o.max_value = 1 << 30; }}}) {
    CAPTURE(one.variable);
    const Environment environment;
    memstream_options_t given = fresh_options();
    given.name = name.c_str();
    given.size_bytes = 1 << 20;
    memstream_t* opened = nullptr;
    Environment::set(one.variable, one.value);
    REQUIRE(memstream_open(&given, &opened) == static_cast<int>(one.status));
    const std::string begin = std::string("Invalid ") + one.variable + " '" + one.value + "': ";
    CHECK_MESSAGE(std::string(cache_last_error()).starts_with(begin), cache_last_error());
    one.set(given);
    REQUIRE(memstream_open(&given, &opened) == static_cast<int>(one.status));
    CHECK_MESSAGE(std::string(cache_last_error()).find("MEMSTREAM_") == std::string::npos, cache_last_error());
  }
}

TEST_CASE("an option stands before its variable, which is then not even looked at") {
  const Environment environment;
  for (const char* name : {"MEMSTREAM_BACKEND", "MEMSTREAM_NAME", "MEMSTREAM_SIZE", "MEMSTREAM_SHARDS",
                           "MEMSTREAM_TIMEOUT_MS", "MEMSTREAM_MODE", "MEMSTREAM_HUGEPAGES", "MEMSTREAM_PREFAULT",
                           "MEMSTREAM_GROUP", "MEMSTREAM_MAX_VALUE", "MEMSTREAM_CHECKSUM"}) {
    Environment::set(name, "!");
  }
  memstream_options_t given = fresh_options();
  given.backend = "sysv";
  given.name = "mine";
  given.size_bytes = 5'000'000;
  given.shards = 3;
  given.timeout_ms = 0;
  given.mode = 0640;
  given.hugepages = "require";
  given.prefault = "on";
  given.group = "7";
  given.max_value = 1'000'000;
  given.checksum = "on";
  OpenOptions options;
  REQUIRE_MESSAGE(read_options(&given, &options) == Status::kOk, last_error());
  CHECK(std::string(options.backend->name()) == "sysv");
  CHECK(options.spec.name == "mine");
  CHECK(options.spec.size_bytes == 5'001'216);  // Whole pages.
  CHECK(options.shard_choice.shards == 3);
  CHECK(options.shard_choice.max_value_bytes == 1'000'000);
  CHECK(options.spec.timeout.count() == 0);
  CHECK(options.spec.mode == 0640);
  CHECK(options.spec.huge_pages == HugePages::kRequire);
  CHECK(options.prefault);
  CHECK(options.checksum);
  CHECK(options.spec.group == 7U);
}

TEST_CASE("an option that is not possible is named as an option") {
  const Environment environment;
  struct Bad {
    Status status;
    const char* source;
    void (*set)(memstream_options_t&);
  };
  for (const Bad& bad :
       {Bad{Status::kBadName, "options.name", [](memstream_options_t& o) { o.name = "a/b"; }},
        Bad{Status::kBadSize, "options.size_bytes", [](memstream_options_t& o) { o.size_bytes = 1; }},
        Bad{Status::kBadShards, "options.shards", [](memstream_options_t& o) { o.shards = 65; }},
        Bad{Status::kBadTimeout, "options.timeout_ms", [](memstream_options_t& o) { o.timeout_ms = -2; }},
        Bad{Status::kBadMode, "options.mode", [](memstream_options_t& o) { o.mode = 0100; }},
        Bad{Status::kBadHugePages, "options.hugepages", [](memstream_options_t& o) { o.hugepages = "always"; }},
        Bad{Status::kBadPrefault, "options.prefault", [](memstream_options_t& o) { o.prefault = "true"; }},
        Bad{Status::kBadChecksumChoice, "options.checksum", [](memstream_options_t& o) { o.checksum = "true"; }},
        Bad{Status::kBadGroup, "options.group", [](memstream_options_t& o) { o.group = "nobody knows"; }},
        Bad{Status::kBadMaxValue, "options.max_value", [](memstream_options_t& o) { o.max_value = 1ULL << 41; }},
        Bad{Status::kInvalid, "options.owner", [](memstream_options_t& o) { o.owner = "nobody-of-that-name"; }},
        Bad{Status::kInvalid, "options.owner", [](memstream_options_t& o) { o.owner = ""; }},
        Bad{Status::kInvalid, "options.owner", [](memstream_options_t& o) { o.owner = "-1"; }},
        Bad{Status::kBadBackend, "'mmap'", [](memstream_options_t& o) { o.backend = "mmap"; }},
        Bad{Status::kInvalid, "options.flags", [](memstream_options_t& o) { o.flags = 8; }},
        Bad{Status::kInvalid, "struct_size", [](memstream_options_t& o) { o.struct_size -= 1; }},
        Bad{Status::kInvalid, "struct_size", [](memstream_options_t& o) { o.struct_size = 0; }}}) {
    CAPTURE(bad.source);
    memstream_options_t given = fresh_options();
    bad.set(given);
    OpenOptions options;
    CHECK(read_options(&given, &options) == bad.status);
    CHECK_MESSAGE(message_has(bad.source), last_error());
  }
}

TEST_CASE("an owner is named by id or by name, and implies reading only") {
  const Environment environment;
  for (const auto& owner : std::map<std::string, std::uint32_t>{{"0", 0}, {"root", 0}, {"61001", 61001}}) {
    const std::string& text = owner.first;
    CAPTURE(text);
    memstream_options_t given = fresh_options();
    given.owner = text.c_str();
    OpenOptions options;
    REQUIRE_MESSAGE(read_options(&given, &options) == Status::kOk, last_error());
    CHECK(options.spec.owner == owner.second);
    CHECK(options.read_only);
    CHECK(options.existing_only);
  }
}

TEST_CASE("reading only implies that the segment exists") {
  const Environment environment;
  memstream_options_t given = fresh_options();
  OpenOptions options;
  given.flags = MEMSTREAM_OPEN_READ_ONLY;
  REQUIRE(read_options(&given, &options) == Status::kOk);
  CHECK(options.read_only);
  CHECK(options.existing_only);
  given.flags = MEMSTREAM_OPEN_EXISTING | MEMSTREAM_OPEN_ANY_OWNER;
  REQUIRE(read_options(&given, &options) == Status::kOk);
  CHECK_FALSE(options.read_only);
  CHECK(options.existing_only);
  CHECK(options.spec.any_owner);
}

}  // namespace
}  // namespace memstream::test
