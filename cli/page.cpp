#include "cli/page.h"

#include <stdexcept>

namespace memstream::cli {
namespace {

constexpr std::string_view kReportBegin = "<script type=\"application/json\" id=\"report\">";
constexpr std::string_view kReportEnd = "</script>";
constexpr std::string_view kPolicyBegin = "<meta http-equiv=\"Content-Security-Policy\" content=\"";

// The range of the page between two texts.
std::pair<std::size_t, std::size_t> between_texts(std::string_view begin, std::string_view end) {
  const std::size_t place = page_bytes().find(begin);
  const std::size_t last = place == std::string_view::npos ? place : page_bytes().find(end, place + begin.size());
  if (last == std::string_view::npos) {
    throw std::runtime_error("The page of this program is incomplete. Build it again: scripts/page.sh.");
  }
  return {place + begin.size(), last};
}

}  // namespace

std::string page_with(const Json& report) {
  const auto [begin, end] = between_texts(kReportBegin, kReportEnd);
  std::string data;
  // No key and no value can end the element that holds it.
  for (const char character : report.dump()) {
    if (character == '<') {
      data += "\\u003c";
    } else {
      data += character;
    }
  }
  return std::string(page_bytes().substr(0, begin)) + data + std::string(page_bytes().substr(end));
}

std::string page_policy() {
  const auto [begin, end] = between_texts(kPolicyBegin, "\"");
  return std::string(page_bytes().substr(begin, end - begin));
}

}  // namespace memstream::cli
