#include "tests/torture/report.h"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace memstream::torture {

using nlohmann::ordered_json;

Section::Section(std::string backend, std::string subject)
    : backend_(std::move(backend)), subject_(std::move(subject)) {}

void Section::set(const std::string& figure, const ordered_json& value) { figures_[figure] = value; }

void Section::find(const std::string& what) {
  if (++findings_ <= kKeptFindings) kept_.push_back(what);
}

void Section::skip(const std::string& why) { skipped_ = why; }

void Section::print() const {
  std::string line = fmt::format("{:5} {:22}", backend_, subject_);
  for (const auto& [figure, value] : figures_.items()) line += fmt::format("  {} {}", figure, value.dump());
  fmt::print("{}  {}\n", line, skipped_.empty() ? fmt::format("findings {}", findings_) : "skipped: " + skipped_);
  for (const auto& finding : kept_) fmt::print("      FINDING: {}\n", finding.get<std::string>());
  std::fflush(stdout);
}

ordered_json Section::json() const {
  ordered_json result = {{"backend", backend_}, {"subject", subject_}};
  result.update(figures_);
  result["findings"] = findings_;
  if (!kept_.empty()) result["first_findings"] = kept_;
  if (!skipped_.empty()) result["skipped"] = skipped_;
  return result;
}

void Report::add(const Section& section) {
  section.print();
  sections_.push_back(section.json());
  findings_ += section.findings();
  skipped_ += section.is_skipped() ? 1 : 0;
}

void Report::write(const std::string& path, const std::string& command, std::uint64_t seed) const {
  if (path.empty()) return;
  const ordered_json all = {{"command", command}, {"seed", seed}, {"findings", findings_}, {"sections", sections_}};
  std::ofstream file(path);
  if (!(file << all.dump(2) << '\n')) throw std::runtime_error("cannot write " + path);
}

}  // namespace memstream::torture
