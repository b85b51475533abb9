#include "benchmarks/c/server.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace memstream::bench {
namespace {

constexpr int kTries = 500;
constexpr std::chrono::milliseconds kPause{20};

}  // namespace

Server::Server(std::vector<std::string> command, std::string socket) : socket_(std::move(socket)) {
  std::vector<char*> arguments;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::signal(SIGINT, SIG_IGN);  // The keyboard speaks to the benchmark; that one stops its servers.
    std::signal(SIGTERM, SIG_DFL);
    if (::getppid() != parent) ::_exit(127);
    const int nowhere = ::open("/dev/null", O_RDWR);
    for (int descriptor = 0; descriptor < 2; ++descriptor) ::dup2(nowhere, descriptor);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  for (int tries = 0; tries < kTries; ++tries) {
    if (answers()) return;
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      throw std::runtime_error(command[0] + " ended at once. Is it installed? scripts/setup.sh bench");
    }
    std::this_thread::sleep_for(kPause);
  }
  stop();
  throw std::runtime_error(command[0] + " does not answer at " + socket_);
}

Server::~Server() { stop(); }

bool Server::answers() const noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, socket_.c_str(), socket_.size() + 1);
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return false;
  const bool connected = ::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(descriptor);
  return connected;
}

void Server::stop() noexcept {
  if (pid_ < 0) return;
  ::kill(pid_, SIGTERM);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
  std::error_code ignored;
  std::filesystem::remove(socket_, ignored);
}

}  // namespace memstream::bench
