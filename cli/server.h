// The HTTP server of `memstream serve`: a page, its data as JSON and as a stream of events, metrics for Prometheus. It
// answers only requests that name this machine, and changes something only for one who knows its token.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/monitor.h"

namespace memstream::cli {

struct ServerChoices {
  std::string host = "127.0.0.1";
  int port = 8080;                         // 0: any that is free.
  std::vector<std::string> allowed_hosts;  // Names in the header Host, besides addresses and localhost.
  bool shows_values = false;
  bool allows_writes = false;
  bool has_page = true;  // Otherwise metrics alone.
};

// Whether a header Host names this server: an address, localhost, or one of the names. A page of another site, whose
// name was made to resolve to this machine, has that site's name here.
bool is_allowed_host(const std::string& header, const std::vector<std::string>& names);

class PageServer {
 public:
  // Takes the port. Throws Failure.
  PageServer(ServerChoices choices, Monitor& monitor, Target target);
  ~PageServer();

  // Answers until stop().
  void run();
  void stop();

  std::string url() const;                                      // "http://127.0.0.1:8080/".
  const std::string& token() const noexcept { return token_; }  // Empty if nothing needs one.

 private:
  struct Http;

  void add_routes();

  ServerChoices choices_;
  Monitor& monitor_;
  Target target_;
  std::string token_;
  std::unique_ptr<Http> http_;
  int port_ = 0;
};

}  // namespace memstream::cli
