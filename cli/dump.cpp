// dump and load: all entries to a file and back, streamed. dump_format.h has the format.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY  // A state on the stack.
#include <xxhash.h>
#include <zstd.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>

#include "cli/command.h"
#include "cli/dump_format.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "the file has the byte order of the machine");

constexpr std::size_t kBufferSize = std::size_t{1} << 20;

[[noreturn]] void system_failed(const std::string& what, const std::string& path) {
  throw std::runtime_error(fmt::format("{} of {} failed: {}.", what, path_in_quotes(path), std::strerror(errno)));
}

std::uint64_t checksum_of(RecordHead head, std::string_view key, std::string_view value) {
  head.checksum = 0;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, &head, sizeof head);
  XXH3_64bits_update(&state, key.data(), key.size());
  XXH3_64bits_update(&state, value.data(), value.size());
  return XXH3_64bits_digest(&state);
}

// A line on a terminal that shows the progress. Silent where standard error is not a terminal.
class Progress {
 public:
  explicit Progress(std::uint64_t all) : all_(all), is_shown_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (is_shown_) fmt::print(stderr, "\r{:70}\r", "");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(std::uint64_t bytes) {
    done_ += 1;
    bytes_ += bytes;
    if (!is_shown_ || (done_ & 0x3ff) != 0) return;
    const auto now = Clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(200);
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const double share = all_ == 0 ? 0 : static_cast<double>(done_) / static_cast<double>(all_);
    const double left = share > 0 ? seconds * (1 - share) / share : 0;
    fmt::print(stderr, "\r{:5.1f} %  {} entries  {}/s  {} left    ", 100 * share, done_,
               format_size(static_cast<std::uint64_t>(static_cast<double>(bytes_) / std::max(seconds, 1e-3))),
               format_duration(static_cast<std::uint64_t>(left * 1000)));
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::uint64_t all_;
  std::uint64_t done_ = 0;
  std::uint64_t bytes_ = 0;
  bool is_shown_;
  Clock::time_point begin_ = Clock::now();
  Clock::time_point next_ = begin_;
};

// Writes a file that appears under its name complete or not at all: it has no name until then.
class OutputFile {
 public:
  OutputFile(std::string path, bool compress) : path_(std::move(path)) {
    const std::filesystem::path folder = std::filesystem::absolute(path_).parent_path();
    file_ = open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (file_ < 0) system_failed("Creating a file in the folder", path_);
    DumpHead head{};
    std::memcpy(head.magic, kDumpMagic, sizeof head.magic);
    head.flags = compress ? kDumpIsCompressed : 0;
    write_out(&head, sizeof head);
    buffer_.reserve(kBufferSize);
    if (compress) {
      stream_.reset(ZSTD_createCStream());
      compressed_.resize(ZSTD_CStreamOutSize());
    }
  }
  ~OutputFile() { close(file_); }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void append(const void* data, std::size_t size_bytes) {
    if (buffer_.size() + size_bytes > kBufferSize) flush(ZSTD_e_continue);
    if (size_bytes >= kBufferSize) return pass({static_cast<const char*>(data), size_bytes}, ZSTD_e_continue);
    buffer_.append(static_cast<const char*>(data), size_bytes);
  }

  // Gives the file its name, in place of a file that has it.
  void finish() {
    flush(ZSTD_e_end);
    if (fsync(file_) != 0) system_failed("Writing", path_);
    const std::string unnamed = fmt::format("/proc/self/fd/{}", file_);
    if (linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0) return;
    if (errno != EEXIST) system_failed("Naming", path_);
    const std::string beside = fmt::format("{}.{}", path_, getpid());
    if (linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, beside.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      system_failed("Naming", beside);
    }
    if (rename(beside.c_str(), path_.c_str()) != 0) {
      const int error = errno;
      unlink(beside.c_str());
      errno = error;
      system_failed("Replacing", path_);
    }
  }

 private:
  struct FreeStream {
    void operator()(ZSTD_CStream* stream) const noexcept { ZSTD_freeCStream(stream); }
  };

  void flush(ZSTD_EndDirective end) {
    pass(buffer_, end);
    buffer_.clear();
  }

  void pass(std::string_view bytes, ZSTD_EndDirective end) {
    if (stream_ == nullptr) return write_out(bytes.data(), bytes.size());
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    std::size_t left = 1;
    while (in.pos < in.size || (end == ZSTD_e_end && left != 0)) {
      ZSTD_outBuffer out{compressed_.data(), compressed_.size(), 0};
      left = ZSTD_compressStream2(stream_.get(), &out, &in, end);
      if (ZSTD_isError(left) != 0) throw std::runtime_error(ZSTD_getErrorName(left));
      write_out(compressed_.data(), out.pos);
    }
  }

