// A forked process that runs a body.
#pragma once

#include <sys/types.h>

#include <exception>

#include "tests/torture/cache_under_test.h"

namespace memstream::torture {

// A forked process; killed in the destructor.
class Process {
 public:
  template <class Body>
  explicit Process(Body body) : process_id_(begin()) {
    if (process_id_ != 0) return;
    end_with(body);
  }
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t id() const { return process_id_; }
  // Whether it has come to its end, by itself or not.
  bool has_ended() const;
  void send(int signal) const;
  // SIGSTOP, and waits until it stands. Throws Finding if it had ended by itself.
  void stop();
  void go_on() const;
  // SIGKILL, and waits until the kernel has let go of its locks. Throws Finding if it had ended by itself.
  void kill();
  // Waits for its end. False if it was killed; throws Finding if its body did.
  bool wait();

 private:
  static pid_t begin();
  template <class Body>
  [[noreturn]] static void end_with(Body body) {
    try {
      body();
    } catch (const std::exception& error) {
      complain(error.what());
    }
    leave();
  }
  [[noreturn]] static void complain(const char* what);
  [[noreturn]] static void leave();

  pid_t process_id_;
};

}  // namespace memstream::torture
