// fmt's own code, compiled into the library: what libfmt.so has is here instead, with hidden symbols, so that
// libcache.so needs no libfmt at run time and disturbs no other version of it in the process. Debian has no static
// libfmt. With fmt::fmt-header-only each file that makes a message would take 5 s more to compile; this is one file.
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {

// The templates that fmt's headers declare as compiled elsewhere.
template void buffer<char>::append(const char* begin, const char* end);
template void vformat_to(buffer<char>& buffer, string_view format,
                         basic_format_args<FMT_BUFFER_CONTEXT(char)> arguments, locale_ref locale);
template thousands_sep_result<char> thousands_sep_impl(locale_ref locale);
template char decimal_point_impl(locale_ref locale);
template dragonbox::decimal_fp<float> dragonbox::to_decimal(float number) noexcept;
template dragonbox::decimal_fp<double> dragonbox::to_decimal(double number) noexcept;

}  // namespace detail
FMT_END_NAMESPACE
