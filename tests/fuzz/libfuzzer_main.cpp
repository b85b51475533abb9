// The libFuzzer program: "memstream-fuzz --target=NAME [libFuzzer's own options] CORPUS...".
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/fuzz/records.h"
#include "tests/fuzz/targets.h"

// The names are libFuzzer's.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" {
size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
int LLVMFuzzerInitialize(int* argc, char*** argv);
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed);
}
// NOLINTEND(readability-identifier-naming)

namespace {

const memstream::fuzz::Target* target = nullptr;

}  // namespace

int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "--target=";
  for (int i = 1; i < *argc; ++i) {
    const char* argument = (*argv)[i];
    if (std::strncmp(argument, kOption, std::strlen(kOption)) != 0) continue;
    target = memstream::fuzz::find_target(argument + std::strlen(kOption));
  }
  if (target == nullptr) {
    std::fprintf(stderr, "usage: memstream-fuzz --target=NAME [libFuzzer's options] CORPUS...\ntargets:");
    for (const auto& known : memstream::fuzz::targets()) std::fprintf(stderr, " %s", known.name);
    std::fprintf(stderr, "\n");
    std::exit(2);
  }
  memstream::fuzz::scenes();  // Made now, so that the first input does not look like a hang on a busy machine.
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  target->run(data, size);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  if (!target->of_records || seed % 4 == 0) return LLVMFuzzerMutate(data, size, max_size);
  return memstream::fuzz::mutate_records(data, size, max_size, seed);
}
