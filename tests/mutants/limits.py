"""Mutants of rate limits and semaphores."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "rate-of-the-dead-claimer",
        "a place whose claimer died stays lost",
        "core/cache/limit_table.cpp",
        "  if (due != kDueClaimed) {\n    const bool is_free",
        "  if (due == kDueClaimed) return false;\n  {\n    const bool is_free",
        ("limit_table_test",),
    ),
    Mutant(
        "rate-reset-gives-the-place-away",
        "a key that is reset loses its place before requests that saw it have ended",
        "core/cache/limit_table.cpp",
        "if (has_passed(before.load(std::memory_order_relaxed), due)) before.store(due, std::memory_order_relaxed);",
        "if (before.load(std::memory_order_relaxed) == due) before.store(due, std::memory_order_relaxed);",
        ("limit_table_test",),
    ),
    Mutant(
        "rate-forgotten-by-a-copy",
        "a limit has all of its rate again in the successor of its segment",
        "core/cache/limit_table.cpp",
        "to.limits[at].due.store(due, std::memory_order_release);",
        "to.limits[at].due.store(now_ns, std::memory_order_release);",
        ("limit_table_test",),
    ),
    Mutant(
        "rate-counted-after-the-copy",
        "a request that a resize has not copied counts as counted",
        "core/cache/cache_limits.cpp",
        "status != Status::kOk || mover == 0) [[likely]]",
        "status != Status::kOk || mover != 1) [[likely]]",
        ("limits_test",),
    ),
    Mutant(
        "permits-given-back-together",
        "a process that gives back one of its permits gives back all",
        "core/cache/limit_table.cpp",
        "holding_count(word) > 1 ? word - kOneHeld : 0",
        "holding_count(word) > 1 ? 0 : 0",
        ("limits_test",),
    ),
    Mutant(
        "permit-of-the-dead",
        "the permits of a dead process stay held",
        "core/cache/cache_limits.cpp",
        "pin_places_.owner_of(holder) != nullptr && !dead.has(holder)",
        "pin_places_.owner_of(holder) != nullptr",
        ("limits_test",),
    ),
    Mutant(
        "permit-lost-by-a-resize",
        "a segment is resized while a process holds a permit of it",
        "core/cache/cache_move.cpp",
        "if (from_.holds_permits(*limits_)) {",
        "if (from_.holds_permits(*limits_) && false) {",
        ("limits_test",),
    ),
    Mutant(
        "permit-beyond-the-last",
        "two processes that ask for the last permit at once both get one",
        "core/cache/limit_table.h",
        "    if (held(name, is_alive) >= permits) return Status::kHeld;\n    HoldingStripe& in",
        "    HoldingStripe& in",
        ("limits_test",),
    ),
    Mutant(
        "rate-counted-once-for-two",
        "two requests at the same instant count as one",
        "core/cache/limit_table.cpp",
        "if (limit.due.compare_exchange_strong(due, next, std::memory_order_seq_cst)) {",
        "if (limit.due.store(next, std::memory_order_seq_cst); true) {",
        ("limit_table_test",),
    ),
]
