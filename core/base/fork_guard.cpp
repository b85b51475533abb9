#include "core/base/fork_guard.h"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

#include "core/base/signal_block.h"

namespace memstream {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<ForkAware*> members;
  bool is_called_by_fork = false;
};

// Never destroyed: a process may fork while it exits.
Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

// The registry's mutex is held across the fork: the child finds the list whole, and the mutex in its only thread's
// hands.
void prepare() {
  registry().mutex.lock();
  for (ForkAware* member : registry().members) member->before_fork();
}

void continue_parent() {
  for (ForkAware* member : registry().members) member->after_fork_in_parent();
  registry().mutex.unlock();
}

void continue_child() {
  for (ForkAware* member : registry().members) member->after_fork_in_child();
  registry().mutex.unlock();
}

}  // namespace

ForkRegistration::ForkRegistration(ForkAware* object) : object_(object) {
  const ForkSafeGuard guard(registry().mutex);
  if (!registry().is_called_by_fork) {
    if (pthread_atfork(prepare, continue_parent, continue_child) != 0) throw std::bad_alloc();
    registry().is_called_by_fork = true;
  }
  registry().members.push_back(object);
}

ForkRegistration::~ForkRegistration() {
  const ForkSafeGuard guard(registry().mutex);
  std::vector<ForkAware*>& members = registry().members;
  members.erase(std::remove(members.begin(), members.end(), object_), members.end());
}

}  // namespace memstream
