#include "benchmarks/hit_ratio/trace.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

namespace memstream::bench {
namespace {

template <class Number>
bool parse(std::string_view text, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::uint64_t Trace::footprint_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const std::uint32_t size : sizes) sum += size;
  return sum;
}

Trace read_trace(std::istream& text, const std::string& name) {
  Trace trace;
  trace.name = name;
  std::unordered_map<std::string, std::uint32_t> numbers;
  std::uint64_t line_number = 0;
  for (std::string line; std::getline(text, line);) {
    ++line_number;
    if (line.empty()) continue;
    const std::size_t first = line.find(',');
    const std::size_t second = first == std::string::npos ? first : line.find(',', first + 1);
    const std::string_view all = line;
    std::uint32_t size = 0;
    std::uint32_t ttl = 0;
    const bool is_request = first != std::string::npos && first != 0 &&
                            parse(all.substr(first + 1, second - first - 1), &size) && size > 0 &&
                            (second == std::string::npos || parse(all.substr(second + 1), &ttl));
    if (!is_request)
      throw std::runtime_error(name + ":" + std::to_string(line_number) + ": not key,size[,ttl]: " + line);
    const auto [found, is_new] =
        numbers.try_emplace(line.substr(0, first), static_cast<std::uint32_t>(trace.sizes.size()));
    if (is_new) trace.sizes.push_back(size);
    trace.requests.push_back(found->second);
    trace.ttls.push_back(ttl);
  }
  if (trace.requests.empty()) throw std::runtime_error(name + " holds no request");
  if (std::all_of(trace.ttls.begin(), trace.ttls.end(), [](std::uint32_t ttl) { return ttl == 0; })) trace.ttls.clear();
  return trace;
}

}  // namespace memstream::bench
