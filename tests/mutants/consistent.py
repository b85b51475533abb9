"""Mutants of reading several keys as they stood at one instant."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "consistent-without-a-second-look",
        "values of several keys are taken for those of one instant although one of them has changed",
        "api/batch.cpp",
        "      if (stamps.stood_still()) return",
        "      if (stamps.stood_still() || i == 0) return",
        ("consistent_test",),
    ),
    Mutant(
        "consistent-stamp-without-refs",
        "a stamp leaves out which block an entry has",
        "core/shard/shard_stamp.cpp",
        "fold(fold(stamp, id), entry.ref.load(std::memory_order_acquire) & ~kPinnedHint)",
        "fold(stamp, id)",
        ("shard_stamp_test", "consistent_test"),
    ),
    Mutant(
        "consistent-stamp-without-version",
        "a stamp leaves out the version of the bucket",
        "core/shard/shard_stamp.cpp",
        "fold(fold(fold(1, probe.seq), probe.cells), probe.version)",
        "fold(fold(1, probe.seq), probe.cells)",
        ("shard_stamp_test",),
    ),
    Mutant(
        "consistent-stamp-without-time",
        "a stamp leaves out whether the time of an entry is over",
        "core/shard/shard_stamp.cpp",
        "fold(of_index, status == Status::kOk ? 1 : 0)",
        "of_index",
        ("shard_stamp_test",),
    ),
]
