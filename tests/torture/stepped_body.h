// What every stepped child does, whoever steps it.
#pragma once

#include <functional>
#include <string>

namespace memstream::torture {

// Exit codes of a stepped child.
inline constexpr int kBodyFailed = 3;
inline constexpr int kTraceFull = 4;
inline constexpr int kWalked = 5;

// The rest of a child's life: `begin`, an int3, `run`, an ud2. The two raise different signals, so that no further
// question is needed at each stop. The child is killed with its parent.
[[noreturn]] void be_stepped(const std::function<void()>& begin, const std::function<void()>& run) noexcept;

// Of a child that stopped or ended for another reason, by its status for waitpid().
std::string unexpected_end(int status);

}  // namespace memstream::torture
