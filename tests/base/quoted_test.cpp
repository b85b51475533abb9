// Text of a user in a message: readable, harmless on a terminal, and not too long.
#include "core/base/quoted.h"

#include <doctest/doctest.h>

#include <string>

namespace memstream::test {
namespace {

TEST_CASE("readable text stays as it is, also beyond ASCII") {
  CHECK(in_quotes("") == "''");
  CHECK(in_quotes("a b~") == "'a b~'");
  CHECK(in_quotes("größe €𝄞") == "'größe €𝄞'");
}

TEST_CASE("control characters, bytes that are not UTF-8 and backslashes are escaped") {
  CHECK(in_quotes("\x1b[31m") == "'\\x1b[31m'");
  CHECK(in_quotes(std::string("\0\n\x7f", 3)) == "'\\x00\\x0a\\x7f'");
  CHECK(in_quotes("\xc2\x9b"
                  "2J") == "'\\xc2\\x9b2J'");  // U+009B begins a terminal's sequence as well.
  CHECK(in_quotes("a\\b") == "'a\\\\b'");
  for (const char* broken : {"\xff", "\x80", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    CAPTURE(broken);
    const std::string shown = in_quotes(broken);
    CHECK(shown.starts_with("'\\x"));
    for (const char c : shown) CHECK(static_cast<unsigned char>(c) < 0x80);
  }
}

TEST_CASE("a long text is cut between two characters, and its length follows") {
  const std::string most(kMostQuotedBytes, 'x');
  CHECK(in_quotes(most) == "'" + most + "'");
  CHECK(in_quotes(most + 'x') == "'" + most + "...' (101 bytes)");
  CHECK(in_quotes(std::string(5000, 'x')) == "'" + most + "...' (5000 bytes)");
  CHECK(in_quotes("abcd€", 6) == "'abcd...' (7 bytes)");
  CHECK(in_quotes("abcd€", 7) == "'abcd€'");
  CHECK(in_quotes("\x1b\x1b\x1b", 2) == "'\\x1b\\x1b...' (3 bytes)");
}

}  // namespace
}  // namespace memstream::test
