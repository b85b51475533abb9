#include "tests/torture/ledger.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <new>

namespace memstream::torture {
namespace {

constexpr std::uint64_t kDeleteEvery = 7;

}  // namespace

struct Ledger::Pages {
  // Versions of one key.
  struct Note {
    std::atomic<std::uint64_t> begun;   // The last that may be found.
    std::atomic<std::uint64_t> stored;  // The last that the library said is stored.
    std::atomic<std::uint64_t> issued;  // Never falls.
    std::atomic<bool> may_be_absent;    // Settled so after a death.
  };
  struct Calls {
    std::atomic<double> longest_ms;
    std::atomic<std::uint64_t> count;
    std::atomic<std::uint64_t> busy;
  };
  std::array<std::array<Note, kMostKeys>, kProcesses> notes;
  std::array<Calls, kProcesses> calls;
  std::atomic<std::uint64_t> lost;
};

Ledger::Ledger(const Load& load) : load_(load) {
  void* memory = ::mmap(nullptr, sizeof(Pages), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
  pages_ = new (memory) Pages{};
}

Ledger::~Ledger() { ::munmap(pages_, sizeof(Pages)); }

std::string Ledger::key(std::size_t process, std::size_t key) {
  return "process-" + std::to_string(process) + "-key-" + std::to_string(key);
}

std::optional<std::string> Ledger::value(std::size_t process, std::size_t key, std::uint64_t version) const {
  const std::uint64_t mixed = (version * 0x9e37'79b9'7f4a'7c15 + key * 0x1234'5671) >> 20;
  if (mixed % kDeleteEvery == 0) return std::nullopt;
  const bool is_large = mixed % load_.large_every == 1;
  return make_value(this->key(process, key), version, is_large ? 33'000 + mixed % 20'000 : 40 + mixed % 900);
}

std::uint64_t Ledger::begin(std::size_t process, std::size_t key) {
  Pages::Note& note = pages_->notes[process][key];
  const std::uint64_t version = note.issued.load() + 1;
  note.issued.store(version);
  note.begun.store(version);
  return version;
}

void Ledger::stored(std::size_t process, std::size_t key, std::uint64_t version) {
  Pages::Note& note = pages_->notes[process][key];
  note.may_be_absent.store(false);
  note.stored.store(version);
}

std::uint64_t Ledger::last_stored(std::size_t process, std::size_t key) const {
  return pages_->notes[process][key].stored.load();
}

std::uint64_t Ledger::version_of(std::size_t process, std::size_t key, const std::string& found) const {
  const std::string begin = this->key(process, key) + '#';
  std::uint64_t version = 0;
  if (found.starts_with(begin)) std::from_chars(found.data() + begin.size(), found.data() + found.size(), version);
  if (value(process, key, version) == found) return version;
  throw Finding(fmt::format("the key '{}' has {} bytes '{}' that nobody wrote", this->key(process, key), found.size(),
                            std::string_view(found).substr(0, 40)));
}

void Ledger::verify(std::size_t process, std::size_t key, std::uint64_t last_stored,
                    const std::optional<std::string>& found) const {
  const Pages::Note& note = pages_->notes[process][key];
  // Loaded after the read: what was begun meanwhile may have been found.
  const bool is_settled = last_stored == note.stored.load() && note.begun.load() == last_stored;
  const std::uint64_t last = is_settled ? last_stored : note.issued.load();
  if (found) {
    const std::uint64_t version = version_of(process, key, *found);
    if (version >= last_stored && version <= last) return;
    pages_->lost.fetch_add(1);
    throw Finding(fmt::format("the key '{}' has version {}, and version {} was stored and {} begun",
                              this->key(process, key), version, last_stored, last));
  }
  if (load_.evicts || last_stored == 0 || note.may_be_absent.load()) return;
  for (std::uint64_t version = last_stored; version <= last; ++version) {
    if (!value(process, key, version)) return;
  }
  pages_->lost.fetch_add(1);
  throw Finding(fmt::format("the key '{}' is lost: version {} was stored and {} begun", this->key(process, key),
                            last_stored, last));
}

void Ledger::settle(std::size_t process, std::size_t key, const std::optional<std::string>& found) {
  Pages::Note& note = pages_->notes[process][key];
  verify(process, key, note.stored.load(), found);
  if (!found) {
    // Some delete of those that were begun, and it stays so.
    note.may_be_absent.store(true);
    note.stored.store(note.issued.load());
  } else {
    note.stored.store(version_of(process, key, *found));
  }
  note.begun.store(note.stored.load());
}

void Ledger::note_call(std::size_t process, double took_ms, bool busy) {
  Pages::Calls& calls = pages_->calls[process];
  calls.longest_ms = std::max(calls.longest_ms.load(), took_ms);
  calls.count.fetch_add(1);
  if (busy) calls.busy.fetch_add(1);
}

double Ledger::longest_ms() const {
  double longest = 0;
  for (const Pages::Calls& calls : pages_->calls) longest = std::max(longest, calls.longest_ms.load());
  return longest;
}

std::uint64_t Ledger::calls() const {
  std::uint64_t sum = 0;
  for (const Pages::Calls& calls : pages_->calls) sum += calls.count;
  return sum;
}

std::uint64_t Ledger::lost() const { return pages_->lost; }

std::uint64_t Ledger::busy() const {
  std::uint64_t sum = 0;
  for (const Pages::Calls& calls : pages_->calls) sum += calls.busy;
  return sum;
}

}  // namespace memstream::torture
