"""Mutants of tracing accesses."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "trace-seal-not-compared",
        "a reader believes a record of two writers, or of one that was killed in the middle",
        "core/cache/access_trace.cpp",
        "record.seal.load(kInAnyOrder) != trace_seal(number, hash, what, size)",
        "record.seal.load(kInAnyOrder) == 0",
        ("access_trace_test", "trace_test"),
    ),
    Mutant(
        "trace-seal-without-number",
        "a reader takes the record of the lap before for the present one",
        "core/layout/layout_trace.h",
        "for (const std::uint64_t word : {number, hash, what, size})",
        "for (const std::uint64_t word : {number * 0, hash, what, size})",
        ("access_trace_test",),
    ),
    Mutant(
        "trace-waits-for-ever",
        "a reader never gives up a record whose writer was killed",
        "core/cache/access_trace.cpp",
        "  if (now - cursor->stuck_since_ms < kPatienceMs) return false;\n",
        "  if (now >= cursor->stuck_since_ms) return false;\n",
        ("access_trace_test",),
    ),
    Mutant(
        "trace-loss-not-counted",
        "a reader that was overtaken does not know what it has lost",
        "core/cache/access_trace.cpp",
        "    cursor->lost += end - number - kTraceRecords;\n",
        "",
        ("access_trace_test", "trace_test"),
    ),
    Mutant(
        "trace-goes-on-for-ever",
        "processes note accesses for a reader that was killed",
        "core/cache/access_trace.cpp",
        "return until_ms >= now_ms && until_ms - now_ms <= 2 * kOnMs;",
        "return until_ms != 0 || now_ms == 0;",
        ("access_trace_test", "trace_test"),
    ),
    Mutant(
        "trace-gap-not-counted",
        "a reader that was stopped does not know that nobody noted accesses for it",
        "core/cache/access_trace.cpp",
        "  if (cursor->noted_until_ms != 0 && now > cursor->noted_until_ms) ++cursor->gaps;\n",
        "",
        ("access_trace_test", "trace_test"),
    ),
    Mutant(
        "trace-batch-by-wrong-hash",
        "an access in a batch is traced as one of the first key of its group",
        "core/cache/cache_read.cpp",
        "trace_read(keys[begin + i], group[i].status",
        "trace_read(keys[begin], group[i].status",
        ("trace_test",),
    ),
    Mutant(
        "trace-failed-store-noted",
        "a store that failed is in a trace",
        "core/cache/cache.cpp",
        "if (status == Status::kOk) trace_.note(",
        "trace_.note(",
        ("trace_test",),
    ),
]
