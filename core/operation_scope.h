// Which object the calling thread is working in: for a child that is forked in the middle of it, by a signal handler.
#pragma once

namespace memstream {

// Marks the calling thread while it works on shared memory. No operation begins inside another one. Without the model of initial-exec each mark would cost two
// calls of the dynamic linker's; the word fits into the room that the C library keeps for libraries loaded later.
class OperationScope {
 public:
  explicit OperationScope(const void* object) noexcept { current_ = object; }
  OperationScope(const OperationScope&) = delete;
  OperationScope& operator=(const OperationScope&) = delete;
  ~OperationScope() { current_ = nullptr; }

  static const void* current() noexcept { return current_; }

 private:
  static constinit thread_local const void* current_ [[gnu::tls_model("initial-exec")]];
};

}  // namespace memstream
