// A Redis of a test's own, on a Unix socket in a folder of its own, and a proxy that delays or swallows what it says.
#pragma once

#include <hiredis/hiredis.h>
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace memstream::test {

class RedisServer {
 public:
  // Without a Redis on this machine the test program ends as skipped. Throws std::runtime_error if it does not come
  // up. `options`: more of its command line.
  explicit RedisServer(std::vector<std::string> options = {});
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;
  ~RedisServer();

  std::string socket() const { return folder_ + "/redis.sock"; }
  std::string address() const { return "unix:" + socket(); }
  const std::string& folder() const { return folder_; }

  void start();
  void kill();  // It keeps nothing.
  void send_signal(int signal) const;

  // Sends a command over a connection of the test's own. The answer as text; an error with a minus before it.
  std::string ask(const std::vector<std::string>& words);
  // The same; of an array the first element.
  std::string ask_first(const std::vector<std::string>& words);
  // A number of INFO, of a line "NAME:NUMBER" or "NAME:calls=NUMBER,...". 0: there is no such line.
  long info(const std::string& section, const std::string& name);

 private:
  struct Free {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  std::string ask_for(const std::vector<std::string>& words, bool wants_first);

  std::vector<std::string> options_;
  std::string folder_;
  pid_t process_ = 0;
  std::unique_ptr<redisContext, Free> context_;
};

// Stands between clients and a Redis. Clients cannot tell them apart, until the test says so.
class RedisProxy {
 public:
  explicit RedisProxy(const RedisServer& server);
  RedisProxy(const RedisProxy&) = delete;
  RedisProxy& operator=(const RedisProxy&) = delete;
  ~RedisProxy();

  std::string address() const { return "unix:" + path_; }
  // Answers to connections that have sent GET are kept back, until it is called again with false.
  void hold_gets(bool holds) { holds_gets_ = holds; }
  // Nothing goes through in either direction, and nobody is told.
  void swallow(bool swallows) { swallows_ = swallows; }
  // It answers each command itself with this text in RESP, which must outlive the proxy. Null: it asks the server.
  void answer(const char* text) { answer_ = text; }
  // How many connections are being kept waiting.
  int held() const { return held_; }

 private:
  void run();

  std::string server_;
  std::string path_;
  int listen_fd_ = -1;
  int stop_fd_ = -1;
  std::atomic<bool> holds_gets_{false};
  std::atomic<bool> swallows_{false};
  std::atomic<const char*> answer_{nullptr};
  std::atomic<int> held_{0};
  std::thread thread_;
};

}  // namespace memstream::test
