// One client of a recorded history: a process that does random operations on a few keys and writes down, outside the
// segment, what it asked for and what it was told.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/histories/history.h"
#include "tests/support/test_cache.h"

namespace memstream::histories {

inline constexpr std::uint32_t kMostOperations = 4000;  // Of one client: they number its writes.
inline constexpr std::uint32_t kMostClients = 64;
inline constexpr std::chrono::microseconds kGlance{20};  // Between two looks at the board while waiting.

// What the clients of one history have in common, in memory that survives each of them.
struct Board {
  std::atomic<std::uint64_t> clock;  // The last instant that was given out.
  std::atomic<std::uint32_t> ready;
  std::atomic<bool> begun;

  std::uint64_t tick() { return clock.fetch_add(1) + 1; }
};

// The operations of one client, in its order. One that has not returned yet is the last.
struct ClientLog {
  std::atomic<std::uint32_t> count;
  Operation operations[kMostOperations];
};

struct ClientPlan {
  std::uint32_t client = 0;
  std::uint32_t keys = 0;
  std::uint32_t operations = 0;
  std::uint64_t seed = 0;
  bool evicts = false;  // Fills the cache, so that it has to evict; a refusal for lack of room is an outcome then.
  // SIGKILL at some instruction soon after so many operations; never if there is no number.
  std::optional<std::uint32_t> dies_after{};
};

std::string key_text(std::uint32_t key);

class Client {
 public:
  Client(const ClientPlan& plan, memstream_t* cache, Board& board, ClientLog& log);

  // Waits for the others, then works. Throws std::runtime_error when the cache gives an error, or a value that is torn
  // or belongs to another key.
  void run();
  // Reads every key once.
  void read_all();

 private:
  struct Seen {
    std::uint64_t token = 0;
    Value value = kAbsent;
  };

  void step();
  void read(std::uint32_t key);
  void view(std::uint32_t key);
  void inspect(std::uint32_t key);
  void scan();
  void store(std::uint32_t key, Call call);
  void store_in_place(std::uint32_t key);
  void remove(std::uint32_t key);
  void touch(std::uint32_t key);
  void increment(std::uint32_t key);
  void grow_table();
  void release_views(std::size_t most);

  // Writes the operation down, runs `call()`, which returns a status of the library, and writes down what came of it.
  template <class Body>
  void record(Operation operation, Body call);
  Operation& append(const Operation& operation);
  Outcome outcome_of(int status, const char* call) const;
  void note_read(Operation& operation, const void* data, std::size_t size, const memstream_meta_t& meta);
  Value new_bytes(std::uint32_t key);
  Value new_number();
  std::uint32_t write_number() const;
  std::size_t choose_size();
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(random_() % limit); }

  ClientPlan plan_;
  memstream_t* cache_;
  Board& board_;
  ClientLog& log_;
  std::minstd_rand random_;
  std::vector<std::byte> value_;
  std::vector<std::byte> room_;
  std::vector<Seen> seen_;  // Of each key: the last token that came with a value.
  struct HeldView {
    memstream_view_t view;
    std::uint32_t key;
    Value value;
  };
  std::vector<HeldView> views_;
  std::uint32_t fillers_ = 0;
};

// Interrupts this process every few microseconds at whatever instruction it is, and makes way for the others: two cores
// alone interleave eight clients too rarely.
class Interruptions {
 public:
  explicit Interruptions(std::uint64_t seed);
  Interruptions(const Interruptions&) = delete;
  Interruptions& operator=(const Interruptions&) = delete;
  ~Interruptions();

  // This process kills itself with SIGKILL, at whatever instruction it is some microseconds from now.
  static void die_soon();
};

}  // namespace memstream::histories
