#include "tests/torture/stepped_heap.h"

#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

// The program's own allocation functions take the place of the C library's, which stay behind these names.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);
}

namespace memstream::torture {
namespace {

constexpr std::size_t kHeapSize = std::size_t{16} << 20;  // Pages that are not touched cost nothing.
constexpr std::size_t kAlignment = 16;

alignas(4096) std::byte heap[kHeapSize];
std::size_t used = 0;
bool is_stepped = false;

bool on_heap(const void* memory) { return memory >= heap && memory < heap + kHeapSize; }

// Each piece has its size in the bytes before it.
void* take(std::size_t alignment, std::size_t size) {
  const std::size_t begin = (used + kAlignment + alignment - 1) / alignment * alignment;
  if (size > kHeapSize || begin > kHeapSize - size) {
    errno = ENOMEM;
    return nullptr;
  }
  used = (begin + size + kAlignment - 1) / kAlignment * kAlignment;
  std::memcpy(heap + begin - sizeof size, &size, sizeof size);
  return heap + begin;
}

std::size_t size_of(const void* memory) {
  std::size_t size = 0;
  std::memcpy(&size, static_cast<const std::byte*>(memory) - sizeof size, sizeof size);
  return size;
}

}  // namespace

void use_stepped_heap() { is_stepped = true; }

}  // namespace memstream::torture

using namespace memstream::torture;

extern "C" {

void* malloc(std::size_t size) { return is_stepped ? take(kAlignment, size) : __libc_malloc(size); }

// The buffer is still as the loader made it: nothing is ever taken twice.
void* calloc(std::size_t count, std::size_t size) {
  return is_stepped ? take(kAlignment, count * size) : __libc_calloc(count, size);
}

void* realloc(void* memory, std::size_t size) {
  if (!is_stepped) return __libc_realloc(memory, size);
  void* moved = take(kAlignment, size);
  if (moved == nullptr || memory == nullptr) return moved;
  std::memcpy(moved, memory, std::min(size, on_heap(memory) ? size_of(memory) : malloc_usable_size(memory)));
  return moved;
}

void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return is_stepped ? take(std::max(alignment, kAlignment), size) : __libc_memalign(alignment, size);
}

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  *memory = aligned_alloc(alignment, size);
  return *memory != nullptr ? 0 : ENOMEM;
}

void free(void* memory) {
  if (!is_stepped) __libc_free(memory);
}

}  // extern "C"
