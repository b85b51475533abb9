// A server that a benchmark starts for itself, on a Unix socket in a scratch directory, and stops again.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace memstream::bench {

class Server {
 public:
  // Starts `command` and waits until `socket` accepts connections. Throws std::runtime_error if it does not come to
  // that. The server is killed when this process ends, however it ends.
  Server(std::vector<std::string> command, std::string socket);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  const std::string& socket() const noexcept { return socket_; }
  pid_t pid() const noexcept { return pid_; }

 private:
  bool answers() const noexcept;
  void stop() noexcept;

  std::string socket_;
  pid_t pid_ = -1;
};

}  // namespace memstream::bench
