// The interface for C++, every member of a cache: what it returns, and what each of its errors looks like.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>

#include <array>
#include <chrono>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/memstream.hpp"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using namespace std::chrono_literals;
using std::string;
using std::string_view;

struct Quote {
  double bid;
  double ask;
};

static_assert(Plain<Quote> && Plain<int> && Plain<std::array<int, 3>>);
static_assert(!Plain<const char*> && !Plain<string_view> && !Plain<std::span<int>> && !Plain<string>);
static_assert(!Value<std::vector<string>> && Value<std::vector<int>> && !Value<std::vector<bool>>);
static_assert(std::ranges::input_range<Scan> && std::ranges::view<Scan>);
static_assert(!std::copyable<Cache> && std::movable<Cache> && std::movable<View> && std::movable<Lease>);
static_assert(!std::copyable<Watch> && std::movable<Watch>);

constexpr std::uint64_t kSize = std::uint64_t{4} << 20;

// A segment of this test alone, with an open cache.
struct Fixture {
  explicit Fixture(const string& purpose)
      : segment("cpp-" + purpose, kSize, 1),
        options{.name = segment.spec().name, .size_bytes = kSize, .shards = 1},
        cache(Cache::open(options).value()) {}
  Cache reader() const {
    Options reading = options;
    reading.read_only = true;
    return Cache::open(reading).value();
  }

  TemporarySegment segment;
  Options options;
  Cache cache;
};

bool has(string_view text, string_view part) { return text.find(part) != string_view::npos; }

template <class T>
bool fails(const Result<T>& result, int status, string_view part) {
  if (result.status() != status) return false;
  return !result.has_value() && result.error().status() == status && has(result.error().message(), part);
}

TEST_CASE("a cache opens by options, and tells which segment it has") {
  const Fixture fixture("open");
  const Cache& cache = fixture.cache;
  const auto info = cache.info();
  REQUIRE(info);
  CHECK(string_view(info->name) == fixture.options.name);
  CHECK(info->size_bytes == kSize);
  CHECK(cache.open_note().empty());
  Options larger = fixture.options;
  larger.size_bytes = 2 * kSize;
  CHECK(!Cache::open(larger).value().open_note().empty());
  CHECK(library_version() == MEMSTREAM_VERSION_NUMBER);
  CHECK(fixture.reader().info()->read_only == 1);
}

TEST_CASE("each option reaches the library, which names those that are not valid") {
  const Fixture fixture("options");
  const auto refused = [&](auto change) {
    Options options = fixture.options;
    change(options);
    return Cache::open(options).status();
  };
  CHECK(refused([](Options& o) { o.backend = "none"; }) == CACHE_BAD_BACKEND);
  CHECK(refused([](Options& o) { o.name = "a b"; }) == CACHE_BAD_NAME);
  CHECK(refused([](Options& o) { o.size_bytes = 1; }) == CACHE_BAD_SIZE);
  CHECK(refused([](Options& o) { o.shards = 65; }) == CACHE_BAD_SHARDS);
  CHECK(refused([](Options& o) { o.timeout = 3'600'001ms; }) == CACHE_BAD_TIMEOUT);
  CHECK(refused([](Options& o) { o.mode = 07777; }) == CACHE_BAD_MODE);
  CHECK(refused([](Options& o) { o.hugepages = "maybe"; }) == CACHE_BAD_HUGEPAGES);
  CHECK(refused([](Options& o) { o.prefault = "maybe"; }) == CACHE_BAD_PREFAULT);
  CHECK(refused([](Options& o) { o.group = "no such group"; }) == CACHE_BAD_GROUP);
  CHECK(refused([](Options& o) { o.checksum = "maybe"; }) == CACHE_BAD_CHECKSUM_CHOICE);
  CHECK(refused([](Options& o) { o.owner = "no such user"; }) == CACHE_INVALID);
  const auto absent = [](Options& o) { o.name += "-absent"; };
  CHECK(refused([&](Options& o) { absent(o), o.max_value = kSize; }) == CACHE_BAD_MAX_VALUE);
  CHECK(refused([&](Options& o) { absent(o), o.existing = true; }) == CACHE_NO_SEGMENT);
  CHECK(refused([&](Options& o) { absent(o), o.read_only = true; }) == CACHE_NO_SEGMENT);
  CHECK(refused([](Options& o) { o.any_owner = true; }) == CACHE_OK);
  CHECK(fails(Cache::open({.name = "a b"}), CACHE_BAD_NAME, "Invalid"));
}

