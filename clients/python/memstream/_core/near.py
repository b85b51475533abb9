"""libmemstream_near.so as ctypes sees it: what near/memstream_near.h says, field by field and in its order.

It stands beside libcache.so, where it was built with hiredis. The agent runs in a thread of its own in there, without
the interpreter's lock.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

from memstream._core.abi import Status
from memstream._core.errors import ClosedError, LibraryError, error_of
from memstream._core.handle import Handle
from memstream._core.library import SONAME as CACHE_SONAME

FILE_NAME = "libmemstream_near.so"
SONAME = "libmemstream_near.so.1"

FETCH = 100
HELD = 101
REDIS_SAYS_NO = (-200, -201)  # Unreachable, refused.
NO_AGENT = 1
CLUSTER = 4


class Options(ctypes.Structure):
    """`memstream_near_options_t`."""

    _fields_ = [
        ("struct_size", c_uint64),
        ("redis", c_char_p),
        ("user", c_char_p),
        ("password", c_char_p),
        ("prefixes", POINTER(c_char_p)),
        ("prefix_count", c_uint64),
        ("max_lag_ms", c_uint64),
        ("local_ttl_ms", c_uint64),
        ("absent_ttl_ms", c_uint64),
        ("timeout_ms", c_uint64),
        ("flags", c_uint64),
    ]


class RawStats(ctypes.Structure):
    """`memstream_near_stats_t`."""

    _fields_ = [
        ("struct_size", c_uint64),
        ("hits", c_uint64),
        ("fetches", c_uint64),
        ("fills", c_uint64),
        ("conflicts", c_uint64),
        ("merged", c_uint64),
        ("bypasses", c_uint64),
        ("stale", c_uint64),
        ("errors", c_uint64),
        ("subscriptions", c_uint64),
        ("lag_ms", c_uint64),
        ("invalidations", c_uint64),
        ("epochs", c_uint64),
        ("agent_pid", c_uint32),
        ("is_agent", c_uint32),
    ]


class Fill(ctypes.Structure):
    """`memstream_near_fill_t`."""

    _fields_ = [
        ("token", c_uint64),
        ("lease", c_uint64),
        ("begun_ns", c_uint64),
        ("may_store", c_uint32),
        ("reserved", c_uint32),
    ]


_KEY = (c_void_p, c_char_p, c_size_t)
_PROTOTYPES = {
    "open": (c_int, (c_void_p, POINTER(Options), POINTER(c_void_p))),
    "close": (c_int, (c_void_p,)),
    "begin": (c_int, (*_KEY, c_void_p, POINTER(c_size_t), POINTER(Fill))),
    "get": (c_int, (*_KEY, c_void_p, POINTER(c_size_t))),
    "try": (c_int, (*_KEY, c_void_p, POINTER(c_size_t), POINTER(Fill))),
    "peek": (c_int, (*_KEY, c_void_p, POINTER(c_size_t))),
    "peek_stale": (c_int, (*_KEY, c_void_p, POINTER(c_size_t))),
    "store": (c_int, (*_KEY, c_char_p, c_size_t, c_int64, POINTER(Fill))),
    "store_absent": (c_int, (*_KEY, POINTER(Fill))),
    "abandon": (c_int, (*_KEY, POINTER(Fill))),
    "invalidate": (c_int, _KEY),
    "stats": (c_int, (c_void_p, POINTER(RawStats))),
    "last_error": (c_char_p, ()),
    "agent_error": (c_char_p, (c_void_p,)),
}


class Functions(NamedTuple):
    """The functions of the library, named after `memstream_near_`."""

    open: Any
    close: Any
    begin: Any
    get: Any
    begin_unless_held: Any
    peek: Any
    peek_stale: Any
    store: Any
    store_absent: Any
    abandon: Any
    invalidate: Any
    stats: Any
    last_error: Any
    agent_error: Any


@lru_cache(maxsize=None)
def load(cache_path: str) -> Functions:
    """Loads the library that stands beside that libcache.so.

    Raises:
        LibraryError: there is none, or it cannot be loaded.
    """
    path = SONAME if cache_path == CACHE_SONAME else str(Path(cache_path).with_name(FILE_NAME))
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        remedy = "Install hiredis (Debian: libhiredis-dev) and run scripts/build.sh, which puts it beside libcache.so"
        raise LibraryError(f"cannot load {path}: {error}. {remedy}") from None
    functions = []
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, f"memstream_near_{name}")
        function.restype, function.argtypes = result, arguments
        functions.append(function)
    return Functions(*functions)


class _OpenNear(c_void_p):
    """A `memstream_near_t *` that is closed when nothing refers to it any more; a call that is under way does."""

    def __init__(self, functions: Functions, cache: Handle) -> None:
        super().__init__()
        self._end, self._cache = functions.close, cache

    def __del__(self) -> None:
        if self:
            self._end(self)


class NearHandle:
    """An open near cache. It keeps the cache beneath it open.

    Attributes:
        c: the functions of the library.
        pointer: what they take; None once it was closed.
    """

    def __init__(self, functions: Functions, cache: Handle, options: Options, prefixes: Sequence[bytes]) -> None:
        self.c = functions
        texts = (c_char_p * len(prefixes))(*prefixes)
        options.struct_size, options.prefixes, options.prefix_count = ctypes.sizeof(Options), texts, len(prefixes)
        opened = _OpenNear(functions, cache)
        self.pointer: Optional[_OpenNear] = opened
        self.check(functions.open(cache, options, opened))

    def check(self, status: int) -> None:
        """Raises the exception of a status below 0, with the message of the call that has just failed."""
        if status < 0:
            if self.pointer is None:
                raise ClosedError(Status.NOT_CONNECTED, "This near cache was closed. Open a new one.")
            raise error_of(status, self.c.last_error().decode("utf-8", "replace"))

    def close(self) -> None:
        """Stops the agent, if it is one of this process, as soon as no other thread is in a call. Twice is fine."""
        self.pointer = None
