// Commands about segments as wholes: ls, check, rm, doctor.
#include <fmt/format.h>
#include <pwd.h>
#include <sys/statvfs.h>

#include <fstream>
#include <vector>

#include "cli/command.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

struct Listed {
  std::string backend;
  memstream_segment_t segment;
};

// Every segment of every backend; a backend that cannot be listed has none here, and its error goes to `problems`.
std::vector<Listed> list_segments(const std::string& only_backend, std::vector<std::string>* problems) {
  std::vector<Listed> listed;
  for (std::size_t number = 0; memstream_backend_name(number) != nullptr; ++number) {
    const char* backend = memstream_backend_name(number);
    if (!only_backend.empty() && only_backend != backend) continue;
    std::vector<memstream_segment_t> segments(64);
    std::size_t count = 0;
    int status = CACHE_OK;
    do {
      segments.resize(std::max(segments.size(), count));
      status = memstream_segments(backend, segments.data(), sizeof(memstream_segment_t), segments.size(), &count);
    } while (status == CACHE_OK && count > segments.size());
    if (status != CACHE_OK) {
      problems->push_back(fmt::format("{}: {}", backend, cache_last_error()));
      continue;
    }
    for (std::size_t i = 0; i < count; ++i) listed.push_back({backend, segments[i]});
  }
  return listed;
}

std::string owner_of(std::uint32_t uid) {
  const passwd* user = getpwuid(uid);
  return user != nullptr ? user->pw_name : std::to_string(uid);
}

std::string condition_of(const memstream_segment_t& segment) {
  return segment.status == CACHE_OK ? "ready" : cache_strerror(segment.status);
}

Json as_json(const Listed& listed) {
  const memstream_segment_t& s = listed.segment;
  return {{"name", s.name},
          {"backend", listed.backend},
          {"system_id", s.system_id},
          {"size_bytes", s.size_bytes},
          {"entries", s.entries},
          {"processes", s.processes},
          {"owner", owner_of(s.owner_uid)},
          {"mode", fmt::format("{:04o}", s.mode)},
          {"created_at_ms", s.created_at_ms},
          {"layout_version", s.layout_version},
          {"status", s.status},
          {"condition", condition_of(s)}};
}

int list(const Session& session) {
  std::vector<std::string> problems;
  const std::vector<Listed> listed = list_segments(session.target.backend, &problems);
  Json rows = Json::array();
  Table table({"NAME", "BACKEND", "SIZE", "ENTRIES", "ATTACHED", "OWNER", "MODE", "CREATED", "LAYOUT", "STATE"});
  for (const Listed& one : listed) {
    const memstream_segment_t& s = one.segment;
    rows.push_back(as_json(one));
    table.add({s.name[0] != '\0' ? s.name : s.system_id, one.backend, format_size(s.size_bytes),
               std::to_string(s.entries), std::to_string(s.processes), owner_of(s.owner_uid),
               fmt::format("{:04o}", s.mode), s.created_at_ms != 0 ? format_instant(s.created_at_ms) : "-",
               std::to_string(s.layout_version), condition_of(s)});
  }
  print(session, {{"segments", rows}, {"problems", problems}}, [&] {
    std::string text = listed.empty() ? "No MemStream segment exists.\n" : table.render();
    for (const std::string& problem : problems) text += problem + '\n';
    return text;
  });
  return problems.empty() ? kDone : kRefused;
}

int repair(const Session& session) {
  const Cache cache(session.target, Attach::kWrite);
  memstream_repair_report_t report{};
  report.struct_size = sizeof report;
  require_ok(memstream_repair(cache.get(), &report));
  const Json row = {{"problems", report.problems},
                    {"dropped_entries", report.dropped_entries},
                    {"damaged_values", report.damaged_values},
                    {"emptied_shards", report.emptied_shards},
                    {"entries", report.entries}};
  print(session, row, [&] {
    if (report.problems == 0) return fmt::format("Every invariant held; {} entries.\n", report.entries);
    return fmt::format(
        "Repaired {} problems: dropped {} damaged entries and {} damaged values, emptied {} shards. {} entries are "
        "left.\n",
        report.problems, report.dropped_entries, report.damaged_values, report.emptied_shards, report.entries);
  });
  return report.problems == 0 ? kDone : kMissOrFinding;
}

