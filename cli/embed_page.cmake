# Writes the bytes of INPUT as a C++ array to OUTPUT.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"cli/page.h\"\n
namespace memstream::cli {
namespace {
constexpr unsigned char kPageBytes[] = {
${bytes}
};
}  // namespace
std::string_view page_bytes() { return {reinterpret_cast<const char*>(kPageBytes), sizeof kPageBytes}; }
}  // namespace memstream::cli
")
