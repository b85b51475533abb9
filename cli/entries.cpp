// Commands on single entries: get, put, del, touch, incr, and clear.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

// Milliseconds of "60", "500ms", "10s", "5m", "2h", "1d"; a plain number is seconds.
std::uint64_t parse_ttl(const std::string& text) {
  const std::size_t digits = text.find_first_not_of("0123456789");
  const std::string unit = digits == std::string::npos ? "s" : text.substr(digits);
  const std::uint64_t scale = unit == "ms"  ? 1
                              : unit == "s" ? 1000
                              : unit == "m" ? 60'000
                              : unit == "h" ? 3'600'000
                              : unit == "d" ? 86'400'000
                                            : 0;
  if (scale == 0 || digits == 0 || text.empty() || text.substr(0, digits).size() > 9) {
    throw std::invalid_argument(
        fmt::format("Invalid ttl {}: expected a number of seconds, or one with ms, s, m, h or d.", in_quotes(text)));
  }
  return std::stoull(text) * scale;
}

void write_bytes(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) {
    throw std::runtime_error(fmt::format("Writing the value failed: {}.", std::strerror(errno)));
  }
}

std::string read_all(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw std::invalid_argument(fmt::format("Invalid file {}: {}.", path_in_quotes(path), std::strerror(errno)));
  return {std::istreambuf_iterator<char>(file), {}};
}

int miss(const Session& session, const std::string& key) {
  if (session.json) {
    fmt::print("{}\n", Json({{"key", json_text(key)}, {"found", false}}).dump(2));
  } else {
    fmt::print(stderr, "memstream: key '{}' does not exist\n", printable(key));
  }
  return kMissOrFinding;
}

int get(const Session& session, const std::string& key) {
  const Cache cache(session.target, Attach::kLook);
  std::string value;
  memstream_meta_t meta{};
  if (!cache.read(key, &value, &meta)) return miss(session, key);
  if (session.json) {
    fmt::print("{}\n", Json({{"key", json_text(key)},
                             {"found", true},
                             {"size", value.size()},
                             {"flags", meta.flags},
                             {"created_at_ms", meta.created_at_ms},
                             {"expires_at_ms", meta.expires_at_ms},
                             {"value", json_text(value)}})
                           .dump(2));
  } else {
    write_bytes(value);
    // A person's prompt stands on a line of its own; a pipe gets the bytes and no more.
    if (isatty(STDOUT_FILENO) != 0 && !value.ends_with('\n')) write_bytes("\n");
  }
  return kDone;
}

struct PutChoices {
  std::string key;
  std::string value;  // "-": from standard input.
  std::string file;   // Empty: `value` counts.
  std::string ttl = "0";
  std::uint32_t flags = 0;
  bool only_new = false;
  std::vector<std::string> tags;
};

int put(const Session& session, const PutChoices& choices) {
  const std::uint64_t ttl_ms = parse_ttl(choices.ttl);
  const std::string value = !choices.file.empty()  ? read_all(choices.file)
                            : choices.value == "-" ? read_all("-")
                                                   : choices.value;
  const Cache cache(session.target, Attach::kCreate);
  memstream_tags_t tags{};
  for (const std::string& tag : choices.tags) require_ok(memstream_tag(cache.get(), tag.data(), tag.size(), &tags));
  const auto store = [&](auto plain, int operation) {
    const auto& [key, size] = std::pair(choices.key.data(), choices.key.size());
    return choices.tags.empty() ? plain(cache.get(), key, size, value.data(), value.size(), ttl_ms, choices.flags)
                                : memstream_store_tagged(cache.get(), key, size, value.data(), value.size(), ttl_ms,
                                                         choices.flags, operation, 0, &tags);
  };
  const int status = choices.only_new ? store(memstream_add, MEMSTREAM_ADD) : store(memstream_set, MEMSTREAM_SET);
  if (require_ok(status) == CACHE_EXISTS) {
    fmt::print(stderr, "memstream: key '{}' exists already\n", printable(choices.key));
    return kMissOrFinding;
  }
  if (session.json) fmt::print("{}\n", Json({{"key", json_text(choices.key)}, {"size", value.size()}}).dump(2));
  return kDone;
}

