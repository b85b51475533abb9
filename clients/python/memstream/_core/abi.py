"""The C interface of libcache.so as ctypes sees it: the statuses, structs and prototypes of its two headers.

The one file of the package that repeats what api/cache.h and api/memstream.h say, field by field and in their order.
The test suite compares it with them: sizes and offsets with the C compiler's, statuses and prototypes with the text.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from enum import IntEnum, IntFlag
from typing import Any, Dict, Sequence, Tuple, Type

from memstream._core.naming import present_as

# The release whose headers this file repeats.
VERSION = "0.1.0"

MAX_KEY_SIZE = 1024


class Status(IntEnum):
    """What a call came to: 0 is success, positive values are expected outcomes, negative values are errors."""

    OK = 0
    MISS = 1
    EXISTS = 2
    CONFLICT = 3
    HELD = 4

    INVALID = -1
    BAD_KEY = -2
    TOO_LARGE = -3
    TOO_SMALL = -4
    NOT_CONNECTED = -5
    NOT_NUMERIC = -6
    READ_ONLY = -7
    BAD_HANDLE = -8

    BAD_BACKEND = -20
    BAD_NAME = -21
    BAD_SIZE = -22
    BAD_SHARDS = -23
    BAD_TIMEOUT = -24
    BAD_MODE = -25
    BAD_HUGEPAGES = -26
    BAD_PREFAULT = -27
    BAD_MAX_VALUE = -28
    BAD_GROUP = -29
    BAD_CHECKSUM_CHOICE = -30

    BUSY = -40
    GONE = -41
    NO_MEMORY = -42
    PROCESS_TABLE_FULL = -43
    FULL = -44
    NO_HUGE_PAGES = -45

    NO_SEGMENT = -60
    NOT_OWNER = -61
    NO_PERMISSION = -62
    BAD_MAGIC = -63
    BAD_VERSION = -64
    SIZE_MISMATCH = -65
    NAME_MISMATCH = -66
    BAD_CHECKSUM = -67
    BAD_STATE = -68
    TRUNCATED = -69
    NOT_SHARED_MEMORY = -70
    OTHER_NAMESPACE = -71
    OTHER_LIBC = -72
    OTHER_BYTE_ORDER = -73
    OTHER_BOOT = -74
    CORRUPT = -75

    OS_ERROR = -90
    INTERNAL = -91


present_as("memstream", Status)


class OpenFlags(IntFlag):
    """The bits of `memstream_options_t.flags`."""

    READ_ONLY = 1
    EXISTING = 2
    ANY_OWNER = 4


class CacheStats(ctypes.Structure):
    """`cache_stats_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("max_memory", c_uint64),
        ("used_memory", c_uint64),
        ("table_memory", c_uint64),
        ("committed_memory", c_uint64),
        ("pinned_memory", c_uint64),
        ("value_memory", c_uint64),
        ("key_memory", c_uint64),
        ("max_value_size", c_uint64),
        ("entries", c_uint64),
        ("entry_capacity", c_uint64),
        ("shards", c_uint64),
        ("processes", c_uint64),
        ("hits", c_uint64),
        ("misses", c_uint64),
        ("puts", c_uint64),
        ("deletes", c_uint64),
        ("evictions", c_uint64),
        ("expirations", c_uint64),
        ("recoveries", c_uint64),
        ("damaged", c_uint64),
        ("commit_failures", c_uint64),
        ("dead_processes", c_uint64),
        ("created_at_ms", c_uint64),
        ("now_ms", c_uint64),
        ("page_size", c_uint64),
        ("huge_pages", c_uint64),
        ("view_copies", c_uint64),
        ("reachable_memory", c_uint64),
        ("busy_shards", c_uint64),
    ]


class Options(ctypes.Structure):
    """`memstream_options_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("backend", c_char_p),
        ("name", c_char_p),
        ("size_bytes", c_uint64),
        ("shards", c_uint32),
        ("mode", c_uint32),
        ("timeout_ms", c_int64),
        ("flags", c_uint32),
        ("reserved", c_uint32),
        ("hugepages", c_char_p),
        ("prefault", c_char_p),
        ("group", c_char_p),
        ("max_value", c_uint64),
        ("owner", c_char_p),
        ("checksum", c_char_p),
    ]


