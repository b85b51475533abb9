#include "tests/histories/recording.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "tests/histories/client.h"
#include "tests/support/child_process.h"
#include "tests/support/ledger.h"
#include "tests/support/test_cache.h"

namespace memstream::histories {
namespace {

using test::ChildProcess;
using test::Complaint;
using test::OpenCache;

constexpr std::int64_t kPatientMs = 20'000;  // More than a loaded machine needs: CACHE_BUSY would be a defect.
constexpr std::uint64_t kRoomForAll = 16 << 20;
constexpr std::uint64_t kTooSmall = 2 << 20;

constexpr const char* kKilled = "killed by signal 9";

// Nobody waits for a client that failed before it was ready.
class ReadyInAnyCase {
 public:
  explicit ReadyInAnyCase(Board& board) : board_(board) {}
  ReadyInAnyCase(const ReadyInAnyCase&) = delete;
  ReadyInAnyCase& operator=(const ReadyInAnyCase&) = delete;
  ~ReadyInAnyCase() {
    if (!board_.begun) board_.ready.fetch_add(1);
  }

 private:
  Board& board_;
};

// What the cache says of itself when all clients are gone and their pins are dropped.
std::string state_at_rest(const RecordingPlan& plan, memstream_t* cache, Recording* recording) {
  const cache_stats_t stats = test::stats_of(cache);
  recording->recoveries = stats.recoveries;
  recording->evictions = stats.evictions;
  std::string complaint;
  if (stats.damaged != 0) complaint += "damaged entries were dropped; ";
  if (stats.pinned_memory != 0) complaint += "memory stays pinned by nobody; ";
  if (!plan.evicts && stats.evictions != 0) complaint += "entries were evicted from a cache that has room for all; ";
  return complaint + test::problems_of(cache);
}

}  // namespace

Recording record_history(const RecordingPlan& plan) {
  ::setenv("MEMSTREAM_BACKEND", plan.backend.c_str(), 1);
  const test::TemporarySegment segment("history", plan.evicts ? kTooSmall : kRoomForAll, 1, kPatientMs);
  const test::SharedArray<Board> boards(1);
  const test::SharedArray<ClientLog> logs(plan.clients + 1);
  Board& board = boards[0];
  std::mt19937_64 random(plan.seed);
  const std::uint64_t deaths = random() % (plan.most_deaths + 1);
  const OpenCache cache(segment.spec());
  Recording recording;

  std::vector<std::unique_ptr<ChildProcess>> processes;
  for (std::uint32_t client = 0; client < plan.clients; ++client) {
    ClientPlan client_plan{
        .client = client, .keys = plan.keys, .operations = plan.operations, .seed = random(), .evicts = plan.evicts};
    if (client < deaths) client_plan.dies_after = static_cast<std::uint32_t>(random() % plan.operations);
    processes.push_back(std::make_unique<ChildProcess>([&board, &segment, &logs, client_plan]() -> Complaint {
      const ReadyInAnyCase ready(board);
      // A handle of its own, not the one that it inherits.
      const OpenCache own(segment.spec());
      Client(client_plan, own, board, logs[client_plan.client]).run();
      return "";
    }));
  }
  while (board.ready < plan.clients) std::this_thread::sleep_for(kGlance);
  board.begun = true;
  for (std::uint32_t client = 0; client < plan.clients; ++client) {
    const Complaint complaint = processes[client]->wait();
    if (client < deaths && complaint == kKilled) {
      ++recording.deaths;
    } else if (!complaint.empty()) {
      recording.complaint += "client " + std::to_string(client) + ": " + complaint + "; ";
    }
  }
  try {
    Client({.client = plan.clients, .keys = plan.keys, .evicts = plan.evicts}, cache, board, logs[plan.clients])
        .read_all();
    recording.complaint += state_at_rest(plan, cache, &recording);
  } catch (const std::exception& error) {
    recording.complaint += error.what();
  }
  for (std::uint32_t client = 0; client <= plan.clients; ++client) {
    for (std::uint32_t i = 0; i < logs[client].count; ++i) {
      Operation operation = logs[client].operations[i];
      if (operation.returned == 0) {
        // What the call had already said when the client was killed, nobody was told.
        operation.outcome = Outcome::kUnknown;
        operation.result = kAbsent;
        ++recording.unknown;
      }
      recording.history.push_back(operation);
    }
  }
  return recording;
}

}  // namespace memstream::histories
