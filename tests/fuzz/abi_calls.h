// One sequence of calls, read from the input and checked call by call.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tests/fuzz/abi_model.h"
#include "tests/fuzz/must.h"

namespace memstream::fuzz {

class Calls {
 public:
  Calls(const std::uint8_t* data, std::size_t size_bytes);
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;
  ~Calls();

  void run();

 private:
  enum class StoreWay { kSet, kAdd, kReplace, kCas };

  void one_call();

  std::string take_key();
  std::string take_value();
  std::uint64_t take_ttl();
  static memstream_options_t options_for(const char* name);

  static bool bad_key(int status, const std::string& key);
  static bool refused(const ModelHandle& handle, int status, bool writes);
  static void missed(ModelHandle& handle, const std::string& key);
  static cache_stats_t stats_of(const ModelHandle& handle);
  void kept_out(const ModelHandle& handle, std::size_t size, int status) const;

  // Opening and closing.
  void life(unsigned action, std::size_t number);
  void open(ModelHandle& handle);
  void close(ModelHandle& handle);
  void destroy(ModelHandle& handle);
  void gone(unsigned name);
  void default_connection(unsigned action);

  // Entries.
  void get(ModelHandle& handle);
  void store(ModelHandle& handle, StoreWay way);
  void remove(ModelHandle& handle);
  void touch_key(ModelHandle& handle);
  void increment(ModelHandle& handle);
  void exists(ModelHandle& handle);
  // Many keys at once (abi_calls_batch.cpp).
  void clear(ModelHandle& handle);
  void batch(ModelHandle& handle);
  void get_batch(ModelHandle& handle, std::vector<memstream_item_t>& items, const std::vector<std::string>& keys);

  // Leases (abi_calls_lease.cpp).
  void lease(ModelHandle& handle, unsigned action);
  void take_lease(ModelHandle& handle);
  void wait_for_lease(ModelHandle& handle);
  ModelLease choose_lease(ModelHandle& handle, bool* may_stand, bool* may_fall);
  void fulfil_lease(ModelHandle& handle);
  void release_lease(ModelHandle& handle);

  // In place (abi_calls_in_place.cpp), with the looks at the whole.
  void take_view(ModelHandle& handle);
  void release_view();
  void release(HeldView& held);
  void reserve(ModelHandle& handle);
  void commit_or_abort();
  void wrong_tokens(ModelHandle& handle);
  void wrong_arguments(ModelHandle& handle);
  void scan(ModelHandle& handle);
  void look(ModelHandle& handle);
  void finish();

  Input input_;
  std::vector<ModelHandle> handles_;
  std::array<std::shared_ptr<ModelSegment>, 2> current_;  // What the names stand for.
  std::vector<HeldView> views_;
  std::vector<HeldReservation> reservations_;
  // The last token that a get brought, while it holds.
  std::uint64_t token_ = 0;
  std::string token_key_;
  const ModelSegment* token_segment_ = nullptr;
  std::shared_ptr<ModelSegment> connected_;  // What cache_connect() is connected to.
};

}  // namespace memstream::fuzz
