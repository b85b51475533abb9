// The lock of a shard: holders that die, holders that merely stand still, and who is told what. The shard lies in real
// shared memory, because the ones that die are processes.
#include "core/shard/shard_lock.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backends/posix/posix_backend.h"
#include "core/cache/format.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"

namespace memstream::test {
namespace {

using namespace std::chrono_literals;

// Counts instead of repairing, and looks whether W is really held.
class CountingRecovery final : public ShardRecovery {
 public:
  explicit CountingRecovery(ShardHeader* shard) noexcept : shard_(shard) {}
  void repair_after_death() noexcept override {
    ++count_;
    bool is_held = false;
    std::thread([&] { is_held = robust_mutex_try_lock(&shard_->write_mutex) == LockOutcome::kTimeout; }).join();
    if (is_held) ++count_with_lock_;
  }
  int count() const noexcept { return count_; }
  int count_with_lock() const noexcept { return count_with_lock_; }

 private:
  ShardHeader* shard_;
  int count_ = 0;
  int count_with_lock_ = 0;
};

// A shard's lock in POSIX shared memory, which forked children share.
class SharedLock {
 public:
  SharedLock()
      : spec_{.name = "test-" + std::to_string(::getpid()) + "-lock", .size_bytes = kMinSegmentSize},
        format_(spec_.name, 1),
        backend_(make_posix_backend()) {
    REQUIRE_MESSAGE(backend_->open(spec_, format_, &segment_) == Status::kOk, last_error());
    AttachedHeader attached;
    REQUIRE_MESSAGE(check_header(*segment_, spec_.name, &attached) == Status::kOk, last_error());
    shard = reinterpret_cast<ShardHeader*>(segment_->data() + attached.geometry.shards_offset);
    slots = reinterpret_cast<ThreadSlot*>(segment_->data() + attached.geometry.thread_slots_offset);
    slot_count = attached.geometry.thread_slots;
    recovery = std::make_unique<CountingRecovery>(shard);
    lock = std::make_unique<ShardLock>(shard, 0U, slots, slot_count, recovery.get());
  }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;
  ~SharedLock() { (void)backend_->remove(spec_, format_, nullptr, mark_destroyed); }

  // One write, readers shut out.
  Status write(std::chrono::milliseconds timeout = 2000ms) {
    const Deadline deadline(timeout);
    if (const Status status = lock->lock(deadline); status != Status::kOk) return status;
    lock->assert_held();
    const Status status = lock->exclude_readers(deadline);
    if (status == Status::kOk) lock->let_readers_in();
    lock->unlock();
    return status;
  }
  bool is_held() const { return robust_is_held(&shard->write_mutex); }
  static bool robust_is_held(pthread_mutex_t* mutex) {
    bool held = false;
    std::thread([&] {
      const LockOutcome outcome = robust_mutex_try_lock(mutex);
      held = outcome == LockOutcome::kTimeout;
      if (outcome == LockOutcome::kAcquired) robust_mutex_unlock(mutex);
    }).join();
    return held;
  }

  ShardHeader* shard = nullptr;
  ThreadSlot* slots = nullptr;
  std::uint32_t slot_count = 0;
  std::unique_ptr<CountingRecovery> recovery;
  std::unique_ptr<ShardLock> lock;

 private:
  SegmentSpec spec_;
  SegmentFormat format_;
  std::unique_ptr<SegmentBackend> backend_;
  std::unique_ptr<Segment> segment_;
};

// A child that is inside the shard as a writer or a slow reader, until it is killed or told to leave.
class Occupant {
 public:
  enum class Role { kWriter, kReader };

  Occupant(SharedLock& shared, Role role)
      : process_([&, role]() -> Complaint {
          const auto stay = [&] {
            inside_.post();
            leave_.wait();
          };
          const Deadline deadline(5000ms);
          if (role == Role::kReader) return unless(shared.lock->read_shared(deadline, stay), Status::kOk);
          if (const Status status = shared.lock->lock(deadline); status != Status::kOk) return last_error();
          shared.lock->assert_held();
          stay();
          shared.lock->unlock();
          return "";
        }) {
    inside_.wait();
  }
  void kill() {
    process_.send_signal(SIGKILL);
    CHECK(process_.wait() == "killed by signal 9");
  }
  void stop() { process_.send_signal(SIGSTOP); }
  void leave() {
    process_.send_signal(SIGCONT);
    leave_.post();
    CHECK(process_.wait() == "");
  }

