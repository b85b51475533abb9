// Identifies an object without mapping it.
#include "backends/shared_object.h"

#include <cstdint>
#include <cstdlib>

#include "backends/mapped_segment.h"

namespace memstream {
namespace {

struct Free {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

}  // namespace

__attribute__((no_sanitize("thread"))) void copy_while_written(std::byte* to, const std::byte* from,
                                                               std::size_t size_bytes) noexcept {
  // The sanitizer would watch memcpy(). It copies words, because each connect reads a page.
  using Word [[gnu::may_alias]] = std::uint64_t;
  std::size_t done = 0;
  if ((reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(to)) % alignof(Word) == 0) {
    for (; size_bytes - done >= sizeof(Word); done += sizeof(Word)) {
      *reinterpret_cast<Word*>(to + done) = *reinterpret_cast<const volatile Word*>(from + done);
    }
  }
  const volatile std::byte* source = from;
  for (; done < size_bytes; ++done) to[done] = source[done];
}

Status identify(SharedObject& object, const SegmentInitializer& initializer, Identity* identity) {
  if (object.size_bytes() == 0) {
    *identity = {};
    return Status::kOk;
  }
  const std::size_t size_bytes = initializer.header_size_bytes();
  const std::unique_ptr<std::byte, Free> header(
      static_cast<std::byte*>(std::aligned_alloc(page_size_bytes(), round_up_to_page(size_bytes))));
  if (header == nullptr)
    return fail(
        Status::kNoMemory,
        "This process has no memory left to copy a segment's header. Free some, or raise its limit (ulimit -v).");

  // A copy of a header that is being written can have bytes that are newer than the magic before them, and then looks
  // foreign. The second copy has the magic, because the creator stores it first.
  for (int look = 0; look < 2; ++look) {
    if (const Status status = object.read_header(header.get(), size_bytes); status != Status::kOk) return status;
    identity->state = initializer.state_of(header.get());
    if (identity->state != SegmentState::kForeign) break;
  }
  identity->name = initializer.name_of(header.get());
  return Status::kOk;
}

}  // namespace memstream
