// Commands that show a cache in a browser: serve, a page that lives; report, a page in one file.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <thread>

#include "cli/command.h"
#include "cli/file.h"
#include "cli/monitor.h"
#include "cli/page.h"
#include "cli/server.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

struct ServeChoices {
  ServerChoices server;
  std::vector<std::string> separators{":", "/"};
  double seconds = 1;
  bool is_read_only = false;
  bool has_metrics_only = false;
};

MonitorChoices monitor_choices(const Session& session, const ServeChoices& choices) {
  MonitorChoices monitor;
  monitor.target = session.target;
  monitor.attach = choices.is_read_only           ? Attach::kReadOnly
                   : choices.server.allows_writes ? Attach::kWrite
                                                  : Attach::kLook;
  monitor.separators = choices.separators;
  monitor.interval = std::chrono::milliseconds(static_cast<int>(choices.seconds * 1000));
  monitor.has_walks = !choices.has_metrics_only;
  return monitor;
}

int serve(const Session& session, const ServeChoices& choices) {
  // All threads inherit this: only the one that waits below takes the signals.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);

  Monitor monitor(monitor_choices(session, choices));
  ServerChoices server_choices = choices.server;
  server_choices.has_page = !choices.has_metrics_only;
  PageServer server(server_choices, monitor, session.target);
  if (!choices.has_metrics_only) monitor.start();
  std::thread answers([&server] { server.run(); });
  const std::string url = server.url() + (choices.has_metrics_only ? "metrics"
                                          : server.token().empty() ? ""
                                                                   : "#token=" + server.token());
  print(session, {{"url", url}, {"token", server.token()}},
        [&] { return fmt::format("Serving at {}\nCtrl-C ends it.\n", url); });
  std::fflush(stdout);
  int signal = 0;
  sigwait(&ends, &signal);
  monitor.stop();
  server.stop();
  answers.join();
  return kDone;
}

int make_report(const Session& session, const ServeChoices& choices, const std::string& path) {
  Monitor monitor(monitor_choices(session, choices));
  monitor.look_once();
  Json report = monitor.report();
  report["shows_values"] = false;
  report["allows_writes"] = false;
  if (!path.empty()) write_file(path, page_with(report));
  if (session.json) {
    fmt::print("{}\n", report.dump(2));
  } else {
    fmt::print("Wrote {}.\n", path);
  }
  return kDone;
}

void add_common(CLI::App* command, const std::shared_ptr<ServeChoices>& choices) {
  command->add_option("--sep", choices->separators, "where a prefix ends; may be repeated")->capture_default_str();
  command->add_option("--seconds", choices->seconds, "between two looks")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  command->add_flag("--read-only", choices->is_read_only, "map the segment for reading only; takes no lock");
  command->parse_complete_callback([choices] {
    for (const std::string& separator : choices->separators) {
      if (separator.empty()) {
        throw CLI::ValidationError("--sep", "Invalid --sep '': expected at least one character.");
      }
    }
  });
}

}  // namespace

void add_serve_commands(CLI::App& app, Session& session) {
  CLI::App* server =
      add_look_command(app, session, "serve", "Show the cache in a browser, and its metrics to Prometheus",
                       "  memstream serve\n  memstream serve --port 9000 --show-values\n"
                       "  memstream serve --metrics-only --port 9300");
  const auto choices = std::make_shared<ServeChoices>();
  server->add_option("--port", choices->server.port, "0: any that is free")
      ->capture_default_str()
      ->check(CLI::Range(0, 65535));
  server->add_option("--host", choices->server.host, "the address to listen at")->capture_default_str();
  server->add_option("--allow-host", choices->server.allowed_hosts,
                     "a name by which browsers and Prometheus may call this server; may be repeated");
  server->add_flag("--show-values", choices->server.shows_values, "show values to those who have the token");
  server->add_flag("--allow-writes", choices->server.allows_writes, "delete and touch keys, with the token");
  server->add_flag("--metrics-only", choices->has_metrics_only, "serve /metrics alone");
  add_common(server, choices);
  server->callback([&session, choices] {
    if (choices->is_read_only && choices->server.allows_writes) {
      throw CLI::ValidationError("--allow-writes", "Invalid with --read-only. Leave out one of them.");
    }
    session.run = [&session, choices] { return serve(session, *choices); };
  });

  CLI::App* reporter = add_look_command(app, session, "report", "Write the page with what it shows now into one file",
                                        "  memstream report cache.html\n  memstream report --json");
  const auto parts = std::make_shared<ServeChoices>();
  const auto path = std::make_shared<std::string>();
  reporter->add_option("file", *path, "the file to write");
  add_common(reporter, parts);
  reporter->callback([&session, parts, path] {
    if (path->empty() && !session.json) {
      throw CLI::RequiredError("file: expected a name that ends in .html, or --json");
    }
    session.run = [&session, parts, path] { return make_report(session, *parts, *path); };
  });
}

}  // namespace memstream::cli
