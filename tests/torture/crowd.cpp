#include "tests/torture/crowd.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

namespace memstream::torture {
namespace {

constexpr int kFinding = 3;

std::string key_of(std::size_t process, std::size_t key) {
  return "process-" + std::to_string(process) + "-key-" + std::to_string(key);
}

std::string value_of(const std::string& key, std::uint64_t version) {
  return make_value(key, version, 20 + version * 37 % 900);
}

}  // namespace

// ---- processes ----

pid_t Process::begin() {
  const pid_t process_id = ::fork();
  if (process_id < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (process_id == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return process_id;
}

void Process::complain(const char* what) {
  std::fprintf(stderr, "process %d: %s\n", ::getpid(), what);
  ::_exit(kFinding);
}

void Process::leave() { ::_exit(0); }

Process::Process(Process&& other) noexcept : process_id_(std::exchange(other.process_id_, -1)) {}

Process& Process::operator=(Process&& other) noexcept {
  std::swap(process_id_, other.process_id_);
  return *this;
}

Process::~Process() {
  if (process_id_ < 0) return;
  ::kill(process_id_, SIGKILL);
  ::waitpid(process_id_, nullptr, 0);
}

void Process::send(int signal) const { ::kill(process_id_, signal); }

void Process::kill() {
  send(SIGKILL);
  if (wait()) throw Finding("a process ended by itself");
}

bool Process::wait() {
  int status = 0;
  ::waitpid(std::exchange(process_id_, -1), &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
    throw Finding(std::string("a process got the signal ") + ::strsignal(WTERMSIG(status)));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) throw Finding("a process reports a finding (see above)");
  return WIFEXITED(status);
}

// ---- the crowd ----

Crowd::Crowd(const Place& place, std::uint64_t seed) : place_(place), random_(seed) {
  void* memory = ::mmap(nullptr, sizeof(Log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
  log_ = new (memory) Log{};
  for (std::size_t index = 0; index < kProcesses; ++index) processes_.push_back(start(index));
}

Crowd::~Crowd() {
  processes_.clear();
  ::munmap(log_, sizeof(Log));
}

Process Crowd::start(std::size_t index) {
  return Process([this, index, seed = random_()] { work(index, seed); });
}

void Crowd::replace(std::size_t index) { processes_[index] = start(index); }

// Puts its own keys in ascending versions, and reads everybody's. Never ends.
void Crowd::work(std::size_t index, std::uint64_t seed) const {
  std::mt19937_64 random(seed);
  CacheUnderTest cache(place_);
  std::string value;
  for (;;) {
    const std::size_t key_index = random() % kKeys;
    const std::string key = key_of(index, key_index);
    Note& note = (*log_)[index][key_index];
    const std::uint64_t version = note.begun.load() + 1;
    note.begun.store(version);
    const std::string stored = value_of(key, version);
    // Busy is an answer while somebody is stopped; then this version was not stored.
    const int status = memstream_set(cache.handle(), key.data(), key.size(), stored.data(), stored.size(), 0, 0);
    if (status == CACHE_OK) note.stored.store(version);
    if (status != CACHE_BUSY) require(status, "memstream_set");
    const std::string other = key_of(random() % kProcesses, random() % kKeys);
    const int found = cache.try_get(other, &value);
    if (found == CACHE_OK && !value.starts_with(std::string_view(other).substr(0, value.size()))) {
      throw Finding("a get of '" + other + "' brings another key's value");
    }
  }
}

std::uint64_t Crowd::audit(CacheUnderTest& cache, std::size_t index) const {
  std::uint64_t lost = 0;
  std::string value;
  for (std::size_t key_index = 0; key_index < kKeys; ++key_index) {
    const std::string key = key_of(index, key_index);
    const Note& note = (*log_)[index][key_index];
    const std::uint64_t stored = note.stored.load();
    if (!cache.get(key, &value)) {
      lost += stored == 0 ? 0 : 1;
      continue;
    }
    std::uint64_t version = note.begun.load();
    while (version > 0 && value != value_of(key, version)) --version;
    if (version == 0) throw Finding("the key '" + key + "' has a value that nobody wrote");
    lost += version < stored ? 1 : 0;
  }
  return lost;
}

}  // namespace memstream::torture
