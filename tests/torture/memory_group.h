// A memory cgroup of its own for a process, where the machine lets this one make some.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace memstream::torture {

class MemoryGroup {
 public:
  // Of either version; why_not() says why there is none.
  explicit MemoryGroup(std::uint64_t limit_bytes);
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;
  ~MemoryGroup();

  const std::string& why_not() const { return why_not_; }
  // Moves the calling process into the group. Throws std::runtime_error.
  void join() const;

 private:
  std::string folder_;
  std::string why_not_;
};

}  // namespace memstream::torture