int invalidate(const Session& session, const std::string& tag) {
  const Cache cache(session.target, Attach::kWrite);
  require_ok(memstream_invalidate(cache.get(), tag.data(), tag.size()));
  if (session.json) {
    std::uint64_t count = 0;
    require_ok(memstream_invalidations(cache.get(), &count));
    fmt::print("{}\n", Json({{"tag", json_text(tag)}, {"invalidations", count}}).dump(2));
  }
  return kDone;
}

struct DeleteChoices {
  std::string key;
  std::string prefix;
  std::string pattern;
  bool yes = false;
};

int remove_many(const Session& session, const DeleteChoices& choices) {
  const Cache cache(session.target, Attach::kWrite);
  std::vector<std::string> keys;
  cache.scan([&](const memstream_entry_t& entry) {
    if (key_of(entry).starts_with(choices.prefix) && matches(choices.pattern, key_of(entry))) {
      keys.emplace_back(key_of(entry));
    }
    return true;
  });
  if (!keys.empty() && !choices.yes && !confirm(fmt::format("Delete {} keys?", keys.size()))) {
    throw std::invalid_argument(
        fmt::format("{} keys match and none was deleted: pass --yes to delete them.", keys.size()));
  }
  std::uint64_t deleted = 0;
  for (const std::string& key : keys) {
    deleted += require_ok(memstream_delete(cache.get(), key.data(), key.size())) == CACHE_OK ? 1 : 0;
  }
  print(session, {{"deleted", deleted}}, [&] { return fmt::format("{} keys deleted\n", deleted); });
  return deleted != 0 ? kDone : kMissOrFinding;
}

int remove_one(const Session& session, const std::string& key) {
  const Cache cache(session.target, Attach::kWrite);
  if (require_ok(memstream_delete(cache.get(), key.data(), key.size())) == CACHE_MISS) return miss(session, key);
  print(session, {{"deleted", 1}}, [] { return std::string(); });
  return kDone;
}

int touch(const Session& session, const std::string& key, std::uint64_t ttl_ms) {
  const Cache cache(session.target, Attach::kWrite);
  if (require_ok(memstream_touch(cache.get(), key.data(), key.size(), ttl_ms)) == CACHE_MISS) return miss(session, key);
  print(session, {{"key", json_text(key)}, {"ttl_ms", ttl_ms}}, [] { return std::string(); });
  return kDone;
}

int increment(const Session& session, const std::string& key, std::int64_t delta) {
  const Cache cache(session.target, Attach::kCreate);
  const std::int64_t initial = 0;
  std::int64_t result = 0;
  require_ok(memstream_incr(cache.get(), key.data(), key.size(), delta, &initial, 0, &result));
  print(session, {{"key", json_text(key)}, {"value", result}}, [&] { return fmt::format("{}\n", result); });
  return kDone;
}

int clear(const Session& session, bool yes) {
  const Cache cache(session.target, Attach::kWrite);
  const std::uint64_t entries = cache.stats().entries;
  if (!yes && !confirm(fmt::format("Remove all {} entries?", entries))) {
    throw std::invalid_argument(fmt::format("The cache has {} entries and none was removed: pass --yes.", entries));
  }
  require_ok(memstream_clear(cache.get()));
  print(session, {{"removed", entries}}, [&] { return fmt::format("{} entries removed\n", entries); });
  return kDone;
}

}  // namespace