 private:
  Signal inside_;
  Signal leave_;
  ChildProcess process_;
};

// How long `call` took, as a check that a deadline was kept.
template <class Call>
std::chrono::milliseconds duration_of(Call call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
}

TEST_CASE("a lock is taken and given back, again and again, without any recovery") {
  SharedLock shared;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(shared.write() == Status::kOk);
    int reads = 0;
    REQUIRE(shared.lock->read_shared(Deadline(1s), [&] { ++reads; }) == Status::kOk);
    REQUIRE(reads == 1);
  }
  CHECK(shared.recovery->count() == 0);
  CHECK(shared.shard->epoch == 0);
  CHECK_FALSE(shared.is_held());
}

TEST_CASE("after a thread or a process died with the write lock the next one recovers, once, holding the lock") {
  for (const bool is_process : {false, true}) {
    CAPTURE(is_process);
    SharedLock shared;
    if (is_process) {
      Occupant(shared, Occupant::Role::kWriter).kill();
    } else {
      std::thread([&] { REQUIRE(shared.lock->lock(Deadline(1s)) == Status::kOk); }).join();
    }
    CHECK(shared.write() == Status::kOk);
    CHECK(shared.recovery->count() == 1);
    CHECK(shared.recovery->count_with_lock() == 1);
    CHECK(shared.shard->needs_recovery == 0);
    CHECK(shared.shard->wait == 0);
    CHECK(shared.shard->epoch == 1);
    CHECK(shared.write() == Status::kOk);
    CHECK(shared.recovery->count() == 1);
  }
}

TEST_CASE("a writer that died between the rwlock and its end hinders nobody") {
  SharedLock shared;
  CHECK(in_child([&]() -> Complaint {
          const Deadline deadline(1s);
          if (shared.lock->lock(deadline) != Status::kOk) return last_error();
          shared.lock->assert_held();
          return unless(shared.lock->exclude_readers(deadline), Status::kOk);  // Exits with both.
        }) == "");
  CHECK(shared.write() == Status::kOk);
  CHECK(shared.recovery->count() == 1);
  int reads = 0;
  CHECK(shared.lock->read_shared(Deadline(1s), [&] { ++reads; }) == Status::kOk);
  CHECK(reads == 1);
}

TEST_CASE("a lock whose holder is stopped is never stolen: others are busy at their deadline, and go on after it") {
  SharedLock shared;
  Occupant writer(shared, Occupant::Role::kWriter);
  writer.stop();
  Status status = Status::kOk;
  const auto waited = duration_of([&] { status = shared.write(150ms); });
  CHECK(status == Status::kBusy);
  CHECK(message_has("MEMSTREAM_TIMEOUT_MS"));
  CHECK(waited >= 150ms);
  CHECK(waited < 3s);
  CHECK(shared.lock->read_shared(Deadline(0ms), [] {}) == Status::kOk);  // It excluded no readers.
  writer.leave();
  CHECK(shared.write() == Status::kOk);
  CHECK(shared.recovery->count() == 0);
}

TEST_CASE("a timeout of zero asks once") {
  SharedLock shared;
  Occupant writer(shared, Occupant::Role::kWriter);
  CHECK(shared.write(0ms) == Status::kBusy);
  writer.leave();
  CHECK(shared.write(0ms) == Status::kOk);
}

TEST_CASE("a slow reader that died leaves a count behind; the writer switches the epoch and goes on") {
  SharedLock shared;
  for (std::uint64_t deaths = 1; deaths <= 3; ++deaths) {
    Occupant(shared, Occupant::Role::kReader).kill();
    CHECK(shared.write() == Status::kOk);
    CHECK(shared.shard->epoch == deaths);
    CHECK(shared.shard->wait == 0);
    CHECK(shared.lock->read_shared(Deadline(1s), [] {}) == Status::kOk);
  }
  CHECK(shared.recovery->count() == 0);  // It wrote nothing: there is nothing to put right.
}

TEST_CASE("a slow reader that stands still is waited for until the deadline, and its lock is never replaced") {
  SharedLock shared;
  Occupant reader(shared, Occupant::Role::kReader);
  reader.stop();
  Status status = Status::kOk;
  const auto waited = duration_of([&] { status = shared.write(150ms); });
  CHECK(status == Status::kBusy);
  std::string command;  // As the kernel has it: under a tool that runs the program it is the tool's.
  std::getline(std::ifstream("/proc/self/comm"), command);
  CHECK(message_has(" (" + command + "), which is stopped"));
  CHECK(message_has("was reading it"));
  CHECK(waited >= 150ms);
  CHECK(waited < 3s);
  CHECK(shared.shard->epoch == 0);
  CHECK(shared.shard->wait == 0);
  CHECK_FALSE(shared.is_held());
  CHECK(shared.lock->read_shared(Deadline(1s), [] {}) == Status::kOk);  // Readers come and go meanwhile.
  reader.leave();
  CHECK(shared.write() == Status::kOk);
  CHECK(shared.shard->epoch == 0);
}

TEST_CASE("a dead reader beside a live one: the live one is waited for") {
  SharedLock shared;
  Occupant live(shared, Occupant::Role::kReader);
  Occupant(shared, Occupant::Role::kReader).kill();
  CHECK(shared.write(100ms) == Status::kBusy);
  CHECK(shared.shard->epoch == 0);
  live.leave();
  CHECK(shared.write() == Status::kOk);
  CHECK(shared.shard->epoch == 1);
}

TEST_CASE("a recoverer that gives up at its deadline leaves the recovery to the next") {
  SharedLock shared;
  Occupant reader(shared, Occupant::Role::kReader);
  Occupant(shared, Occupant::Role::kWriter).kill();
  reader.stop();
  CHECK(shared.write(100ms) == Status::kBusy);
  CHECK(shared.recovery->count() == 0);
  CHECK(shared.shard->needs_recovery == 1);
  CHECK_FALSE(shared.is_held());
  CHECK(shared.write(100ms) == Status::kBusy);
  reader.leave();
  // Nobody reads a shard that is not put right: the read recovers first.
  int reads = 0;
  int recoveries_before_read = 0;
  CHECK(shared.lock->read_shared(Deadline(1s), [&] {
    ++reads;
    recoveries_before_read = shared.recovery->count();
  }) == Status::kOk);
  CHECK(reads == 1);
  CHECK(recoveries_before_read == 1);
  CHECK(shared.shard->needs_recovery == 0);
  CHECK(shared.write() == Status::kOk);
  CHECK(shared.recovery->count() == 1);
}

TEST_CASE("a recoverer that is killed in its turn leaves the recovery to the next") {
  SharedLock shared;
  Occupant(shared, Occupant::Role::kWriter).kill();
  shared.shard->needs_recovery = 1;  // As after the first store of a recovery, whoever made it ...
  shared.shard->wait = 1;
  Occupant reader(shared, Occupant::Role::kReader);  // ... and the first to come recovers, although it only reads.
  reader.leave();
  CHECK(shared.shard->needs_recovery == 0);
  CHECK(shared.shard->wait == 0);
  CHECK(shared.write() == Status::kOk);
  CHECK(shared.recovery->count() == 0);  // The reader's process did it.
  CHECK(shared.shard->epoch >= 1);
}

TEST_CASE("readers share, and a writer waits for them") {
  SharedLock shared;
  Occupant first(shared, Occupant::Role::kReader);
  Occupant second(shared, Occupant::Role::kReader);
  CHECK(shared.shard->announced[0] == 2);
  std::thread release([&] {
    std::this_thread::sleep_for(50ms);
    first.leave();
    second.leave();
  });
  CHECK(shared.write() == Status::kOk);
  release.join();
  CHECK(shared.shard->epoch == 0);
  CHECK(shared.shard->announced[0] == 0);
}

TEST_CASE("while a writer waits for readers to go, no other one comes in") {
  SharedLock shared;
  Occupant first(shared, Occupant::Role::kReader);
  Status written = Status::kInternal;
  std::thread writer([&] { written = shared.write(); });
  while (shared.shard->wait == 0) std::this_thread::yield();
  CHECK(shared.lock->read_shared(Deadline(50ms), [] {}) == Status::kBusy);
  first.leave();
  writer.join();
  CHECK(written == Status::kOk);
  CHECK(shared.lock->read_shared(Deadline(50ms), [] {}) == Status::kOk);
}

TEST_CASE("a writer that meets no slow reader leaves the rwlock alone, and keeps readers out all the same") {
  SharedLock shared;
  REQUIRE(shared.lock->read_shared(Deadline(1s), [] {}) == Status::kOk);
  REQUIRE(pthread_rwlock_trywrlock(&shared.shard->rw[0]) == 0);  // Whoever needed it now would wait.
  const Deadline deadline(1s);
  REQUIRE(shared.lock->lock(deadline) == Status::kOk);
  shared.lock->assert_held();
  REQUIRE(shared.lock->exclude_readers(deadline) == Status::kOk);
  pthread_rwlock_unlock(&shared.shard->rw[0]);
  Status read = Status::kOk;
  std::thread([&] { read = shared.lock->read_shared(Deadline(50ms), [] {}); }).join();
  CHECK(read == Status::kBusy);
  shared.lock->let_readers_in();
  shared.lock->unlock();
  CHECK(shared.lock->read_shared(Deadline(1s), [] {}) == Status::kOk);
}

TEST_CASE("a count that a dead reader left without the rwlock goes after some writes") {
  SharedLock shared;
  shared.shard->announced[0] = 1;
  for (int writes = 0; writes < 255; ++writes) REQUIRE(shared.write() == Status::kOk);
  CHECK(shared.shard->epoch == 0);
  CHECK(shared.write() == Status::kOk);
  CHECK(shared.shard->epoch == 1);
  CHECK(shared.shard->announced[1] == 0);
  // The old one is laid anew when its turn comes.
  shared.shard->announced[1] = 1;
  for (int writes = 0; writes < 256; ++writes) REQUIRE(shared.write() == Status::kOk);
  CHECK(shared.shard->epoch == 2);
  CHECK(shared.shard->announced[0] == 0);
}

TEST_CASE("a reader that finds no free thread slot reads under the write lock") {
  SharedLock shared;
  Signal locked, done;
  std::thread hog([&] {
    for (std::uint32_t i = 0; i < shared.slot_count; ++i) (void)robust_mutex_try_lock(&shared.slots[i].mutex);
    locked.post();
    done.wait();
    for (std::uint32_t i = 0; i < shared.slot_count; ++i) robust_mutex_unlock(&shared.slots[i].mutex);
  });
  locked.wait();
  bool held_write_lock = false;
  CHECK(shared.lock->read_shared(Deadline(1s), [&] { held_write_lock = shared.is_held(); }) == Status::kOk);
  done.post();
  hog.join();
  CHECK(held_write_lock);
  CHECK(shared.lock->read_shared(Deadline(1s), [&] { held_write_lock = shared.is_held(); }) == Status::kOk);
  CHECK_FALSE(held_write_lock);
}

TEST_CASE("bytes that are no mutex are told as damage") {
  SharedLock shared;
  shared.shard->write_mutex.__data.__kind = 0x0f;  // No type that exists; not robust, so that nothing is followed.
  CHECK(shared.write() == Status::kCorrupt);
  CHECK(message_has("Destroy the segment"));
}

TEST_CASE("a robust mutex tells of the death of its holder until it is made consistent") {
  SharedLock shared;
  pthread_mutex_t& mutex = shared.slots[0].mutex;
  CHECK(robust_mutex_try_lock(&mutex) == LockOutcome::kAcquired);
  CHECK(SharedLock::robust_is_held(&mutex));
  robust_mutex_unlock(&mutex);
  std::thread([&] { (void)robust_mutex_try_lock(&mutex); }).join();
  CHECK(robust_mutex_lock(&mutex, Deadline(1s)) == LockOutcome::kOwnerDied);
  robust_mutex_consistent(&mutex);
  robust_mutex_unlock(&mutex);
  CHECK(robust_mutex_try_lock(&mutex) == LockOutcome::kAcquired);
  robust_mutex_unlock(&mutex);
  std::thread([&] { (void)robust_mutex_try_lock(&mutex); }).join();
  CHECK(robust_mutex_try_lock(&mutex) == LockOutcome::kOwnerDied);
  robust_mutex_unlock(&mutex);  // Without making it consistent: nobody can use it any more.
  CHECK(robust_mutex_try_lock(&mutex) == LockOutcome::kUnusable);
}

}  // namespace
}  // namespace memstream::test