class Meta(ctypes.Structure):
    """`memstream_meta_t`."""

    _fields_ = [
        ("cas", c_uint64),
        ("created_at_ms", c_uint64),
        ("expires_at_ms", c_uint64),
        ("flags", c_uint32),
        ("reserved", c_uint32),
    ]


class Item(ctypes.Structure):
    """`memstream_item_t`."""

    _fields_ = [
        ("key", c_char_p),
        ("key_size", c_size_t),
        ("value", c_void_p),
        ("value_size", c_size_t),
        ("ttl_ms", c_uint64),
        ("cas", c_uint64),
        ("created_at_ms", c_uint64),
        ("expires_at_ms", c_uint64),
        ("flags", c_uint32),
        ("status", c_int32),
    ]


class Tags(ctypes.Structure):
    """`memstream_tags_t`."""

    _fields_ = [("words", c_uint64 * 8)]


class TaggedItem(ctypes.Structure):
    """`memstream_tagged_item_t`."""

    _fields_ = [("item", Item), ("tags", POINTER(Tags))]


# How `memstream_store_tagged` stores: some of `enum memstream_operation`.
SET, ADD, REPLACE, CAS, FULFIL = 1, 2, 3, 4, 9


class View(ctypes.Structure):
    """`memstream_view_t`."""

    _fields_ = [("data", c_void_p), ("size", c_size_t), ("meta", Meta), ("token", c_uint64)]


class Reservation(ctypes.Structure):
    """`memstream_reservation_t`."""

    _fields_ = [("data", c_void_p), ("size", c_size_t), ("token", c_uint64)]


class Entry(ctypes.Structure):
    """`memstream_entry_t`."""

    _fields_ = [
        ("value_size", c_uint64),
        ("stored_size", c_uint64),
        ("data_offset", c_uint64),
        ("created_at_ms", c_uint64),
        ("last_access_ms", c_uint64),
        ("expires_at_ms", c_uint64),
        ("access_count", c_uint64),
        ("cas", c_uint64),
        ("flags", c_uint32),
        ("key_size", c_uint32),
        ("shard", c_uint32),
        ("is_valid", c_uint32),
        ("key", c_char * (MAX_KEY_SIZE + 8)),
    ]


class Info(ctypes.Structure):
    """`memstream_info_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("backend", c_char_p),
        ("name", c_char_p),
        ("size_bytes", c_uint64),
        ("layout_version", c_uint32),
        ("read_only", c_uint32),
        ("uuid", c_uint8 * 16),
    ]


class RepairReport(ctypes.Structure):
    """`memstream_repair_report_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("problems", c_uint64),
        ("dropped_entries", c_uint64),
        ("damaged_values", c_uint64),
        ("emptied_shards", c_uint64),
        ("entries", c_uint64),
    ]


class ReapReport(ctypes.Structure):
    """`memstream_reap_report_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("processes", c_uint64),
        ("pins", c_uint64),
        ("leases", c_uint64),
        ("locks", c_uint64),
        ("freed_bytes", c_uint64),
    ]


