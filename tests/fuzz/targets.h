// The fuzz targets: functions that take any bytes. The libFuzzer program and the replay program call the same ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace memstream::fuzz {

using Bytes = std::vector<std::uint8_t>;

// Gets one seed: a name, and the input.
using SeedSink = std::function<void(const std::string& name, const Bytes& input)>;

struct Target {
  const char* name;
  // One execution. Returns for every input; whatever the library must not do ends the program.
  void (*run)(const std::uint8_t* data, std::size_t size_bytes);
  // Inputs to begin with: real segments and real sequences of calls.
  void (*seeds)(const SeedSink& sink);
  bool of_records;  // The input is a list of records (records.h), which have their own mutator.
};

std::span<const Target> targets();
// Null if there is none of that name.
const Target* find_target(const std::string& name);

// One pair for each target, in the file of its name.
void run_attach(const std::uint8_t* data, std::size_t size_bytes);
void seed_attach(const SeedSink& sink);
void run_read_image(const std::uint8_t* data, std::size_t size_bytes);
void seed_read_image(const SeedSink& sink);
void run_read_scribbled(const std::uint8_t* data, std::size_t size_bytes);
void seed_read_scribbled(const SeedSink& sink);
void run_abi_calls(const std::uint8_t* data, std::size_t size_bytes);
void seed_abi_calls(const SeedSink& sink);
void run_environment(const std::uint8_t* data, std::size_t size_bytes);
void seed_environment(const SeedSink& sink);
void run_repair(const std::uint8_t* data, std::size_t size_bytes);
void seed_repair(const SeedSink& sink);

}  // namespace memstream::fuzz
