#include "cli/server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <httplib.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "cli/page.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

using httplib::Request;
using httplib::Response;
using std::chrono::milliseconds;

constexpr std::size_t kThreads = 24;
constexpr std::size_t kMostReaders = 16;  // Each keeps a thread.
constexpr std::size_t kMostBodyBytes = 64 << 10;
constexpr std::size_t kShownValueBytes = 64 << 10;
constexpr std::size_t kMostFound = 200;
constexpr std::chrono::seconds kLongestSearch{2};
constexpr milliseconds kQuietest{10'000};  // A stream says something at least so often, to find readers that are gone.
constexpr const char* kTokenHeader = "X-MemStream-Token";
constexpr const char* kJson = "application/json; charset=utf-8";

// A refusal with the status of HTTP that fits.
struct Refusal {
  int status;
  std::string message;
};

std::string make_token() {
  std::array<unsigned char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw Failure(CACHE_OS_ERROR, "getrandom() failed. Try again.");
  }
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

// Takes as long for every text of that length.
bool is_same(const std::string& a, const std::string& b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

bool is_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> room{};
  return inet_pton(AF_INET, text.c_str(), room.data()) == 1 || inet_pton(AF_INET6, text.c_str(), room.data()) == 1;
}

// As it is: the library would compress a body of text, which takes longer than the network of one machine.
void send(Response& response, std::string text, const char* type) {
  const auto body = std::make_shared<const std::string>(std::move(text));
  response.set_content_provider(body->size(), type,
                                [body](std::size_t from, std::size_t size, httplib::DataSink& sink) {
                                  return sink.write(body->data() + from, size);
                                });
}

void send(Response& response, const Json& json) { send(response, json.dump(), kJson); }

std::string key_in(const std::string& text) {
  if (text.empty()) throw Refusal{400, "Invalid key '': expected 1 to 1024 bytes."};
  return bytes_of_json_text(text);
}

int http_status_of(const Failure& failure) {
  switch (failure.status()) {
    case CACHE_BAD_KEY:
    case CACHE_INVALID:
      return 400;
    case CACHE_READ_ONLY:
      return 403;
    default:
      return 503;
  }
}

}  // namespace

