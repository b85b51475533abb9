"""dogpile.cache's region in shared memory.

    region = make_region().configure(
        "memstream",                                # After `import memstream.dogpile`, or with the package installed.
        expiration_time=60,
        arguments={"name": "site", "size": 512 * 1024 * 1024},
    )

One process of many makes a value that is missing or expired; when it is killed, another one does. The lock that sees to
it is a lease of the cache.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Dict, List, Mapping, Optional, Sequence

from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex
from dogpile.cache.region import register_backend

from memstream._core.arguments import milliseconds
from memstream._shared import SharedCache, bounded_key
from memstream.errors import CacheGone
from memstream.leases import Lease

_LOCK = "dogpile-lock:"


class MemStreamBackend(BytesBackend):
    """A backend of dogpile.cache; its methods are those of dogpile's documentation."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Makes the backend; the segment is opened at the first use.

        Args:
            arguments: those of `memstream.Cache`, `name` among them; `ttl`, the seconds after which a value is dropped,
                which should be more than the region's expiration_time: None or absent: for ever; `lock_timeout`, the
                seconds after which another creator may take the lock: None or absent: when its holder has ended.
        """
        options: Dict[str, Any] = dict(arguments)
        self._ttl: Optional[float] = options.pop("ttl", None)
        self._lock_timeout: Optional[float] = options.pop("lock_timeout", None)
        milliseconds(self._lock_timeout)  # Refuses what is no time now, and not at the first lock.
        self._shared = SharedCache(options.pop("name", None), options)

    def get_mutex(self, key: str) -> CacheMutex:
        """Returns the lock of a key, which all processes share.

        Args:
            key: the key, as dogpile has it.

        Returns:
            The lock, which nobody has acquired yet.

        Source: memstream_lease.
        """
        return Mutex(self._shared, bounded_key(_LOCK + key), self._lock_timeout)

    def get_serialized(self, key: str) -> Any:
        """Returns a value.

        Args:
            key: the key, as dogpile has it.

        Returns:
            The bytes, or NO_VALUE.

        Source: memstream_get.
        """
        return self._shared.call("get", bounded_key(key), NO_VALUE)

    def get_serialized_multi(self, keys: Sequence[str]) -> List[Any]:
        """Returns the values of several keys.

        Args:
            keys: the keys, as dogpile has them.

        Returns:
            A list of bytes and NO_VALUEs.

        Source: memstream_get_many.
        """
        names = [bounded_key(key) for key in keys]
        found = self._shared.call("get_many", names)
        return [found.get(name, NO_VALUE) for name in names]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Stores a value.

        Args:
            key: the key, as dogpile has it.
            value: its bytes.

        Source: memstream_set.
        """
        self._shared.call("set", bounded_key(key), value, self._ttl)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Stores values.

        Args:
            mapping: from keys to bytes.

        Source: memstream_set_many.
        """
        self._shared.call("set_many", {bounded_key(key): value for key, value in mapping.items()}, self._ttl)

    def delete(self, key: str) -> None:
        """Removes a key, if it is there.

        Args:
            key: the key, as dogpile has it.

        Source: memstream_delete.
        """
        self._shared.call("delete", bounded_key(key))

    def delete_multi(self, keys: Sequence[str]) -> None:
        """Removes those of the keys that are there.

        Args:
            keys: the keys, as dogpile has them.

        Source: memstream_delete_many.
        """
        self._shared.call("delete_many", [bounded_key(key) for key in keys])


class Mutex(CacheMutex):
    """A lock among all threads of all processes, which a dead holder does not keep."""

    def __init__(self, shared: SharedCache, key: bytes, timeout: Optional[float] = None) -> None:
        self._shared = shared
        self._key = key
        self._timeout = timeout
        self._lease: Optional[Lease] = None

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lock.

        Args:
            wait: whether to wait for it.

        Returns:
            Whether it was taken; with `wait`, True.

        Source: memstream_lease, memstream_lease_wait.
        """
        while True:
            lease = self._shared.call("lease", self._key, duration=self._timeout)
            if lease is not None:
                self._lease = lease
                return True
            if not wait:
                return False
            self._shared.call("wait_for_lease", self._key)

    def release(self) -> None:
        """Gives the lock back. Source: memstream_lease_release."""
        lease, self._lease = self._lease, None
        if lease is not None:
            with suppress(CacheGone):  # Somebody has destroyed the segment: the lock has gone with it.
                lease.release()

    def locked(self) -> bool:
        """Tells whether anybody holds the lock.

        Returns:
            Whether a caller holds it.

        Source: memstream_lease.
        """
        lease = self._shared.call("lease", self._key)
        if lease is None:
            return True
        lease.release()
        return False


register_backend("memstream", "memstream.dogpile", "MemStreamBackend")
