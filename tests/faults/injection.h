// Makes a call of the library fail. The test program defines the functions of functions.h itself, and since the dynamic
// linker looks into the program first, the library calls these; they pass everything on to the real ones but what a
// test wants to fail.
#pragma once

#include <cstddef>

#include "tests/faults/functions.h"

namespace memstream::test {

enum class FailureKind { kMinusOne, kError, kNull, kThrow, kAfterwards };

enum class Function : std::size_t {
#define MEMSTREAM_ENUMERATOR(name, ...) k_##name,
  MEMSTREAM_FAULTY_FUNCTIONS(MEMSTREAM_ENUMERATOR)
#undef MEMSTREAM_ENUMERATOR
      kCount
};
inline constexpr std::size_t kFunctions = static_cast<std::size_t>(Function::kCount);

struct FunctionFacts {
  const char* name;
  FailureKind kind;
  int errors[5];  // 0: no more.
};
const FunctionFacts& facts_of(Function function);

// The `call`-th call of `function` fails, counted from 1; if it persists, all that follow it too.
struct Fault {
  Function function;
  unsigned call;
  int error;
  bool persists;
};

// Begins to count the calls that this thread makes, and makes `fault` happen (null: nothing). Whatever happens between
// start and stop is the library's: the test must not call the functions itself.
void start_calls(const Fault* fault);
void stop_calls();
// Calls between the last start and stop.
unsigned calls_of(Function function);
// Whether the fault of the last start happened.
bool fault_struck();

// Blocks that operator new gave and nobody deleted yet, whoever asked.
long outstanding_allocations();

}  // namespace memstream::test