class ResizeReport(ctypes.Structure):
    """`memstream_resize_report_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("old_bytes", c_uint64),
        ("new_bytes", c_uint64),
        ("copies", c_uint64),
        ("passes", c_uint64),
        ("stopped_ns", c_uint64),
    ]


# Lengths of the arrays of `memstream_metrics_t`.
OPERATIONS = OUTCOMES = REMOVALS = 16
AGE_BUCKETS = 160
LATENCY_BUCKETS = 120


class Metrics(ctypes.Structure):
    """`memstream_metrics_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("outcomes", c_uint64 * OUTCOMES * OPERATIONS),
        ("removals", c_uint64 * REMOVALS),
        ("lock_waits", c_uint64),
        ("lock_wait_ns", c_uint64),
        ("longest_wait_ns", c_uint64),
        ("lock_timeouts", c_uint64),
        ("recoveries", c_uint64),
        ("recovery_ns", c_uint64),
        ("longest_recovery_ns", c_uint64),
        ("slow_reads", c_uint64),
        ("read_retries", c_uint64),
        ("sample_step", c_uint64),
        ("sampled_keys", c_uint64),
        ("sampled_references", c_uint64),
        ("references", c_uint64),
        ("first_references", c_uint64),
        ("evicted_age_ms", c_uint64 * AGE_BUCKETS),
        ("evicted_idle_ms", c_uint64 * AGE_BUCKETS),
        ("get_ns", c_uint64 * LATENCY_BUCKETS),
        ("set_ns", c_uint64 * LATENCY_BUCKETS),
        ("reuse_distances", c_uint64 * AGE_BUCKETS),
    ]


class Usage(ctypes.Structure):
    """`memstream_usage_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("rates", c_uint64),
        ("rate_capacity", c_uint64),
        ("semaphores", c_uint64),
        ("locks", c_uint64),
        ("permits", c_uint64),
        ("holders", c_uint64),
        ("holder_capacity", c_uint64),
        ("change_waiters", c_uint64),
        ("permit_waiters", c_uint64),
        ("lease_waiters", c_uint64),
    ]


