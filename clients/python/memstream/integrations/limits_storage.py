"""A storage of the package `limits`, and so of Flask-Limiter, that all processes of a machine share.

    app.config["RATELIMIT_STORAGE_URI"] = "memstream://site"    # After `import memstream.limits_storage`.

Counters and windows are entries of the cache. A cache that is full may evict them, and a key that is evicted has all of
its rate again: give the storage a cache of its own name.
"""

from __future__ import annotations

import struct
import time
from typing import Any, List, Optional, Tuple
from urllib.parse import urlsplit

from limits.storage import MovingWindowSupport, Storage

from memstream._shared import SharedCache, bounded_key
from memstream.cache import Cache
from memstream.errors import MemStreamError

_PREFIX = "limits:"
_COUNTER = _PREFIX + "c:"
_WINDOW = _PREFIX + "w:"


class MemStreamStorage(Storage, MovingWindowSupport):
    """Counters and moving windows in shared memory; its methods are those of the documentation of `limits`.

    Every change is one step: requests of other processes are neither lost nor counted twice, also if a process is
    killed.
    """

    STORAGE_SCHEME = ["memstream"]

    def __init__(self, uri: Optional[str] = None, **options: Any) -> None:
        """Makes the storage; the segment is opened at the first use.

        Args:
            uri: "memstream://NAME" with the name of the cache; without one, the environment's.
            options: those of `memstream.Cache`, but `serializer`.
        """
        super().__init__(uri, **options)
        name = urlsplit(uri).netloc if uri else ""
        self._shared = SharedCache(name or None, {**options, "serializer": None}, "limits_storage")

    @property
    def memstream(self) -> Cache:
        """The `memstream.Cache` behind this one, open."""
        return self._shared.cache

    def incr(self, key: str, expiry: int, elastic_expiry: bool = False, amount: int = 1) -> int:
        """Adds to a counter.

        Args:
            key: of the limit.
            expiry: seconds that a new counter lives.
            elastic_expiry: whether it lives for so long from each call on.
            amount: to add.

        Returns:
            The new count.

        Raises:
            Those of `Cache.incr`.

        Source: memstream_incr, memstream_touch.
        """
        name = bounded_key(_COUNTER + key)
        count = self._shared.incr(name, amount, 0, expiry)
        if elastic_expiry and count != amount:
            self._shared.touch(name, expiry)
        return count

    def get(self, key: str) -> int:
        """Returns a counter.

        Args:
            key: of the limit.

        Returns:
            The count; 0 if there is none.

        Source: memstream_get.
        """
        return int(self._shared.call("get", bounded_key(_COUNTER + key), b"0"))

    def get_expiry(self, key: str) -> int:
        """Returns when a counter ends.

        Args:
            key: of the limit.

        Returns:
            Seconds since 1970; now if there is no counter.

        Source: memstream_entry_info.
        """
        entry = self._shared.call("entry", bounded_key(_COUNTER + key))
        return int(time.time() if entry is None or entry.expires_at is None else entry.expires_at)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Enters requests into a moving window, if it has room for all of them.

        Args:
            key: of the limit.
            limit: requests in a window.
            expiry: seconds of a window.
            amount: requests to enter.

        Returns:
            Whether they were entered.

        Raises:
            Those of `Cache.cas`.

        Source: memstream_get, memstream_cas, memstream_add.
        """
        name = bounded_key(_WINDOW + key)
        while True:
            now = time.time()
            window, token = self._window(name, now - expiry)
            if len(window) + amount > limit:
                return False
            packed = _pack([now] * amount + window)
            if self._shared.call("cas", name, packed, token, expiry + 1):
                return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> Tuple[int, int]:
        """Describes a moving window.

        Args:
            key: of the limit.
            limit: requests in a window.
            expiry: seconds of a window.

        Returns:
            When its latest request was, in seconds since 1970, or now if there is none; and how many there are.

        Source: memstream_get.
        """
        now = time.time()
        window, _ = self._window(bounded_key(_WINDOW + key), now - expiry)
        return int(window[0] if window else now), len(window)

    def _window(self, name: bytes, since: float) -> Tuple[List[float], Optional[int]]:
        """Returns the instants of a window since another one, the latest first, and the token of the entry."""
        packed, token = self._shared.call("gets", name)
        instants = [] if packed is None else _unpack(packed)
        return [instant for instant in instants if instant >= since], token

    def check(self) -> bool:
        """Tells whether the cache can be used.

        Returns:
            Whether it is open, or could be opened.

        Source: memstream_exists.
        """
        try:
            self._shared.call("exists", _PREFIX.encode())
        except MemStreamError:
            return False
        return True

    def reset(self) -> Optional[int]:
        """Removes all counters and windows, and no other entries.

        Returns:
            How many there were.

        Source: memstream_scan, memstream_delete_many.
        """
        return self._shared.delete_matching(_PREFIX.encode())

    def clear(self, key: str) -> None:
        """Removes a counter and a window.

        Args:
            key: of the limit.

        Source: memstream_delete_many.
        """
        self._shared.call("delete_many", [bounded_key(_COUNTER + key), bounded_key(_WINDOW + key)])


def _pack(instants: List[float]) -> bytes:
    return struct.pack(f"<{len(instants)}d", *instants)


def _unpack(packed: bytes) -> List[float]:
    return list(struct.unpack(f"<{len(packed) // 8}d", packed))
