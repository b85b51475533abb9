// The stores that work on files: LMDB and TDB, on tmpfs and without syncing, as one would use them for a cache.
#include <lmdb.h>
// tdb.h wants these first.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <tdb.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "benchmarks/c/contenders/contenders.h"
#include "benchmarks/c/worker.h"

namespace memstream::bench {
namespace {

// ---- LMDB ----

void require_lmdb(int error, const char* call) {
  if (error != 0) [[unlikely]]
    throw std::runtime_error(std::string(call) + ": " + mdb_strerror(error));
}

class Lmdb {
 public:
  static constexpr const char* kName = "lmdb";
  static constexpr unsigned kBatch = 1;
  static constexpr unsigned kSampleEvery = 64;
  static constexpr unsigned kSweepEvery = 1;
  static constexpr bool kMayTear = false;

  Lmdb(const Environment& environment, const DataSet& data)
      : folder_(environment.scratch + "/lmdb"),
        map_size_((std::size_t{256} << 20) + data.keys * (std::size_t{data.value_size} * 3 + 512)) {
    std::filesystem::create_directory(folder_);
  }
  Lmdb(const Lmdb&) = delete;
  Lmdb& operator=(const Lmdb&) = delete;
  ~Lmdb() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  class Session {
   public:
    explicit Session(Lmdb& store) {
      require_lmdb(mdb_env_create(&environment_), "mdb_env_create");
      require_lmdb(mdb_env_set_mapsize(environment_, store.map_size_), "mdb_env_set_mapsize");
      require_lmdb(mdb_env_open(environment_, store.folder_.c_str(),
                                MDB_NOSYNC | MDB_NOMETASYNC | MDB_WRITEMAP | MDB_NORDAHEAD, 0600),
                   "mdb_env_open");
      MDB_txn* transaction = nullptr;
      require_lmdb(mdb_txn_begin(environment_, nullptr, 0, &transaction), "mdb_txn_begin");
      require_lmdb(mdb_dbi_open(transaction, nullptr, 0, &database_), "mdb_dbi_open");
      require_lmdb(mdb_txn_commit(transaction), "mdb_txn_commit");
      require_lmdb(mdb_txn_begin(environment_, nullptr, MDB_RDONLY, &reader_), "mdb_txn_begin");
      mdb_txn_reset(reader_);
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() {
      mdb_txn_abort(reader_);
      mdb_env_close(environment_);
    }

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      MDB_val name = value_of(key);
      MDB_val found{};
      require_lmdb(mdb_txn_renew(reader_), "mdb_txn_renew");
      const int error = mdb_get(reader_, database_, &name, &found);
      const std::size_t size = std::min(found.mv_size, room.size());
      if (error == 0) std::memcpy(room.data(), found.mv_data, size);
      mdb_txn_reset(reader_);
      if (error == MDB_NOTFOUND) return false;
      require_lmdb(error, "mdb_get");
      see(room.data(), size);
      return true;
    }

    void put(const Key& key, std::span<const std::byte> value) {
      MDB_val name = value_of(key);
      MDB_val contents{value.size(), const_cast<std::byte*>(value.data())};
      MDB_txn* transaction = nullptr;
      require_lmdb(mdb_txn_begin(environment_, nullptr, 0, &transaction), "mdb_txn_begin");
      require_lmdb(mdb_put(transaction, database_, &name, &contents, 0), "mdb_put");
      require_lmdb(mdb_txn_commit(transaction), "mdb_txn_commit");
    }

   private:
    static MDB_val value_of(const Key& key) noexcept {
      return {key.view().size(), const_cast<char*>(key.view().data())};
    }

    MDB_env* environment_ = nullptr;
    MDB_dbi database_ = 0;
    MDB_txn* reader_ = nullptr;
  };

 private:
  std::string folder_;
  std::size_t map_size_;
};

// ---- TDB ----

class Tdb {
 public:
  static constexpr const char* kName = "tdb";
  static constexpr unsigned kBatch = 1;
  static constexpr unsigned kSampleEvery = 64;
  static constexpr unsigned kSweepEvery = 1;
  static constexpr bool kMayTear = false;

  Tdb(const Environment& environment, const DataSet& data)
      : file_(environment.scratch + "/store.tdb"), owner_(open(static_cast<int>(data.keys) + 1)) {}
  Tdb(const Tdb&) = delete;
  Tdb& operator=(const Tdb&) = delete;
  ~Tdb() {
    tdb_close(owner_);
    std::error_code ignored;
    std::filesystem::remove(file_, ignored);
  }

  class Session {
   public:
    explicit Session(Tdb& store) : store_(store.owner_) {
      if (::getpid() != store.owner_pid_ && tdb_reopen(store_) != 0) throw std::runtime_error("tdb_reopen failed");
    }

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      Copy copy{room, 0};
      const int outcome = tdb_parse_record(
          store_, data_of(key),
          [](TDB_DATA, TDB_DATA value, void* to) {
            auto* into = static_cast<Copy*>(to);
            into->size = std::min(value.dsize, into->room.size());
            std::memcpy(into->room.data(), value.dptr, into->size);
            return 0;
          },
          &copy);
      if (outcome != 0) {
        if (tdb_error(store_) == TDB_ERR_NOEXIST) return false;
        throw std::runtime_error(std::string("tdb_parse_record: ") + tdb_errorstr(store_));
      }
      see(room.data(), copy.size);
      return true;
    }

    void put(const Key& key, std::span<const std::byte> value) {
      const TDB_DATA contents{reinterpret_cast<unsigned char*>(const_cast<std::byte*>(value.data())), value.size()};
      if (tdb_store(store_, data_of(key), contents, TDB_REPLACE) != 0) {
        throw std::runtime_error(std::string("tdb_store: ") + tdb_errorstr(store_));
      }
    }

   private:
    struct Copy {
      std::span<std::byte> room;
      std::size_t size;
    };
    static TDB_DATA data_of(const Key& key) noexcept {
      return {reinterpret_cast<unsigned char*>(const_cast<char*>(key.view().data())), key.view().size()};
    }

    tdb_context* store_;
  };

 private:
  // With process-shared mutexes where the C library has robust ones; they are much faster than its file locks.
  tdb_context* open(int buckets) const {
    int flags = TDB_NOSYNC | TDB_INCOMPATIBLE_HASH;
    if (tdb_runtime_check_for_robust_mutexes()) flags |= TDB_MUTEX_LOCKING | TDB_CLEAR_IF_FIRST;
    tdb_context* store = tdb_open(file_.c_str(), buckets, flags, O_RDWR | O_CREAT, 0600);
    if (store == nullptr) throw std::runtime_error("tdb_open(" + file_ + "): " + std::strerror(errno));
    return store;
  }

  std::string file_;
  tdb_context* owner_;  // A child reopens it: TDB knows which files a process has open, and forbids a second time.
  pid_t owner_pid_ = ::getpid();
};

}  // namespace

Contender lmdb() { return contender<Lmdb>(); }
Contender tdb() { return contender<Tdb>(); }

}  // namespace memstream::bench