class Trace(ctypes.Structure):
    """`memstream_trace_t`."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("position", c_uint64),
        ("lost", c_uint64),
        ("gaps", c_uint64),
        ("waits_since", c_uint64),
        ("noted_until", c_uint64),
        ("sample_step", c_uint64),
    ]


class Access(ctypes.Structure):
    """`memstream_access_t`."""

    _fields_ = [
        ("key_hash", c_uint64),
        ("time_ms", c_uint64),
        ("size", c_uint64),
        ("what", c_uint32),
        ("reserved", c_uint32),
    ]


class LockHolder(ctypes.Structure):
    """`memstream_lock_holder_t`."""

    _fields_ = [
        ("kind", c_uint32),
        ("shard", c_uint32),
        ("pid", c_uint32),
        ("tid", c_uint32),
        ("reserved", c_uint64 * 2),
    ]


class Segment(ctypes.Structure):
    """`memstream_segment_t`."""

    _fields_ = [
        ("name", c_char * 72),
        ("system_id", c_char * 88),
        ("size_bytes", c_uint64),
        ("attached", c_uint64),
        ("entries", c_uint64),
        ("processes", c_uint64),
        ("created_at_ms", c_uint64),
        ("layout_version", c_uint32),
        ("mode", c_uint32),
        ("owner_uid", c_uint32),
        ("status", c_int32),
        ("reserved", c_uint64 * 4),
    ]


class Process(ctypes.Structure):
    """`memstream_process_t`."""

    _fields_ = [
        ("pid", c_uint32),
        ("pins", c_uint32),
        ("start_time", c_uint64),
        ("hits", c_uint64),
        ("misses", c_uint64),
        ("puts", c_uint64),
    ]


class LimitInfo(ctypes.Structure):
    """`memstream_limit_info_t`."""

    _fields_ = [
        ("kind", c_uint32),
        ("pid", c_uint32),
        ("used", c_uint64),
        ("most", c_uint64),
        ("interval_ns", c_uint64),
        ("restored_in_ms", c_uint64),
        ("held_for_ms", c_uint64),
        ("reserved", c_uint64 * 2),
        ("label", c_char * 32),
    ]


# The C name of each struct above.
STRUCTS: Dict[str, Type[ctypes.Structure]] = {
    "cache_stats_t": CacheStats,
    "memstream_options_t": Options,
    "memstream_meta_t": Meta,
    "memstream_item_t": Item,
    "memstream_view_t": View,
    "memstream_reservation_t": Reservation,
    "memstream_entry_t": Entry,
    "memstream_info_t": Info,
    "memstream_process_t": Process,
    "memstream_repair_report_t": RepairReport,
    "memstream_metrics_t": Metrics,
    "memstream_usage_t": Usage,
    "memstream_lock_holder_t": LockHolder,
    "memstream_trace_t": Trace,
    "memstream_access_t": Access,
    "memstream_reap_report_t": ReapReport,
    "memstream_resize_report_t": ResizeReport,
    "memstream_segment_t": Segment,
    "memstream_limit_info_t": LimitInfo,
    "memstream_tags_t": Tags,
    "memstream_tagged_item_t": TaggedItem,
}

# (cache, key, key_size) and (value, value_size, ttl_ms, flags): how most of the functions begin and go on.
_KEY = (c_void_p, c_char_p, c_size_t)
_VALUE = (c_void_p, c_size_t, c_uint64, c_uint32)

# Name: (type of the result, types of the arguments). Keys are `const void *` in C; c_char_p lets bytes pass as they
# are, and their size goes beside them, so that NUL bytes count.
PROTOTYPES: Dict[str, Tuple[Any, Sequence[Any]]] = {
    "cache_strerror": (c_char_p, (c_int,)),
    "cache_last_error": (c_char_p, ()),
    "cache_version": (c_char_p, ()),
    "memstream_version": (c_uint32, ()),
    "memstream_options_init": (None, (POINTER(Options),)),
    "memstream_options_init_sized": (None, (POINTER(Options), c_size_t)),
    "memstream_open": (c_int, (POINTER(Options), POINTER(c_void_p))),
    "memstream_open_note": (c_char_p, (c_void_p,)),
    "memstream_close": (c_int, (c_void_p,)),
    "memstream_destroy": (c_int, (c_void_p,)),
    "memstream_destroy_named": (c_int, (POINTER(Options),)),
    "memstream_get": (c_int, (*_KEY, c_void_p, POINTER(c_size_t), POINTER(Meta))),
    "memstream_set": (c_int, (*_KEY, *_VALUE)),
    "memstream_add": (c_int, (*_KEY, *_VALUE)),
    "memstream_replace": (c_int, (*_KEY, *_VALUE)),
    "memstream_cas": (c_int, (*_KEY, *_VALUE, c_uint64)),
    "memstream_delete": (c_int, _KEY),
    "memstream_touch": (c_int, (*_KEY, c_uint64)),
    "memstream_get_and_touch": (c_int, (*_KEY, c_uint64, c_void_p, POINTER(c_size_t), POINTER(Meta))),
    "memstream_incr": (c_int, (*_KEY, c_int64, POINTER(c_int64), c_uint64, POINTER(c_int64))),
    "memstream_exists": (c_int, _KEY),
    "memstream_clear": (c_int, (c_void_p,)),
    "memstream_get_many": (c_int, (c_void_p, POINTER(Item), c_size_t, c_void_p, POINTER(c_size_t))),
    "memstream_set_many": (c_int, (c_void_p, POINTER(Item), c_size_t)),
    "memstream_delete_many": (c_int, (c_void_p, POINTER(Item), c_size_t)),
    "memstream_get_many_sized": (c_int, (c_void_p, POINTER(Item), c_size_t, c_size_t, c_void_p, POINTER(c_size_t))),
    "memstream_get_many_consistent": (
        c_int,
        (c_void_p, POINTER(Item), c_size_t, c_size_t, c_void_p, POINTER(c_size_t), c_uint32),
    ),
    "memstream_set_many_sized": (c_int, (c_void_p, POINTER(Item), c_size_t, c_size_t)),
    "memstream_delete_many_sized": (c_int, (c_void_p, POINTER(Item), c_size_t, c_size_t)),
    "memstream_lease": (c_int, (*_KEY, c_uint64, c_uint64, POINTER(c_uint64))),
    "memstream_lease_wait": (c_int, (*_KEY, c_uint64)),
    "memstream_lease_follow": (c_int, (*_KEY, POINTER(c_uint64), c_uint64)),
    "memstream_wait": (c_int, (*_KEY, c_uint64, c_uint64)),
    "memstream_lease_fulfil": (c_int, (*_KEY, *_VALUE, c_uint64)),
    "memstream_lease_release": (c_int, (*_KEY, c_uint64)),
    "memstream_limit": (c_int, (*_KEY, c_uint64, c_uint64, c_uint64, POINTER(c_uint64))),
    "memstream_limit_reset": (c_int, _KEY),
    "memstream_semaphore_acquire": (c_int, (*_KEY, c_uint64, c_uint64, POINTER(c_uint64))),
    "memstream_semaphore_release": (c_int, (*_KEY, c_uint64)),
    "memstream_semaphore_held": (c_int, (*_KEY, POINTER(c_uint64))),
    "memstream_limits": (c_int, (c_void_p, POINTER(LimitInfo), c_size_t, POINTER(c_size_t))),
    "memstream_view": (c_int, (*_KEY, POINTER(View))),
    "memstream_release": (c_int, (c_void_p, POINTER(View))),
    "memstream_view_in_place": (c_int, (c_void_p, POINTER(View), POINTER(c_int))),
    "memstream_reserve": (c_int, (*_KEY, c_size_t, POINTER(Reservation))),
    "memstream_commit": (c_int, (c_void_p, POINTER(Reservation), c_uint64, c_uint32)),
    "memstream_abort": (c_int, (c_void_p, POINTER(Reservation))),
    "memstream_scan": (c_int, (c_void_p, POINTER(c_uint64), POINTER(Entry), c_size_t, POINTER(c_size_t))),
    "memstream_entry_info": (c_int, (*_KEY, POINTER(Entry))),
    "memstream_stats": (c_int, (c_void_p, POINTER(CacheStats))),
    "memstream_info": (c_int, (c_void_p, POINTER(Info))),
    "memstream_processes": (c_int, (c_void_p, POINTER(Process), c_size_t, POINTER(c_size_t))),
    "memstream_check": (c_int, (c_void_p, POINTER(c_uint64))),
    "memstream_repair": (c_int, (c_void_p, POINTER(RepairReport))),
    "memstream_metrics": (c_int, (c_void_p, POINTER(Metrics))),
    "memstream_usage": (c_int, (c_void_p, POINTER(Usage))),
    "memstream_lock_holders": (c_int, (c_void_p, POINTER(LockHolder), c_size_t, POINTER(c_size_t))),
    "memstream_trace": (c_int, (c_void_p, POINTER(Trace), POINTER(Access), c_size_t, POINTER(c_size_t))),
    "memstream_reap": (c_int, (c_void_p, POINTER(ReapReport))),
    "memstream_resize": (c_int, (c_void_p, c_uint64, POINTER(ResizeReport))),
    "memstream_hot_keys": (c_int, (c_void_p, POINTER(Entry), c_size_t, POINTER(c_size_t))),
    "memstream_tag": (c_int, (*_KEY, POINTER(Tags))),
    "memstream_store_tagged": (c_int, (*_KEY, *_VALUE, c_int, c_uint64, POINTER(Tags))),
    "memstream_invalidate": (c_int, _KEY),
    "memstream_invalidations": (c_int, (c_void_p, POINTER(c_uint64))),
    "memstream_entry_has_tags": (c_int, (POINTER(Entry),)),
    "memstream_watch": (c_int, (*_KEY, POINTER(c_void_p))),
    "memstream_watch_fd": (c_int, (c_void_p,)),
    "memstream_watch_next": (c_int, (c_void_p, c_char_p, POINTER(c_size_t), c_uint64)),
    "memstream_watch_end": (c_int, (POINTER(c_void_p),)),
    "memstream_bucket_bound": (c_uint64, (c_size_t,)),
    "memstream_backend_name": (c_char_p, (c_size_t,)),
    "memstream_segments": (c_int, (c_char_p, POINTER(Segment), c_size_t, c_size_t, POINTER(c_size_t))),
}


def declare(library: ctypes.CDLL) -> None:
    """Gives every function of `library` that the package uses its prototype.

    Args:
        library: libcache.so, as loaded by ctypes.

    Raises:
        AttributeError: the library lacks a function; the text names it.
    """
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = tuple(arguments)