int check(const Session& session) {
  const Cache cache(session.target, Attach::kWrite);
  std::uint64_t problems = 0;
  const int status = memstream_check(cache.get(), &problems);
  if (status != CACHE_OK && status != CACHE_CORRUPT) throw Failure(status);
  const std::string story = status == CACHE_OK ? "" : cache_last_error();
  print(session, {{"problems", problems}, {"story", story}},
        [&] { return status == CACHE_OK ? std::string("Every invariant holds.\n") : story + '\n'; });
  return status == CACHE_OK ? kDone : kMissOrFinding;
}

int resize(const Session& session, const std::string& size) {
  const Cache cache(session.target, Attach::kWrite);
  const cache_stats_t before = cache.stats();
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  require_ok(memstream_resize(cache.get(), parse_size(size), &report));
  const cache_stats_t after = cache.stats();
  const Json row = {{"old_bytes", report.old_bytes},  {"new_bytes", report.new_bytes}, {"old_entries", before.entries},
                    {"new_entries", after.entries},   {"copies", report.copies},       {"passes", report.passes},
                    {"stopped_ns", report.stopped_ns}};
  print(session, row, [&] {
    return fmt::format("Resized from {} to {}: {} of {} entries. Writers waited {}.\n", format_size(report.old_bytes),
                       format_size(report.new_bytes), after.entries, before.entries,
                       format_nanoseconds(report.stopped_ns));
  });
  return kDone;
}

int remove(const Session& session, bool yes) {
  memstream_options_t options;
  memstream_options_init(&options);
  if (!session.target.name.empty()) options.name = session.target.name.c_str();
  if (!session.target.backend.empty()) options.backend = session.target.backend.c_str();
  options.timeout_ms = session.target.timeout_ms;
  if (!yes && !confirm("Destroy the segment and all entries?")) {
    throw Failure(CACHE_INVALID, "Nothing was removed: confirm on a terminal, or pass --yes.");
  }
  require_ok(memstream_destroy_named(&options));
  print(session, {{"removed", true}}, [] { return std::string("Removed.\n"); });
  return kDone;
}

// ---- doctor ----

struct Finding {
  std::string what;
  std::string remedy;
};

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void look_at_shm(const std::vector<Listed>& listed, std::vector<Finding>* findings) {
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) != 0) {
    findings->push_back({"/dev/shm does not exist.", "Mount a tmpfs there, or use MEMSTREAM_BACKEND=sysv."});
    return;
  }
  const std::uint64_t all = std::uint64_t{shm.f_blocks} * shm.f_frsize;
  const std::uint64_t free = std::uint64_t{shm.f_bavail} * shm.f_frsize;
  if (free < all / 20) {
    findings->push_back({fmt::format("/dev/shm has {} free of {}.", format_size(free), format_size(all)),
                         "Remove files that nobody needs, or enlarge it: mount -o remount,size=SIZE /dev/shm."});
  }
  for (const Listed& one : listed) {
    if (one.backend != "posix" || one.segment.size_bytes <= all) continue;
    findings->push_back({fmt::format("Segment '{}' has {}, more than /dev/shm can hold ({}): it evicts early.",
                                     one.segment.name, format_size(one.segment.size_bytes), format_size(all)),
                         "Enlarge /dev/shm, or create the segment with a smaller MEMSTREAM_SIZE."});
  }
}