TEST_CASE("values go in and come out by their type") {
  Fixture fixture("types");
  Cache& cache = fixture.cache;
  REQUIRE(cache.set("quote", Quote{1.5, 2.5}));
  CHECK(cache.get<Quote>("quote")->ask == 2.5);
  REQUIRE(cache.set("text", "a text"));
  CHECK(*cache.get<string>("text") == "a text");
  REQUIRE(cache.set("text", string("an owned text")));
  CHECK(*cache.get<string>("text") == "an owned text");
  REQUIRE(cache.set("numbers", std::vector<int>{1, 2, 3}));
  CHECK(*cache.get<std::vector<int>>("numbers") == std::vector<int>{1, 2, 3});
  CHECK(*cache.get<std::array<int, 3>>("numbers") == std::array<int, 3>{1, 2, 3});
  const int array[] = {4, 5};
  REQUIRE(cache.set("array", array));
  CHECK(*cache.get<std::vector<int>>("array") == std::vector<int>{4, 5});
  REQUIRE(cache.set("empty", ""));
  CHECK(cache.get<string>("empty")->empty());
  CHECK(cache.get<std::vector<int>>("empty")->empty());
  const string_view binary("a\0b", 3);
  REQUIRE(cache.set(binary, binary));
  CHECK(*cache.get<string>(binary) == binary);
}