void add_entry_commands(CLI::App& app, Session& session) {
  CLI::App* read = add_look_command(app, session, "get", "Print the value of a key, byte by byte",
                                    "  memstream get user:7\n  memstream get image.png > image.png");
  const auto wanted = std::make_shared<std::string>();
  read->add_option("key", *wanted, "the key")->required();
  read->callback([&session, wanted] { session.run = [&session, wanted] { return get(session, *wanted); }; });

  CLI::App* write = add_command(app, session, "put", "Store a value",
                                "  memstream put greeting hello --ttl 1h\n  memstream put page --file page.html\n"
                                "  date | memstream put now -");
  const auto stored = std::make_shared<PutChoices>();
  write->add_option("key", stored->key, "the key")->required();
  CLI::Option* value = write->add_option("value", stored->value, "the value; - reads standard input");
  CLI::Option* file = write->add_option("--file", stored->file, "take the value from a file");
  write->add_option("--ttl", stored->ttl, "time to live: seconds, or with ms, s, m, h, d");
  write->add_option("--flags", stored->flags, "the caller's 32 bits");
  write->add_flag("--add", stored->only_new, "only if the key is absent");
  write->add_option("--tag", stored->tags, "a group that the entry belongs to; up to four times")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  write->callback([&session, stored, value, file] {
    if ((value->count() != 0) == (file->count() != 0)) {
      throw CLI::ValidationError("value", "Pass a value, - or --file PATH, and one of them only.");
    }
    session.run = [&session, stored] { return put(session, *stored); };
  });

  CLI::App* end = add_command(app, session, "invalidate", "Make all entries misses that have a tag",
                              "  memstream put page --file page.html --tag user:7\n  memstream invalidate user:7");
  const auto tag = std::make_shared<std::string>();
  end->add_option("tag", *tag, "the tag")->required();
  end->callback([&session, tag] { session.run = [&session, tag] { return invalidate(session, *tag); }; });

  CLI::App* del =
      add_command(app, session, "del", "Delete a key, or all keys that match",
                  "  memstream del user:7\n  memstream del --prefix tmp: --yes\n  memstream del --match '*.png'");
  const auto gone = std::make_shared<DeleteChoices>();
  CLI::Option* one = del->add_option("key", gone->key, "the key");
  CLI::Option* prefix = del->add_option("--prefix", gone->prefix, "all keys that begin so");
  CLI::Option* pattern = del->add_option("--match", gone->pattern, "all keys that match a shell pattern");
  del->add_flag("--yes", gone->yes, "do not ask");
  del->callback([&session, gone, one, prefix, pattern] {
    const bool is_many = prefix->count() + pattern->count() != 0;
    if (is_many == (one->count() != 0)) throw CLI::ValidationError("key", "Pass a key, or --prefix or --match.");
    session.run = [&session, gone, is_many] {
      return is_many ? remove_many(session, *gone) : remove_one(session, gone->key);
    };
  });

  struct TouchChoices {
    std::string key;
    std::string ttl;
  };
  CLI::App* renew = add_command(app, session, "touch", "Give an entry a new time to live",
                                "  memstream touch user:7 1h\n  memstream touch user:7 0     # for ever");
  const auto touched = std::make_shared<TouchChoices>();
  renew->add_option("key", touched->key, "the key")->required();
  renew->add_option("ttl", touched->ttl, "seconds, or with ms, s, m, h, d; 0: for ever")->required();
  renew->callback([&session, touched] {
    session.run = [&session, touched] { return touch(session, touched->key, parse_ttl(touched->ttl)); };
  });

  struct IncrementChoices {
    std::string key;
    std::int64_t delta = 1;
  };
  CLI::App* add = add_command(app, session, "incr", "Add to a decimal number; an absent key counts as 0",
                              "  memstream incr visits\n  memstream incr stock -- -3");
  const auto counted = std::make_shared<IncrementChoices>();
  add->add_option("key", counted->key, "the key")->required();
  add->add_option("delta", counted->delta, "what to add")->capture_default_str();
  add->callback([&session, counted] {
    session.run = [&session, counted] { return increment(session, counted->key, counted->delta); };
  });

  CLI::App* empty = add_command(app, session, "clear", "Remove all entries", "  memstream clear --name sessions --yes");
  const auto yes = std::make_shared<bool>(false);
  empty->add_flag("--yes", *yes, "do not ask");
  empty->callback([&session, yes] { session.run = [&session, yes] { return clear(session, *yes); }; });
}

}  // namespace memstream::cli