void look_at_remove_ipc(std::vector<Finding>* findings) {
  std::ifstream configuration("/etc/systemd/logind.conf");
  std::string line;
  bool removes = configuration.is_open();
  while (std::getline(configuration, line)) {
    if (line == "RemoveIPC=no") removes = false;
  }
  if (removes) {
    findings->push_back({"systemd removes a user's segments when the user logs out (RemoveIPC).",
                         "Set RemoveIPC=no in /etc/systemd/logind.conf, or run services as system users."});
  }
}

void look_at_segments(const std::vector<Listed>& listed, std::vector<Finding>* findings) {
  for (const Listed& one : listed) {
    const memstream_segment_t& s = one.segment;
    const std::string name = s.name[0] != '\0' ? s.name : s.system_id;
    if (s.status != CACHE_OK && s.status != CACHE_NO_PERMISSION && s.status != CACHE_NOT_OWNER) {
      findings->push_back(
          {fmt::format("Segment '{}' ({}) cannot be opened: {}", name, one.backend, cache_strerror(s.status)),
           fmt::format("If nothing uses it: memstream rm --backend {} --name {}.", one.backend, name)});
    }
  }
}

int examine(const Session& session) {
  std::vector<std::string> problems;
  std::vector<Finding> findings;
  const std::vector<Listed> listed = list_segments(session.target.backend, &problems);
  findings.reserve(problems.size());
  for (const std::string& problem : problems) findings.push_back({problem, "Follow the message."});
  look_at_shm(listed, &findings);
  look_at_remove_ipc(&findings);
  look_at_segments(listed, &findings);
  if (const std::string most = first_line("/proc/sys/kernel/shmmax"); !most.empty() && most.size() < 10) {
    findings.push_back({fmt::format("kernel.shmmax is {}: System V segments cannot be larger.", most),
                        "Raise it: sysctl kernel.shmmax=BYTES."});
  }
  Json rows = Json::array();
  std::string text;
  for (const Finding& finding : findings) {
    rows.push_back({{"finding", finding.what}, {"remedy", finding.remedy}});
    text += fmt::format("{}\n    {}\n", finding.what, finding.remedy);
  }
  print(session, {{"findings", rows}},
        [&] { return findings.empty() ? fmt::format("{} segments checked, nothing found.\n", listed.size()) : text; });
  return findings.empty() ? kDone : kMissOrFinding;
}

}  // namespace

void add_segment_commands(CLI::App& app, Session& session) {
  CLI::App* ls = add_command(app, session, "ls", "List all MemStream segments of this machine",
                             "  memstream ls\n  memstream ls --backend sysv --json");
  ls->callback([&session] { session.run = [&session] { return list(session); }; });

  CLI::App* verify = add_command(app, session, "check", "Verify every invariant of a cache",
                                 "  memstream check --name sessions\n  memstream check --repair");
  const auto repairs = std::make_shared<bool>(false);
  verify->add_flag("--repair", *repairs, "rebuild every shard and drop what is damaged");
  verify->callback([&session, repairs] {
    session.run = [&session, repairs] { return *repairs ? repair(session) : check(session); };
  });

  CLI::App* other = add_command(app, session, "resize", "Replace a segment by one of another size, while it is in use",
                                "  memstream resize 512M --name sessions");
  const auto size = std::make_shared<std::string>();
  other->add_option("size", *size, "the new size, with K, M or G")->required();
  other->callback([&session, size] { session.run = [&session, size] { return resize(session, *size); }; });

  CLI::App* rm = add_command(app, session, "rm", "Destroy a segment; attached processes get CACHE_GONE",
                             "  memstream rm --name old --yes");
  const auto yes = std::make_shared<bool>(false);
  rm->add_flag("--yes", *yes, "do not ask");
  rm->callback([&session, yes] { session.run = [&session, yes] { return remove(session, *yes); }; });

  CLI::App* doctor =
      add_command(app, session, "doctor", "Find problems of this machine, with remedies", "  memstream doctor");
  doctor->callback([&session] { session.run = [&session] { return examine(session); }; });
}

}  // namespace memstream::cli
