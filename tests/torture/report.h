// What the torture program found, for people and for programs.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace memstream::torture {

// One line of the report: a subject ("step put-new"), its figures, and what must not be.
class Section {
 public:
  Section(std::string backend, std::string subject);

  // Appears as it is in the line and in the JSON file.
  void set(const std::string& figure, const nlohmann::ordered_json& value);
  void find(const std::string& what);
  // The section was not run, and why.
  void skip(const std::string& why);

  std::uint64_t findings() const { return findings_; }
  bool is_skipped() const { return !skipped_.empty(); }
  void print() const;
  nlohmann::ordered_json json() const;

 private:
  static constexpr std::uint64_t kKeptFindings = 20;  // More of the same say no more.

  std::string backend_;
  std::string subject_;
  nlohmann::ordered_json figures_ = nlohmann::ordered_json::object();
  nlohmann::ordered_json kept_ = nlohmann::ordered_json::array();
  std::string skipped_;
  std::uint64_t findings_ = 0;
};

// All sections of a run; each is printed as it ends.
class Report {
 public:
  void add(const Section& section);
  // Writes the JSON file, unless `path` is empty.
  void write(const std::string& path, const std::string& command, std::uint64_t seed) const;
  bool is_clean() const { return findings_ == 0; }
  // This machine could run none of the sections.
  bool is_skipped() const { return !sections_.empty() && skipped_ == sections_.size(); }

 private:
  nlohmann::ordered_json sections_ = nlohmann::ordered_json::array();
  std::uint64_t findings_ = 0;
  std::size_t skipped_ = 0;
};

}  // namespace memstream::torture
