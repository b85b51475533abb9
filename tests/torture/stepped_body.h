// What every stepped child does, whoever steps it.
#pragma once

#include <functional>
#include <string>

namespace memstream::torture {

// The rest of a child's life: `begin`, an int3, `run`, an ud2. The two raise different signals, so that no further
// question is needed at each stop. The child is killed with its parent.
[[noreturn]] void be_stepped(const std::function<void()>& begin, const std::function<void()>& run) noexcept;

// Of a child that stopped or ended for another reason, by its status for waitpid().
std::string unexpected_end(int status);

}  // namespace memstream::torture