  void write_out(const void* data, std::size_t size_bytes) {
    const char* at = static_cast<const char*>(data);
    while (size_bytes != 0) {
      const ssize_t written = write(file_, at, size_bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) system_failed("Writing", path_);
      at += written;
      size_bytes -= static_cast<std::size_t>(written);
    }
  }

  std::string path_;
  int file_ = -1;
  std::string buffer_;
  std::unique_ptr<ZSTD_CStream, FreeStream> stream_;
  std::string compressed_;
};

// The bytes of a dump behind its head, decompressed.
class InputFile {
 public:
  explicit InputFile(std::string path) : path_(std::move(path)) {
    file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0)
      throw std::invalid_argument(fmt::format("Invalid file {}: {}.", path_in_quotes(path_), std::strerror(errno)));
    DumpHead head{};
    if (!read_raw(&head, sizeof head) || std::memcmp(head.magic, kDumpMagic, sizeof head.magic) != 0) {
      throw std::invalid_argument(
          fmt::format("Invalid file {}: expected a file that memstream dump made.", path_in_quotes(path_)));
    }
    if ((head.flags & ~kDumpIsCompressed) != 0) {
      throw std::invalid_argument(
          fmt::format("Invalid file {}: a newer version made it. Use that version.", path_in_quotes(path_)));
    }
    if ((head.flags & kDumpIsCompressed) != 0) stream_.reset(ZSTD_createDStream());
  }
  ~InputFile() { close(file_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // False at the end of the file, or where the bytes are not a zstd stream.
  bool read(void* to, std::size_t size_bytes) {
    if (stream_ == nullptr) return read_raw(to, size_bytes);
    ZSTD_outBuffer out{to, size_bytes, 0};
    while (out.pos < out.size) {
      ZSTD_inBuffer in{raw_.data() + begin_, buffered_, 0};
      const std::size_t left = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(left) != 0) return false;
      begin_ += in.pos;
      buffered_ -= in.pos;
      // What is decompressed already may come without new bytes of the file.
      if (out.pos < out.size && buffered_ == 0 && !fill()) return false;
    }
    return true;
  }

 private:
  struct FreeStream {
    void operator()(ZSTD_DStream* stream) const noexcept { ZSTD_freeDStream(stream); }
  };

  // The next bytes of the file; false at its end. REQUIRES: those before are used up.
  bool fill() {
    raw_.resize(kBufferSize);
    for (;;) {
      const ssize_t got = ::read(file_, raw_.data(), raw_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) system_failed("Reading", path_);
      begin_ = 0;
      buffered_ = static_cast<std::size_t>(got);
      return got != 0;
    }
  }

  bool read_raw(void* to, std::size_t size_bytes) {
    char* at = static_cast<char*>(to);
    while (size_bytes != 0) {
      if (buffered_ == 0 && !fill()) return false;
      const std::size_t piece = std::min(size_bytes, buffered_);
      std::memcpy(at, raw_.data() + begin_, piece);
      at += piece;
      size_bytes -= piece;
      begin_ += piece;
      buffered_ -= piece;
    }
    return true;
  }

  std::string path_;
  int file_ = -1;
  std::string raw_;
  std::size_t begin_ = 0;  // Of what is not used up yet.
  std::size_t buffered_ = 0;
  std::unique_ptr<ZSTD_DStream, FreeStream> stream_;
};

int dump(const Session& session, const std::string& path, bool compress) {
  const Cache cache(session.target, Attach::kReadOnly);
  OutputFile file(path, compress);
  Progress progress(cache.stats().entries);
  std::uint64_t entries = 0;
  std::uint64_t damaged = 0;
  std::uint64_t tagged = 0;
  std::uint64_t bytes = 0;
  std::string value;
  cache.scan([&](const memstream_entry_t& entry) {
    memstream_meta_t meta{};
    if (memstream_entry_has_tags(&entry) != 0) {
      ++tagged;  // Loaded again it would have no tags, and outlive their invalidation.
      return true;
    }
    const std::string_view key = key_of(entry);
    try {
      if (!cache.read(key, &value, &meta)) return true;  // Gone since the scan saw it.
    } catch (const Failure& failure) {
      if (failure.status() != CACHE_CORRUPT) throw;
      ++damaged;
      return true;
    }
    RecordHead head{.key_size = entry.key_size,
                    .flags = meta.flags,
                    .value_size = value.size(),
                    .expires_at_ms = meta.expires_at_ms,
                    .checksum = 0};
    head.checksum = checksum_of(head, key, value);
    file.append(&head, sizeof head);
    file.append(key.data(), key.size());
    file.append(value.data(), value.size());
    ++entries;
    bytes += key.size() + value.size();
    progress.add(key.size() + value.size());
    return true;
  });
  RecordHead last{.key_size = 0, .flags = 0, .value_size = entries, .expires_at_ms = 0, .checksum = 0};
  last.checksum = checksum_of(last, {}, {});
  file.append(&last, sizeof last);
  file.finish();
  print(session, {{"entries", entries}, {"damaged", damaged}, {"tagged", tagged}, {"bytes", bytes}},
        [&] { return fmt::format("{} entries, {} dumped to {}\n", entries, format_size(bytes), path); });
  if (damaged != 0) {
    throw std::runtime_error(
        fmt::format("File {} lacks {} damaged values; it holds all others. Run 'memstream check --repair' to drop "
                    "them, and store them again.",
                    path_in_quotes(path), damaged));
  }
  return kDone;
}

struct Loaded {
  std::uint64_t entries = 0;
  std::uint64_t expired = 0;
  std::uint64_t too_large = 0;
  std::uint64_t bytes = 0;
};

// One record into `key` and `value`; false if it is damaged or cut off. The size of a value is believed only as far as
// the file goes on: it is read in pieces.
bool read_record(InputFile& file, RecordHead* head, std::string* key, std::string* value) {
  if (!file.read(head, sizeof *head) || head->key_size > CACHE_MAX_KEY_SIZE) return false;
  key->resize(head->key_size);
  if (!file.read(key->data(), key->size())) return false;
  value->clear();
  const std::uint64_t value_size = head->key_size == 0 ? 0 : head->value_size;
  while (value->size() < value_size) {
    const std::size_t begin = value->size();
    value->resize(begin + static_cast<std::size_t>(std::min<std::uint64_t>(value_size - begin, 16 * kBufferSize)));
    if (!file.read(value->data() + begin, value->size() - begin)) return false;
  }
  return checksum_of(*head, *key, *value) == head->checksum;
}

int load(const Session& session, const std::string& path) {
  InputFile file(path);
  const Cache cache(session.target, Attach::kCreate);
  Progress progress(0);
  Loaded loaded;
  RecordHead head{};
  std::string key, value;
  for (;;) {
    if (!read_record(file, &head, &key, &value)) {
      throw std::runtime_error(
          fmt::format("File {} is damaged or cut off after {} entries; these were loaded. Dump again for the rest.",
                      path_in_quotes(path), loaded.entries + loaded.expired + loaded.too_large));
    }
    if (head.key_size == 0) break;
    const std::uint64_t now_ms = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count());
    if (head.expires_at_ms != 0 && head.expires_at_ms <= now_ms) {
      ++loaded.expired;
      continue;
    }
    const std::uint64_t ttl_ms = head.expires_at_ms == 0 ? 0 : head.expires_at_ms - now_ms;
    const int status =
        memstream_set(cache.get(), key.data(), key.size(), value.data(), value.size(), ttl_ms, head.flags);
    if (status == CACHE_TOO_LARGE) {
      ++loaded.too_large;
      continue;
    }
    require_ok(status);
    ++loaded.entries;
    loaded.bytes += key.size() + value.size();
    progress.add(key.size() + value.size());
  }
  print(session,
        {{"entries", loaded.entries},
         {"expired", loaded.expired},
         {"too_large", loaded.too_large},
         {"bytes", loaded.bytes}},
        [&] {
          return fmt::format("{} entries, {} loaded; {} had expired, {} are too large for this cache\n", loaded.entries,
                             format_size(loaded.bytes), loaded.expired, loaded.too_large);
        });
  return loaded.too_large == 0 ? kDone : kMissOrFinding;
}

}  // namespace

void add_dump_commands(CLI::App& app, Session& session) {
  struct DumpChoices {
    std::string path;
    bool compress = false;
  };
  CLI::App* save = add_look_command(app, session, "dump", "Write all entries to a file",
                                    "  memstream dump sessions.msdump\n  memstream dump --zstd sessions.msdump");
  const auto saved = std::make_shared<DumpChoices>();
  save->add_option("file", saved->path, "the file to write")->required();
  save->add_flag("--zstd", saved->compress, "compress it");
  save->callback(
      [&session, saved] { session.run = [&session, saved] { return dump(session, saved->path, saved->compress); }; });

  CLI::App* restore = add_command(app, session, "load", "Store all entries of a file that dump made",
                                  "  memstream load sessions.msdump --name sessions");
  const auto path = std::make_shared<std::string>();
  restore->add_option("file", *path, "the file to read")->required();
  restore->callback([&session, path] { session.run = [&session, path] { return load(session, *path); }; });
}

}  // namespace memstream::cli
