"""What the cache tells about itself: entries, statistics, processes. Plain values, copied out of the segment."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple
from uuid import UUID

from memstream._core import abi
from memstream._core.arguments import shown
from memstream._core.naming import present_as

# `memstream_entry_t` for struct.iter_unpack: six times faster than reading field by field through ctypes, which would
# also end a key at its first NUL byte.
ENTRY_FORMAT = struct.Struct(f"@8Q4I{abi.MAX_KEY_SIZE + 8}s")

# The values of `cache_stats_t.huge_pages`.
_HUGE_PAGES = ("off", "try", "require")
# The values of `memstream_lock_holder_t.kind`.
_LOCKS = {1: "write", 2: "read", 3: "processes"}


class Entry(NamedTuple):
    """One entry as a scan reports it. Sizes are bytes, instants Unix time in seconds."""

    key: bytes
    value_size: int
    stored_size: int
    """Bytes of its block: key, value, header and rounding. Their sum is `Stats.used_memory`."""
    data_offset: int
    """Of the value's first byte from the start of the segment."""
    created_at: float
    """When this value was stored."""
    last_access: float
    """Last get or view, or the store if there was none; up to a second late once there were 64."""
    expires_at: Optional[float]
    """None: never."""
    access_count: int
    """Gets and views: exact up to 64 but for gets at the same moment, then sampled (standard deviation: a tenth)."""
    token: int
    """For `Cache.cas`; changes with every write of the entry."""
    flags: int
    """The 32 bits that the caller stored with the value."""
    shard: int
    is_valid: bool
    """False if it has expired and is not removed yet."""


class Stats(NamedTuple):
    """A snapshot of the whole segment: `cache_stats_t`.

    Counters run from the creation of the segment and cover all processes, also those that have ended. Sizes are bytes,
    instants Unix time in seconds. While others write, sums may be a few operations old.
    """

    max_memory: int
    """Size of the segment."""
    used_memory: int
    """Blocks of live entries: keys, values, block headers, rounding."""
    table_memory: int
    """Entry tables and buckets as they stand now."""
    committed_memory: int
    """What the system has really given."""
    pinned_memory: int
    """Blocks kept only by views, and reservations."""
    value_memory: int
    key_memory: int
    max_value_size: int
    """Largest value that is accepted, for a key of 1 byte."""
    entries: int
    entry_capacity: int
    """Entries that the tables hold without growing."""
    shards: int
    processes: int
    """Attached processes that are alive."""
    hits: int
    misses: int
    puts: int
    deletes: int
    evictions: int
    """Entries removed to make room."""
    expirations: int
    """Entries removed because their time had come."""
    recoveries: int
    """Shards put right after a holder of the lock had died."""
    damaged: int
    """Entries dropped because their bytes made no sense."""
    commit_failures: int
    """Times the system refused more memory and the cache evicted instead."""
    dead_processes: int
    """Processes that ended without disconnecting."""
    created_at: float
    now: float
    """The segment's clock."""
    page_size: int
    """Of the pages that this process sees the segment in, as the kernel says; 0: it does not."""
    huge_pages: str
    """What this process asked for: "off", "try" or "require"."""
    view_copies: int
    """Views that were copied because no place for one more was free."""
    reachable_memory: int
    """Of `max_memory`, what the system can give at all: less where /dev/shm is smaller than the segment."""
    busy_shards: int
    """Shards whose lock was held until the timeout: their numbers were read without the lock."""

    @property
    def hit_ratio(self) -> Optional[float]:
        """Hits of all lookups, 0 to 1; None if there was no lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


class Info(NamedTuple):
    """What a cache is open on: `memstream_info_t`."""

    backend: str
    name: str
    size: int
    """Bytes."""
    layout_version: int
    read_only: bool
    uuid: UUID
    """Of the segment: another one after destroy and create."""
    accelerated: bool
    """Whether native functions serve the frequent calls of this Cache: `Cache.accelerated`."""


class Process(NamedTuple):
    """A process that is attached: `memstream_process_t`."""

    pid: int
    pins: int
    """Views and reservations that it holds."""
    start_time: int
    """In clock ticks since boot, as in /proc/PID/stat."""
    hits: int
    misses: int
    puts: int


class Usage(NamedTuple):
    """What is in use at one moment: `memstream_usage_t`. What dead processes held is not in use."""

    rates: int
    """Keys of `Cache.limit` that have used up a part of their rate."""
    rate_capacity: int
    """Places for such keys; 0 in a segment below 16 MiB."""
    semaphores: int
    """Semaphores of several permits of which a process holds at least one."""
    locks: int
    """Semaphores of one permit that a process holds."""
    permits: int
    """Permits held, of all names."""
    holders: int
    """Places taken: one for each name that a handle holds."""
    holder_capacity: int
    """Places for holders; 0 in a segment below 16 MiB."""
    change_waiters: int
    """Threads that sleep in `Cache.wait`."""
    permit_waiters: int
    """Threads that sleep until a permit is free."""
    lease_waiters: int
    """Threads that sleep until a lease ends."""


class LockHolder(NamedTuple):
    """A lock of the segment that a thread holds: `memstream_lock_holder_t`."""

    lock: str
    """ "write" or "read": that of a shard; "processes": that of the process table."""
    shard: int
    """0 for "processes"."""
    pid: int
    """0: the system does not tell, for example across pid namespaces."""
    tid: int


class Repair(NamedTuple):
    """What `Cache.repair` found and dropped, in all shards together: `memstream_repair_report_t`."""

    problems: int
    """Problems that `Cache.check` would have reported before."""
    dropped_entries: int
    """Entries dropped because their block was damaged, or another entry's."""
    damaged_values: int
    """Entries dropped because the value did not match its checksum."""
    emptied_shards: int
    """Shards of which nothing could be rebuilt."""
    entries: int
    """Entries that are left."""