bool is_allowed_host(const std::string& header, const std::vector<std::string>& names) {
  std::string host = header;
  if (!host.empty() && host[0] == '[') {
    const std::size_t end = host.find(']');
    host = end == std::string::npos ? "" : host.substr(1, end - 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  return is_address(host) || host == "localhost" || std::find(names.begin(), names.end(), host) != names.end();
}

struct PageServer::Http {
  httplib::Server server;
  std::mutex search;  // One walk for a search at a time.
};

PageServer::PageServer(ServerChoices choices, Monitor& monitor, Target target)
    : choices_(std::move(choices)), monitor_(monitor), target_(std::move(target)), http_(std::make_unique<Http>()) {
  if (choices_.shows_values || choices_.allows_writes) token_ = make_token();
  httplib::Server& server = http_->server;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  // The library would let two servers share a port.
  server.set_socket_options([](int socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_tcp_nodelay(true);
  server.set_keep_alive_timeout(2);
  server.set_payload_max_length(kMostBodyBytes);
  add_routes();
  errno = 0;
  port_ = choices_.port;
  const bool is_bound =
      port_ != 0 ? server.bind_to_port(choices_.host, port_) : (port_ = server.bind_to_any_port(choices_.host)) > 0;
  if (!is_bound) {
    throw Failure(CACHE_OS_ERROR,
                  fmt::format("Invalid --host {} with --port {}: expected an address of this machine and a free port: "
                              "{}. Choose another port, or end the program that uses it.",
                              in_quotes(choices_.host), choices_.port, std::strerror(errno)));
  }
}

PageServer::~PageServer() = default;

std::string PageServer::url() const {
  const bool is_wide = choices_.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}/", is_wide ? "[" : "", choices_.host, is_wide ? "]" : "", port_);
}

void PageServer::run() { http_->server.listen_after_bind(); }

void PageServer::stop() { http_->server.stop(); }

void PageServer::add_routes() {
  httplib::Server& server = http_->server;
  httplib::Headers headers = {{"X-Content-Type-Options", "nosniff"},
                              {"Referrer-Policy", "no-referrer"},
                              {"X-Frame-Options", "DENY"},
                              {"Cache-Control", "no-store"},
                              {"Cross-Origin-Opener-Policy", "same-origin"},
                              {"Cross-Origin-Resource-Policy", "same-origin"}};
  headers.emplace("Content-Security-Policy", page_policy() + "; frame-ancestors 'none'");
  server.set_default_headers(headers);

  server.set_pre_routing_handler([this](const Request& request, Response& response) {
    const std::string host = request.get_header_value("Host");
    std::string refusal;
    if (!is_allowed_host(host, choices_.allowed_hosts)) {
      refusal = fmt::format("Invalid Host '{}': expected an address or localhost. Allow a name with --allow-host.",
                            printable(host, 100));
    } else if (const std::string site = request.get_header_value("Sec-Fetch-Site");
               request.path.starts_with("/api/") && (site == "cross-site" || site == "same-site")) {
      refusal = "Invalid Sec-Fetch-Site: expected a request of the page itself. Open the page of this server.";
    }
    if (refusal.empty()) return httplib::Server::HandlerResponse::Unhandled;
    response.status = 403;
    send(response, {{"error", refusal}});
    return httplib::Server::HandlerResponse::Handled;
  });
  server.set_error_handler([](const Request& request, Response& response) {
    if (response.content_length_ != 0 || !response.body.empty()) return;
    send(response, {{"error", fmt::format("Invalid request '{} {}': HTTP status {}. docs/cli.md lists the addresses.",
                                          request.method, printable(request.path, 100), response.status)}});
  });
  server.set_exception_handler([](const Request&, Response& response, std::exception_ptr thrown) {
    try {
      std::rethrow_exception(std::move(thrown));
    } catch (const Refusal& refusal) {
      response.status = refusal.status;
      send(response, {{"error", refusal.message}});
    } catch (const Failure& failure) {
      response.status = http_status_of(failure);
      send(response, {{"error", failure.what()}});
    } catch (const std::exception& error) {
      response.status = 500;
      send(response, {{"error", error.what()}});
    }
  });
  const auto require_token = [this](const Request& request) {
    if (token_.empty() || !is_same(request.get_header_value(kTokenHeader), token_)) {
      throw Refusal{403, fmt::format("Invalid {}: expected the token that memstream serve printed. Open the address "
                                     "that it printed.",
                                     kTokenHeader)};
    }
  };

  server.Get("/metrics", [this](const Request&, Response& response) {
    send(response, as_prometheus(take_snapshot(*monitor_.cache())), "text/plain; version=0.0.4; charset=utf-8");
  });
  server.Get("/healthz", [this](const Request&, Response& response) {
    monitor_.cache()->info();
    send(response, {{"ok", true}});
  });
  if (!choices_.has_page) return;

  server.Get("/", [](const Request&, Response& response) {
    send(response, std::string(page_bytes()), "text/html; charset=utf-8");
  });
  server.Get("/api/stat",
             [this](const Request&, Response& response) { send(response, as_json(take_snapshot(*monitor_.cache()))); });
  server.Get("/api/report", [this](const Request&, Response& response) {
    Json report = monitor_.report();
    report["shows_values"] = choices_.shows_values;
    report["allows_writes"] = choices_.allows_writes;
    send(response, report);
  });
  server.Get("/api/events", [this](const Request&, Response& response) {
    if (monitor_.readers() >= kMostReaders) {
      throw Refusal{503, fmt::format("{} pages are open already. Close one.", kMostReaders)};
    }
    const auto reader = std::make_shared<Monitor::Reader>(monitor_);
    response.set_chunked_content_provider("text/event-stream", [reader](std::size_t, httplib::DataSink& sink) {
      const auto text = reader->next(kQuietest);
      if (!text) {
        sink.done();
        return true;
      }
      return sink.is_writable() && sink.write(text->data(), text->size());
    });
  });
  server.Get("/api/entry", [this](const Request& request, Response& response) {
    const std::string key = key_in(request.get_param_value("key"));
    memstream_entry_t entry{};
    const int status = require_ok(memstream_entry_info(monitor_.cache()->get(), key.data(), key.size(), &entry));
    if (status != CACHE_OK) throw Refusal{404, fmt::format("Key '{}' does not exist.", printable(key, 100))};
    send(response, entry_json(entry));
  });
  server.Get("/api/keys", [this](const Request& request, Response& response) {
    const std::string pattern = request.get_param_value("match");
    const std::unique_lock search(http_->search, std::try_to_lock);
    if (!search.owns_lock()) throw Refusal{503, "Another search is running. Try again in some seconds."};
    const auto deadline = std::chrono::steady_clock::now() + kLongestSearch;
    Json rows = Json::array();
    std::uint64_t seen = 0;
    bool has_all = true;
    monitor_.cache()->scan([&](const memstream_entry_t& entry) {
      has_all = rows.size() < kMostFound && (++seen % 1024 != 0 || std::chrono::steady_clock::now() < deadline);
      if (has_all && matches(pattern, key_of(entry))) rows.push_back(entry_json(entry));
      return has_all;
    });
    send(response, {{"keys", rows}, {"seen", seen}, {"has_all", has_all}});
  });

  if (choices_.shows_values) {
    server.Get("/api/value", [this, require_token](const Request& request, Response& response) {
      require_token(request);
      const std::string key = key_in(request.get_param_value("key"));
      std::string value;
      memstream_meta_t meta{};
      // Read-only, so that it counts no access.
      if (!Cache(target_, Attach::kReadOnly).read(key, &value, &meta)) {
        throw Refusal{404, fmt::format("Key '{}' does not exist.", printable(key, 100))};
      }
      send(response, {{"size", value.size()},
                      {"flags", meta.flags},
                      {"is_cut", value.size() > kShownValueBytes},
                      {"value", json_text(std::string_view(value).substr(0, kShownValueBytes))}});
    });
  }
  if (choices_.allows_writes) {
    const auto change = [this, require_token](const Request& request, Response& response, const auto& act) {
      require_token(request);
      const Json body = Json::parse(request.body, nullptr, false);
      if (!body.is_object() || !body.contains("key") || !body["key"].is_string()) {
        throw Refusal{400, "Invalid body: expected JSON with a text \"key\"."};
      }
      const std::string key = key_in(body["key"]);
      const int status = require_ok(act(monitor_.cache()->get(), key, body));
      if (status == CACHE_MISS) throw Refusal{404, fmt::format("Key '{}' does not exist.", printable(key, 100))};
      send(response, {{"done", true}});
    };
    server.Post("/api/delete", [change](const Request& request, Response& response) {
      change(request, response, [](memstream_t* cache, const std::string& key, const Json&) {
        return memstream_delete(cache, key.data(), key.size());
      });
    });
    server.Post("/api/touch", [change](const Request& request, Response& response) {
      change(request, response, [](memstream_t* cache, const std::string& key, const Json& body) {
        if (!body.contains("ttl_ms") || !body["ttl_ms"].is_number_unsigned()) {
          throw Refusal{400, "Invalid ttl_ms: expected milliseconds, 0 for ever."};
        }
        return memstream_touch(cache, key.data(), key.size(), body["ttl_ms"]);
      });
    });
  }
}

}  // namespace memstream::cli