TEST_CASE("a value above the first try of a get comes whole") {
  Fixture fixture("large");
  Cache& cache = fixture.cache;
  for (const std::size_t size :
       {detail::kFirstTry - 1, detail::kFirstTry, detail::kFirstTry + 1, std::size_t{90'000}}) {
    const string value(size, 'v');
    REQUIRE(cache.set("key", value));
    CHECK(*cache.get<string>("key") == value);
  }
  const std::vector<double> numbers(1000, 0.5);
  REQUIRE(cache.set("key", numbers));
  CHECK(*cache.get<std::vector<double>>("key") == numbers);
  REQUIRE(cache.set("key", string(9001, 'v')));
  CHECK(fails(cache.get<std::vector<double>>("key"), kWrongSize, "9001 bytes: expected a multiple of 8"));
}

TEST_CASE("a miss is an expected outcome, and the other type is an error") {
  Fixture fixture("errors");
  Cache& cache = fixture.cache;
  const auto missed = cache.get<int>("absent");
  CHECK(!missed);
  CHECK(missed.status() == CACHE_MISS);
  CHECK(missed.error().is_expected());
  CHECK(missed.error().message() == cache_strerror(CACHE_MISS));
  CHECK(missed.value_or(7) == 7);
  CHECK(cache.get<string>("absent").status() == CACHE_MISS);
  REQUIRE(cache.set("short", std::uint16_t{1}));
  CHECK(fails(cache.get<int>("short"), kWrongSize, "2 bytes: expected 4"));
  REQUIRE(cache.set("long", std::uint64_t{1}));
  CHECK(fails(cache.get<int>("long"), kWrongSize, "8 bytes: expected 4"));
  CHECK(!cache.get<int>("long").error().is_expected());
  CHECK(fails(cache.get<std::vector<int>>("short"), kWrongSize, "a multiple of 4"));
  CHECK(fails(cache.get<int>(""), CACHE_BAD_KEY, "Key"));
  CHECK(fails(cache.get<string>(""), CACHE_BAD_KEY, "Key"));
  CHECK(fails(cache.set("", 1), CACHE_BAD_KEY, "Key"));
  CHECK(cache.set("key", string(kSize, 'v')).status() == CACHE_TOO_LARGE);
  CHECK(fails(cache.set("key", 1, {.ttl = -1ms}), CACHE_INVALID, "Invalid ttl '-1 ms'"));
  CHECK(cache.get<int>("key").status() == CACHE_MISS);
  CHECK(fails(fixture.reader().set("key", 1), CACHE_READ_ONLY, "read"));
}

TEST_CASE("get_into copies into the caller's buffer, and says what it would need") {
  Fixture fixture("into");
  Cache& cache = fixture.cache;
  REQUIRE(cache.set("key", "value", {.flags = 9}));
  std::array<std::byte, 8> buffer{};
  Meta meta{};
  CHECK(*cache.get_into("key", buffer, &meta) == 5);
  CHECK(static_cast<char>(buffer[0]) == 'v');
  CHECK(meta.flags == 9);
  CHECK(cache.get_into("key", std::span(buffer).first(4)).status() == CACHE_TOO_SMALL);
  CHECK(cache.get_into("absent", buffer).status() == CACHE_MISS);
}

TEST_CASE("add, replace and compare_and_set store under their condition") {
  Fixture fixture("conditions");
  Cache& cache = fixture.cache;
  CHECK(cache.replace("key", 1).status() == CACHE_MISS);
  CHECK(cache.add("key", 1));
  CHECK(cache.add("key", 2).status() == CACHE_EXISTS);
  CHECK(cache.replace("key", 3));
  Meta meta{};
  CHECK(*cache.get<int>("key", meta) == 3);
  CHECK(cache.compare_and_set("key", 4, meta.cas, {.flags = 5}));
  CHECK(cache.compare_and_set("key", 5, meta.cas).status() == CACHE_CONFLICT);
  CHECK(cache.compare_and_set("absent", 5, meta.cas).status() == CACHE_MISS);
  CHECK(*cache.get<int>("key", meta) == 4);
  CHECK(meta.flags == 5);
  CHECK(cache.add("other", 1, {.ttl = -5ms}).status() == CACHE_INVALID);
  CHECK(cache.replace("key", 1, {.ttl = -5ms}).status() == CACHE_INVALID);
  CHECK(cache.compare_and_set("key", 1, meta.cas, {.ttl = -5ms}).status() == CACHE_INVALID);
}

TEST_CASE("a time to live ends an entry, and touch gives another") {
  Fixture fixture("ttl");
  Cache& cache = fixture.cache;
  Meta meta{};
  REQUIRE(cache.set("key", 1, {.ttl = 1h}));
  REQUIRE(cache.get<int>("key", meta));
  CHECK(meta.expires_at_ms > meta.created_at_ms + 3'500'000);
  CHECK(cache.touch("key", 0ms));
  REQUIRE(cache.get<int>("key", meta));
  CHECK(meta.expires_at_ms == 0);
  CHECK(cache.touch("absent", 1s).status() == CACHE_MISS);
  CHECK(fails(cache.touch("key", -1s), CACHE_INVALID, "'-1000 ms'"));
  CHECK(cache.get<int>("key"));
}

TEST_CASE("a get may give its entry a new time to live") {
  Fixture fixture("sliding");
  Cache& cache = fixture.cache;
  Meta meta{};
  REQUIRE(cache.set("key", 1, {.ttl = 1min}));
  CHECK(*cache.get_and_touch<int>("key", 1h, &meta) == 1);
  CHECK(meta.expires_at_ms > meta.created_at_ms + 3'500'000);
  CHECK(*cache.get_and_touch<int>("key", 0ms) == 1);
  REQUIRE(cache.get<int>("key", meta));
  CHECK(meta.expires_at_ms == 0);
  const std::string large(100'000, 'l');
  REQUIRE(cache.set("large", large));
  CHECK(*cache.get_and_touch<std::string>("large", 1h, &meta) == large);
  CHECK(meta.expires_at_ms > meta.created_at_ms + 3'500'000);
  CHECK(cache.get_and_touch<int>("absent", 1s).status() == CACHE_MISS);
  CHECK(fails(cache.get_and_touch<int>("key", -1s), CACHE_INVALID, "'-1000 ms'"));
}

TEST_CASE("tags end entries by an invalidation, however they were stored") {
  Fixture fixture("tags");
  Cache& cache = fixture.cache;
  const std::array<string_view, 2> names = {"user:7", "pages"};
  const Tags tags = cache.tags(names).value();
  const SetOptions tagged{.flags = 3, .tags = &tags};
  CHECK(cache.set("set", "1", tagged));
  CHECK(cache.add("add", "2", tagged));
  CHECK(cache.add("add", "2", tagged).status() == CACHE_EXISTS);
  CHECK(cache.replace("add", "3", tagged));
  Meta meta{};
  CHECK(cache.get<string>("add", meta).value() == "3");
  CHECK(cache.compare_and_set("add", "4", meta.cas, tagged));
  CHECK(cache.compare_and_set("add", "4", meta.cas, tagged).status() == CACHE_CONFLICT);
  const std::array<KeyValue, 2> many = {KeyValue{"one", "5", tagged}, KeyValue{"plain", "6", {}}};
  CHECK(cache.set_many(many));
  {
    auto lease = cache.lease("leased");
    REQUIRE(lease);
    CHECK(lease->fulfil("7", tagged));
  }
  auto room = cache.reserve("reserved", 1);
  REQUIRE(room);
  CHECK(fails(room->commit(tagged), CACHE_INVALID, "expected none"));
  CHECK(room->abort());
  for (const char* key : {"set", "add", "one", "leased", "plain"}) CHECK(cache.contains(key).value());
  CHECK(has_tags(cache.entry("one").value()));
  CHECK(!has_tags(cache.entry("plain").value()));

  CHECK(cache.invalidate("pages"));
  CHECK(cache.invalidations().value() == 1);
  for (const char* key : {"set", "add", "one", "leased"}) CHECK(!cache.contains(key).value());
  CHECK(cache.get<string>("plain").value() == "6");

  CHECK(fails(cache.invalidate(""), CACHE_INVALID, "Invalid tag of 0 bytes"));
  // Two tags may share a count. Of ten, more than four do not.
  const std::array<string_view, 10> ten = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
  CHECK(fails(cache.tags(ten), CACHE_INVALID, "at most 4"));
  CHECK(fails(fixture.reader().invalidate("pages"), CACHE_READ_ONLY, "reading"));
}

TEST_CASE("a limit says how long to wait, and a permit is given back by its end") {
  const TemporarySegment segment("cpp-limits", 16 << 20);
  const Options options{.name = segment.spec().name, .size_bytes = 16 << 20};
  Cache cache = Cache::open(options).value();
  ThrowingCache throwing = ThrowingCache::open(options);
  const Rate rate{.requests = 2, .period = 3'600'000ms};
  CHECK(cache.limit("user:7", rate).value() == 0ms);
  CHECK(throwing.limit("user:7", rate) == 0ms);
  CHECK(cache.limit("user:7", rate).value() > 1'000'000ms);
  CHECK(throwing.limit("user:7", {.requests = 2, .period = 3'600'000ms, .burst = 3}) == 0ms);
  CHECK(cache.limits()->size() == 1);
  CHECK(cache.limits()->front().most == 3);
  CHECK(cache.reset_limit("user:7"));
  CHECK(cache.reset_limit("user:7").status() == CACHE_MISS);
  CHECK_FALSE(throwing.reset_limit("user:7"));
  CHECK(fails(cache.limit("user:7", {.period = -1ms}), CACHE_INVALID, "Invalid period"));
  CHECK(fails(cache.limit("user:7", {.requests = 0}), CACHE_INVALID, "Invalid rate 0"));

  {
    auto first = cache.acquire("reports", 2, 0ms);
    REQUIRE(first);
    Permit moved = *std::move(first);
    auto second = throwing.acquire("reports", 2, 0ms);
    REQUIRE(second);
    CHECK(cache.held("reports").value() == 2);
    CHECK(cache.acquire("reports", 2, 1ms).status() == CACHE_HELD);
    CHECK_FALSE(throwing.acquire("reports", 2, 0ms));
    CHECK(moved.release());
    CHECK(moved.release().status() == CACHE_CONFLICT);
    CHECK(throwing.held("reports") == 1);
    moved = *std::move(second);  // Of another handle.
    CHECK(cache.held("reports").value() == 1);
  }
  CHECK(cache.held("reports").value() == 0);
  CHECK(fails(cache.acquire("reports", 0, 0ms), CACHE_INVALID, "Invalid permits 0"));
  CHECK(fails(cache.acquire("reports", 1, -1ms), CACHE_INVALID, "Invalid timeout"));

  Fixture small("limits-small");
  CHECK(fails(small.cache.held("reports"), CACHE_INVALID, "at least 16 MiB"));
  CHECK(fails(small.cache.reset_limit("user:7"), CACHE_INVALID, "at least 16 MiB"));
}

TEST_CASE("a watch names the keys that change, and ends by itself") {
  const TemporarySegment segment("cpp-watch", 16 << 20);
  const Options options{.name = segment.spec().name, .size_bytes = 16 << 20};
  ThrowingCache throwing = ThrowingCache::open(options);
  const auto is_readable = [](int descriptor) {
    pollfd event{.fd = descriptor, .events = POLLIN, .revents = 0};
    return ::poll(&event, 1, 0) == 1;
  };
  int descriptor = -1;
  {
    Cache cache = Cache::open(options).value();
    Watch watch = cache.watch("config:").value();
    descriptor = watch.descriptor();
    CHECK(watch.next(0ms).status() == CACHE_MISS);
    CHECK_FALSE(is_readable(descriptor));
    throwing.set("config:a", 1);
    throwing.set("other", 1);
    CHECK(watch.next(10s).value() == "config:a");
    CHECK(watch.next(1ms).status() == CACHE_MISS);
    const Tags tags = throwing.tags(std::array<string_view, 1>{"group"});
    throwing.set("config:b", 1, {.tags = &tags});
    CHECK(watch.next(10s).value() == "config:b");
    throwing.invalidate("group");
    CHECK(watch.next(10s).value().empty());
    CHECK(fails(watch.next(-1ms), CACHE_INVALID, "Invalid timeout"));

    ThrowingWatch all = throwing.watch();
    CHECK(!all.next(0ms).has_value());
    throwing.remove("other");
    CHECK(all.next(10s) == "other");
    ThrowingWatch moved = std::move(all);
    CHECK(all.descriptor() == -1);
    throwing.set("other", 2);
    CHECK(moved.next(10s) == "other");

    Watch second = cache.watch().value();
    const int ended = second.descriptor();
    second = std::move(watch);
    CHECK(second.descriptor() == descriptor);
    CHECK(::fcntl(ended, F_GETFD) == -1);
    CHECK(fails(cache.watch(string(1025, 'k')), CACHE_INVALID, "Invalid prefix"));
    CHECK_THROWS_AS(throwing.watch(string(1025, 'k')), Exception);
    throwing.set("config:a", 2);
    CHECK(cache.close());  // Before its watches.
    CHECK(second.next(10s).value() == "config:a");
    CHECK(moved.next(10s) == "config:a");
    throwing.destroy();
    CHECK(second.next(10s).status() == CACHE_GONE);
    CHECK_THROWS_AS(moved.next(10s), Exception);
  }
  CHECK(::fcntl(descriptor, F_GETFD) == -1);

  Fixture small("watch-small");
  CHECK(fails(small.cache.watch(), CACHE_INVALID, "at least 16 MiB"));
}

TEST_CASE("increment counts in decimal text") {
  Fixture fixture("increment");
  Cache& cache = fixture.cache;
  CHECK(cache.increment("count").status() == CACHE_MISS);
  CHECK(*cache.increment("count", 2, 40) == 42);
  CHECK(*cache.increment("count") == 43);
  CHECK(*cache.increment("count", -3) == 40);
  CHECK(*cache.get<string>("count") == "40");
  CHECK(cache.increment("count", 1, 0, -1ms).status() == CACHE_INVALID);
  REQUIRE(cache.set("text", "text"));
  CHECK(fails(cache.increment("text"), CACHE_NOT_NUMERIC, "text"));
}

TEST_CASE("remove, contains and clear") {
  Fixture fixture("remove");
  Cache& cache = fixture.cache;
  REQUIRE(cache.set("key", 1));
  CHECK(*cache.contains("key"));
  CHECK(cache.remove("key"));
  CHECK(cache.remove("key").status() == CACHE_MISS);
  CHECK(!*cache.contains("key"));
  CHECK(cache.contains("").status() == CACHE_BAD_KEY);
  REQUIRE(cache.set("key", 1));
  CHECK(cache.clear());
  CHECK(cache.stats()->entries == 0);
  CHECK(fixture.reader().clear().status() == CACHE_READ_ONLY);
}

TEST_CASE("many keys in one call, of any size") {
  Fixture fixture("many");
  Cache& cache = fixture.cache;
  const string large(50'000, 'l');
  const int one = 1;  // A KeyValue does not own its value.
  const std::vector<KeyValue> values = {{"one", one, {}}, {"large", large, {.ttl = 1h}}, {"two", "zwei", {.flags = 2}}};
  REQUIRE(cache.set_many(values));
  const std::vector<string_view> keys = {"one", "absent", "large", "two"};
  const auto found = cache.get_many(keys);
  REQUIRE(found);
  CHECK(found->size() == 4);
  CHECK(*found->get<int>(0) == 1);
  CHECK(found->status(1) == CACHE_MISS);
  CHECK(!found->contains(1));
  CHECK(found->bytes(1).empty());
  CHECK(found->text(1).empty());
  CHECK(found->get<int>(1).status() == CACHE_MISS);
  CHECK(found->text(2) == large);
  CHECK(found->meta(2).expires_at_ms != 0);
  CHECK(*found->get<string>(3) == "zwei");
  CHECK(found->meta(3).flags == 2);
  CHECK(found->get<double>(0).status() == kWrongSize);
  CHECK(cache.get_many({})->size() == 0);
  const auto of_one_instant = cache.get_many_consistent(keys);
  REQUIRE(of_one_instant);
  REQUIRE(of_one_instant->size() == keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CHECK(of_one_instant->status(i) == found->status(i));
    CHECK(of_one_instant->text(i) == found->text(i));
  }
  CHECK(cache.get_many_consistent({})->size() == 0);
  CHECK(*cache.remove_many(keys) == 3);
  CHECK(cache.stats()->entries == 0);

  const std::vector<string_view> bad = {"one", ""};
  CHECK(fails(cache.get_many(bad), CACHE_BAD_KEY, "Key"));
  CHECK(fails(cache.get_many_consistent(bad), CACHE_BAD_KEY, "Key"));
  CHECK(cache.remove_many(bad).status() == CACHE_BAD_KEY);
  const std::vector<KeyValue> late = {{"one", 1, {.ttl = -1ms}}};
  CHECK(cache.set_many(late).status() == CACHE_INVALID);
  CHECK(!*cache.contains("one"));
}

TEST_CASE("items of the C interface get a status each") {
  Fixture fixture("items");
  Cache& cache = fixture.cache;
  std::array<Item, 2> items{};
  items[0].key = items[0].value = "one";
  items[0].key_size = items[0].value_size = 3;
  items[1].key = "";
  CHECK(cache.set_many(items).status() == CACHE_BAD_KEY);
  CHECK(items[0].status == CACHE_OK);
  CHECK(items[1].status == CACHE_BAD_KEY);
  std::array<std::byte, 64> buffer{};
  CHECK(*cache.get_many(std::span(items).first(1), buffer) >= 3);
  CHECK(string_view(static_cast<const char*>(items[0].value), items[0].value_size) == "one");
  CHECK(cache.get_many(items, std::span(buffer).first(1)).status() == CACHE_BAD_KEY);
  CHECK(items[0].status == CACHE_TOO_SMALL);
  CHECK(cache.remove_many(std::span(items).first(1)));
  CHECK(cache.remove_many(items).status() == CACHE_BAD_KEY);
  CHECK(items[0].status == CACHE_MISS);
}

TEST_CASE("a view shows the value in place, and ends by itself") {
  Fixture fixture("view");
  Cache& cache = fixture.cache;
  REQUIRE(cache.set("key", Quote{1.5, 2.5}, {.flags = 3}));
  {
    Result<View> taken = cache.view("key");
    REQUIRE(taken);
    View view = *std::move(taken);
    CHECK(*view.in_place());
    CHECK((*view.as<Quote>())->ask == 2.5);
    CHECK(view.as_array<double>()->size() == 2);
    CHECK(view.bytes().size() == sizeof(Quote));
    CHECK(view.text().size() == sizeof(Quote));
    CHECK(view.meta().flags == 3);
    CHECK(view.as<int>().status() == kWrongSize);
    CHECK(view.as_array<std::array<char, 3>>().status() == kWrongSize);
    CHECK(cache.processes()->at(0).pins == 1);
    REQUIRE(cache.set("key", Quote{8, 9}));
    CHECK((*view.as<Quote>())->ask == 2.5);
    View other = *cache.view("key");
    CHECK(cache.processes()->at(0).pins == 2);
    other = std::move(view);  // The view of the new value ends.
    CHECK(cache.processes()->at(0).pins == 1);
    CHECK((*other.as<Quote>())->ask == 2.5);
    CHECK(other.release());
    CHECK(cache.processes()->at(0).pins == 0);
    View last = *cache.view("key");
  }
  CHECK(cache.processes()->at(0).pins == 0);
  CHECK(cache.view("absent").status() == CACHE_MISS);
  const Cache reader = fixture.reader();
  CHECK(!*reader.view("key")->in_place());
  CHECK(fails(View(cache.handle(), {}).release(), CACHE_BAD_HANDLE, "view"));
}

TEST_CASE("a reservation is seen when it is committed, and leaves nothing when it is not") {
  Fixture fixture("reserve");
  Cache& cache = fixture.cache;
  {
    Reservation room = *cache.reserve("key", 3);
    REQUIRE(room.bytes().size() == 3);
    std::memcpy(room.bytes().data(), "abc", 3);
    CHECK(!*cache.contains("key"));
    CHECK(room.commit({.ttl = -1ms}).status() == CACHE_INVALID);
    CHECK(room.commit({.ttl = 1h, .flags = 4}));
    CHECK(room.commit().status() == CACHE_BAD_HANDLE);
  }
  Meta meta{};
  CHECK(*cache.get<string>("key", meta) == "abc");
  CHECK(meta.flags == 4);
  { const Reservation dropped = *cache.reserve("key", 2000); }
  Reservation first = *cache.reserve("key", 2000);
  CHECK(cache.stats()->pinned_memory > 0);
  first = *cache.reserve("other", 1000);
  CHECK(first.abort());
  CHECK(fails(first.abort(), CACHE_BAD_HANDLE, "reservation"));
  CHECK(cache.stats()->pinned_memory == 0);
  CHECK(*cache.get<string>("key") == "abc");
  CHECK(cache.reserve("key", kSize).status() == CACHE_TOO_LARGE);
  CHECK(cache.reserve("", 1).status() == CACHE_BAD_KEY);
}

TEST_CASE("a scan is a range over all entries") {
  Fixture fixture("scan");
  Cache& cache = fixture.cache;
  CHECK(std::ranges::distance(cache.scan()) == 0);
  for (int i = 0; i < 100; ++i) REQUIRE(cache.set("key" + std::to_string(i), i));
  for (const std::size_t batch : {0U, 1U, 7U, 1000U}) {
    std::vector<string> keys;
    Scan scan = cache.scan(batch);
    for (const Entry& entry : scan) keys.emplace_back(key_of(entry));
    CHECK(scan.result());
    std::ranges::sort(keys);
    CHECK(keys.size() == 100);
    CHECK(std::ranges::adjacent_find(keys) == keys.end());
  }
#ifndef __clang__  // Version 14 does not compile the adaptors of this standard library.
  auto odd = cache.scan() | std::views::filter([](const Entry& entry) { return key_of(entry).ends_with('1'); });
  CHECK(std::ranges::distance(odd) == 10);
#endif
}

TEST_CASE("a scan ends at an error, and tells it") {
  Fixture fixture("scan-error");
  Cache& cache = fixture.cache;
  for (int i = 0; i < 100; ++i) REQUIRE(cache.set("key" + std::to_string(i), i));
  Scan scan = cache.scan(10);
  auto place = scan.begin();
  CHECK(scan.result());
  REQUIRE(cache.destroy());
  int count = 0;
  for (; place != scan.end(); ++place) ++count;
  CHECK(count == 10);
  CHECK(fails(scan.result(), CACHE_GONE, ""));
  ThrowingScan throwing(cache.handle(), 10);
  CHECK_THROWS_AS(throwing.begin(), Exception);
}

TEST_CASE("what is known of the cache, its entries and its processes") {
  Fixture fixture("inspect");
  Cache& cache = fixture.cache;
  REQUIRE(cache.set("key", "value", {.flags = 6}));
  for (int i = 0; i < 20'000; ++i) REQUIRE(cache.get<string>("key"));
  const auto entry = cache.entry("key");
  REQUIRE(entry);
  CHECK(key_of(*entry) == "key");
  CHECK(entry->flags == 6);
  CHECK(cache.entry("absent").status() == CACHE_MISS);
  CHECK(cache.stats()->hits == 20'000);
  CHECK(cache.metrics()->outcomes[MEMSTREAM_GET][MEMSTREAM_DONE] == 20'000);
  CHECK(cache.usage()->rate_capacity == 0);
  CHECK(cache.lock_holders()->empty());
  const auto hot = cache.hot_keys();
  REQUIRE(hot);
  CHECK(hot->size() == 1);
  CHECK(key_of(hot->at(0)) == "key");
  CHECK(cache.processes()->size() == 1);
  CHECK(cache.processes()->at(0).pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(cache.check()->problems == 0);
  CHECK(cache.check()->description.empty());
  CHECK(cache.repair()->entries == 1);
  CHECK(cache.resize(24 << 20)->new_bytes == 24 << 20);
  CHECK(cache.usage()->rate_capacity > 0);  // Of the successor, which is large enough.
  memstream_trace_t traced{};
  traced.struct_size = sizeof traced;
  std::array<memstream_access_t, 256> accesses;
  CHECK(*cache.trace(traced, accesses) == 0);
  for (int i = 0; i < 1000; ++i) static_cast<void>(cache.contains("key " + std::to_string(i)));
  for (int i = 0; i < 1000; ++i) static_cast<void>(cache.get<int>("key " + std::to_string(i)));
  CHECK(*cache.trace(traced, accesses) > 0);
  traced.struct_size = 1;
  CHECK(cache.trace(traced, accesses).status() == CACHE_INVALID);
  CHECK(cache.reap()->processes == 0);
  CHECK(cache.info()->size_bytes == 24 << 20);
  CHECK(fixture.reader().check().status() == CACHE_READ_ONLY);
  CHECK(fixture.reader().repair().status() == CACHE_READ_ONLY);
  CHECK(fixture.reader().resize(8 << 20).status() == CACHE_READ_ONLY);
  CHECK(fixture.reader().reap().status() == CACHE_READ_ONLY);
  CHECK(bucket_bound(0) < bucket_bound(1));
}

TEST_CASE("backends, and the segments of this machine") {
  const Fixture fixture("segments");
  const std::vector<string_view> names = backends();
  CHECK(names.size() == 2);
  const auto listed = segments(fixture.cache.info()->backend);
  REQUIRE(listed);
  CHECK(std::ranges::count_if(*listed, [&](const Segment& one) { return one.name == fixture.options.name; }) == 1);
  CHECK(segments("none").status() == CACHE_BAD_BACKEND);
}

TEST_CASE("a segment is destroyed by its cache or by its name") {
  Fixture fixture("destroy");
  CHECK(fixture.cache.destroy());
  CHECK(fixture.cache.destroy().status() == CACHE_NO_SEGMENT);
  CHECK(fixture.cache.stats().status() == CACHE_GONE);
  CHECK(destroy(fixture.options).status() == CACHE_NO_SEGMENT);
  REQUIRE(Cache::open(fixture.options));
  CHECK(destroy(fixture.options));
}

TEST_CASE("a cache moves, closes, and gives up its handle") {
  Fixture fixture("handle");
  Cache moved = std::move(fixture.cache);
  REQUIRE(moved.set("key", 1));
  memstream_t* handle = moved.release();
  CHECK(moved.handle() == nullptr);
  Cache adopted = Cache::adopt(handle);
  CHECK(*adopted.get<int>("key") == 1);
  CHECK(adopted.close());
  CHECK(adopted.handle() == nullptr);
}

TEST_CASE("results hold values or errors, and are copied and assigned") {
  Result<string> value = string(100, 'v');
  Result<string> error = Error(CACHE_BUSY, "a message that is not short");
  Result<string> other = value;
  CHECK(*other == *value);
  other = error;
  CHECK(fails(other, CACHE_BUSY, "not short"));
  other = std::move(value);
  CHECK(other->size() == 100);
  CHECK(other.value_or("none").size() == 100);
  CHECK(Result<string>(error).value_or("none") == "none");
  CHECK(std::move(other).value_or("none").size() == 100);
  CHECK_THROWS_WITH_AS(error.value(), "a message that is not short", Exception);
  CHECK_THROWS_WITH_AS(std::as_const(error).value(), "a message that is not short", Exception);
  CHECK_THROWS_WITH_AS(Result<string>(error).value(), "a message that is not short", Exception);
  CHECK_NOTHROW(Result<void>().value());
  CHECK(Result<void>().status() == CACHE_OK);
  CHECK_THROWS_AS(Result<void>(error.error()).value(), Exception);
  try {
    error.value();
  } catch (const Exception& caught) {
    CHECK(caught.status() == CACHE_BUSY);
    CHECK(caught.error().message() == "a message that is not short");
  }
}

TEST_CASE("the throwing face returns values, and throws errors") {
  const Fixture fixture("throwing");
  ThrowingCache cache = ThrowingCache::open(fixture.options);
  CHECK_THROWS_AS(ThrowingCache::open({.name = "a b"}), Exception);
  CHECK(!cache.get<int>("key").has_value());
  cache.set("key", 1);
  CHECK(cache.get<int>("key") == 1);
  CHECK(!cache.add("key", 2));
  CHECK(cache.replace("key", 3));
  CHECK(cache.increment("count", 1, 1) == 2);
  CHECK(cache.contains("key"));
  CHECK(cache.view("key")->as<int>());
  CHECK(!cache.view("absent").has_value());
  CHECK(cache.memoize("computed", [] { return 4; }) == 4);
  {
    auto lease = cache.lease("leased");
    REQUIRE(lease.has_value());
    CHECK(!cache.lease("leased").has_value());
    CHECK(lease->fulfil(1));
    CHECK(!lease->fulfil(2));
    CHECK(!lease->release());
    CHECK_THROWS_AS(lease->fulfil(1, {.ttl = -1ms}), Exception);
  }
  CHECK(cache.remove("key"));
  CHECK(!cache.remove("key"));
  int count = 0;
  for (const Entry& entry : cache.scan()) count += entry.is_valid != 0 ? 1 : 0;
  CHECK(count == 3);
  CHECK_THROWS_AS(cache.get<double>("computed"), Exception);
  CHECK_THROWS_AS(cache.set("", 1), Exception);
  cache.destroy();
  CHECK_THROWS_AS(cache.stats(), Exception);
}

}  // namespace
}  // namespace memstream::test