# Names of the operations, outcomes and causes of `memstream_metrics_t`, by their numbers.
OPERATION_NAMES = ("get", "set", "add", "replace", "cas", "incr", "delete", "touch", "lease", "fulfil", "commit")
OUTCOME_NAMES = (
    "ok",
    "miss",
    "exists",
    "conflict",
    "held",
    "too_large",
    "too_small",
    "full",
    "no_memory",
    "busy",
    "corrupt",
    "failed",
)
REMOVAL_NAMES = ("room", "large_value", "table", "chain", "clear", "expired", "delete", "damaged")


@dataclass(frozen=True)
class Histogram:
    """How many values lay where, in buckets that are at most a quarter of their values wide."""

    counts: Tuple[int, ...]
    """Values of each bucket. The last bucket also has all larger ones."""
    bounds: Tuple[int, ...]
    """The lowest value of each bucket."""

    @property
    def total(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def quantile(self, part: float) -> Optional[int]:
        """Returns a value that so large a part of all values does not exceed.

        Args:
            part: 0 to 1; 0.99 for the 99th percentile.

        Returns:
            The upper end of a bucket, so that it is at most a quarter too high. None if there are no values.

        Raises:
            ValueError: `part` is not a number from 0 to 1.
        """
        if not 0 <= part <= 1:
            raise ValueError(f"Invalid part {shown(part)}: expected a number from 0 to 1.")
        left = part * self.total
        found = None
        for place, count in enumerate(self.counts):
            if count:
                found = self.bounds[place + 1] if place + 1 < len(self.bounds) else self.bounds[place]
                left -= count
                if left <= 0:
                    break
        return found


@dataclass(frozen=True)
class Metrics:
    """Why a hit ratio is as it is, and what operations cost: `memstream_metrics_t`.

    Everything is counted in the segment, for all processes together, from its creation on. A segment that was made
    without metrics has zeros.
    """

    operations: Dict[str, Dict[str, int]]
    """Calls by operation and outcome: `operations["get"]["miss"]`. Operations are get, set, add, replace, cas, incr,
    delete, touch, lease, fulfil and commit; outcomes are named after the statuses."""
    removals: Dict[str, int]
    """Entries removed by cause. Evicted for room, a large_value, the table or a full chain; or clear, expired, delete,
    damaged."""
    lock_waits: int
    """Times that a writer, or a slow read, found the lock of its shard taken."""
    lock_wait_ns: int
    """Time of these waits in nanoseconds."""
    longest_wait_ns: int
    """The longest of them."""
    lock_timeouts: int
    """Waits that ended at the deadline, with CacheBusy."""
    recoveries: int
    """Shards put right after a holder of the lock had died."""
    recovery_ns: int
    """Time of all recoveries in nanoseconds."""
    longest_recovery_ns: int
    """The longest of them."""
    slow_reads: int
    """Reads that took a lock, or the redo record of a writer."""
    read_retries: int
    """Looks without a lock that had to be repeated."""
    sample_step: int
    """One key in so many is sampled; 0 without metrics."""
    sampled_keys: int
    """Keys that the sample knows now."""
    sampled_references: int
    """Gets of sampled keys."""
    references: int
    """The same, each times the step that it had: about the gets of all keys."""
    first_references: int
    """Of `references`, those of keys that the sample did not know."""
    evicted_age_ms: Histogram
    """Evicted entries by the time since their value was stored, in milliseconds."""
    evicted_idle_ms: Histogram
    """Evicted entries by the time since their last get, in milliseconds."""
    get_ns: Histogram
    """Gets of sampled keys by their time in nanoseconds."""
    set_ns: Histogram
    """Calls of set, add, replace and cas of sampled keys by their time in nanoseconds."""
    reuse_distances: Histogram
    """`references` by how many other keys were asked for since the last get of the key. A cache of n entries that
    evicts the coldest key would hit those below n."""


def entry_from_fields(fields: Tuple[Any, ...]) -> Entry:
    """Makes an Entry from what ENTRY_FORMAT unpacks: the fields of a `memstream_entry_t` in their order."""
    value_size, stored_size, offset, created_ms, accessed_ms, expires_ms, count, token = fields[:8]
    flags, key_size, shard, is_valid, key = fields[8:]
    return Entry(
        key[:key_size],
        value_size,
        stored_size,
        offset,
        created_ms / 1000,
        accessed_ms / 1000,
        expires_ms / 1000 if expires_ms else None,
        count,
        token,
        flags,
        shard,
        bool(is_valid),
    )


def stats_from_struct(raw: abi.CacheStats) -> Stats:
    """Makes Stats from a filled `cache_stats_t`: the same names, instants in seconds."""
    fields = {name: getattr(raw, name) for name in Stats._fields if hasattr(raw, name)}
    fields["huge_pages"] = _HUGE_PAGES[raw.huge_pages]
    return Stats(**fields, created_at=raw.created_at_ms / 1000, now=raw.now_ms / 1000)


def info_from_struct(raw: abi.Info, accelerated: bool) -> Info:
    """Makes Info from a filled `memstream_info_t`."""
    return Info(
        raw.backend.decode(),
        raw.name.decode(),
        raw.size_bytes,
        raw.layout_version,
        bool(raw.read_only),
        UUID(bytes=bytes(raw.uuid)),
        accelerated,
    )


def process_from_struct(raw: abi.Process) -> Process:
    """Makes a Process from a `memstream_process_t`."""
    return Process(raw.pid, raw.pins, raw.start_time, raw.hits, raw.misses, raw.puts)


def usage_from_struct(raw: abi.Usage) -> Usage:
    """Makes Usage from a filled `memstream_usage_t`: the same names."""
    return Usage(*(getattr(raw, name) for name in Usage._fields))


def lock_holder_from_struct(raw: abi.LockHolder) -> LockHolder:
    """Makes a LockHolder from a `memstream_lock_holder_t`."""
    return LockHolder(_LOCKS[raw.kind], raw.shard, raw.pid, raw.tid)


def repair_from_struct(raw: abi.RepairReport) -> Repair:
    """Makes a Repair from a filled `memstream_repair_report_t`."""
    return Repair(raw.problems, raw.dropped_entries, raw.damaged_values, raw.emptied_shards, raw.entries)


def metrics_from_struct(raw: abi.Metrics, bucket_bound: Callable[[int], int]) -> Metrics:
    """Makes Metrics from a filled `memstream_metrics_t`; `bucket_bound` is `memstream_bucket_bound`."""
    bounds = tuple(bucket_bound(bucket) for bucket in range(abi.AGE_BUCKETS))
    fields: Dict[str, Any] = {}
    for name, _ in abi.Metrics._fields_[3:]:
        value = getattr(raw, name)
        fields[name] = value if isinstance(value, int) else Histogram(tuple(value), bounds[: len(value)])
    return Metrics(
        operations={
            operation: dict(zip(OUTCOME_NAMES, raw.outcomes[number]))
            for number, operation in enumerate(OPERATION_NAMES)
        },
        removals=dict(zip(REMOVAL_NAMES, raw.removals)),
        **fields,
    )


present_as("memstream.records", Entry, Stats, Info, Process, Usage, LockHolder, Repair, Histogram, Metrics)
