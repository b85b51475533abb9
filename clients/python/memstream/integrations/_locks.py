"""A lock among all threads of all processes, with the words of redis-py."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Optional, Set

from memstream._core.blocks import EndedByBlock
from memstream._shared import SharedCache
from memstream.leases import Lease

_PREFIX = b"memstream-lock:"

# What is acquired and not released: a lease ends when nothing refers to it, and a lock must not end with its object.
_held: Set[Lease] = set()


class LockError(RuntimeError):
    """A lock was not to be had in time, or is released by a thread that does not have it."""


class Lock(EndedByBlock):
    """A lock that a dead holder does not keep. Made by `MemStreamCache.lock`; threads may share one object.

    with cache.lock("report", timeout=60):
        ...
    """

    def __init__(
        self,
        shared: SharedCache,
        name: bytes,
        timeout: Optional[float],
        blocking: bool,
        blocking_timeout: Optional[float],
    ) -> None:
        """Makes the lock; takes nothing yet.

        Args:
            shared: where it is.
            name: what it is called; no value of this key is touched.
            timeout: seconds after which another caller may take it; None: as long as the process lives.
            blocking, blocking_timeout: those of `acquire`.
        """
        self._shared = shared
        self._key = _PREFIX + hashlib.sha256(name).digest()
        self._timeout = timeout
        self._blocking = blocking
        self._blocking_timeout = blocking_timeout
        self._mine = threading.local()

    def acquire(self, blocking: Optional[bool] = None, blocking_timeout: Optional[float] = None) -> bool:
        """Takes the lock.

        Args:
            blocking: whether to wait for it; None: as the lock was made.
            blocking_timeout: seconds to wait at most; None: as the lock was made, or as long as it takes.

        Returns:
            Whether it was taken.

        Source: memstream_lease, memstream_lease_wait.
        """
        blocks = self._blocking if blocking is None else blocking
        longest = self._blocking_timeout if blocking_timeout is None else blocking_timeout
        deadline = None if longest is None else time.monotonic() + longest
        while True:
            lease = self._shared.call("lease", self._key, None, self._timeout)
            if lease is not None:
                _held.add(lease)
                self._mine.lease = lease
                return True
            remaining = None if deadline is None else deadline - time.monotonic()
            if not blocks or (remaining is not None and remaining <= 0):
                return False
            self._shared.wait_for_lease(self._key, remaining)

    def release(self) -> None:
        """Gives the lock back. Source: memstream_lease_release.

        Raises:
            LockError: this thread has not acquired it.
        """
        lease: Optional[Lease] = getattr(self._mine, "lease", None)
        if lease is None:
            raise LockError("Cannot release a lock that this thread has not acquired. Acquire it first")
        self._mine.lease = None
        _held.discard(lease)
        lease.release()

    def owned(self) -> bool:
        """Tells whether this thread has acquired the lock, and not released it.

        Returns:
            Whether it has.
        """
        return getattr(self._mine, "lease", None) is not None

    def locked(self) -> bool:
        """Tells whether anybody holds the lock.

        Returns:
            Whether a caller holds it.

        Source: memstream_lease.
        """
        lease = self._shared.call("lease", self._key, None, self._timeout)
        if lease is None:
            return True
        lease.release()
        return False

    def __enter__(self) -> "Lock":
        if not self.acquire():
            raise LockError("Unable to acquire the lock in time. Give it a longer blocking_timeout")
        return self

    def _end_block(self) -> None:
        self.release()
