"""Waiting until one key changes, and watching which keys under a prefix do, in whatever process."""

from __future__ import annotations

import ctypes
from collections import deque
from ctypes import byref, c_size_t, c_void_p
from typing import Deque, List, Optional, Protocol, TypeVar

from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, encode_prefix, milliseconds, seconds
from memstream._core.blocks import EndedByBlock
from memstream._core.connection import Connection
from memstream._core.errors import ClosedError
from memstream._core.ownership import Owned, all_owned
from memstream._core.waiting import LONGEST_SLICE, cooperative_sleep, pauses, readable, until_readable
from memstream.changes import wait_for_change

_Self = TypeVar("_Self", bound="Watch")

_MAX_KEY_SIZE = 1024


class WatchOwner(Protocol):
    """What a watch needs of its Cache."""

    _connection: Connection


class Watch(EndedByBlock, Owned):
    """Keys under a prefix that change. Made by `Cache.watch`; belongs to the process that made it.

    Iterate over it, with `for` or `async for`, for the keys as bytes, each as soon as it has changed. None means: look
    again, any key under the prefix may have changed. This follows an invalidated tag, a resize, a repair after a killed
    writer, and more changes than can be named. A key that changes often comes once, until you have taken it.

    One thread or task at a time may use it. A child of fork begins a watch of its own.

    Attributes:
        cache: the one that it is of.
        prefix: what the keys begin with, as bytes.
    """

    def __init__(self, cache: WatchOwner, prefix: bytes) -> None:
        """Begins to watch."""
        self.cache = cache
        self.prefix = prefix
        self._connection = connection = cache._connection
        self._watch = c_void_p()  # NULL: there is none, or it has ended.
        self._told: Deque[Optional[bytes]] = deque()
        self._key = ctypes.create_string_buffer(_MAX_KEY_SIZE)
        super().__init__(connection.library.ends["memstream_watch_end"], byref(self._watch))
        function = connection.library.c.memstream_watch
        connection.check(function(connection.handle, prefix, len(prefix), byref(self._watch)))

    def fileno(self) -> int:
        """Returns a descriptor that is readable while there is something to take, for select, poll and event loops.

        Returns:
            The descriptor. Do not read from it; call `pending`.

        Raises:
            ClosedError: the watch has ended.

        Source: memstream_watch_fd.
        """
        descriptor: int = self._connection.library.c.memstream_watch_fd(self._watch)
        if descriptor < 0:
            raise _closed()
        return descriptor

    def pending(self) -> List[Optional[bytes]]:
        """Takes what has changed, and waits for nothing.

        Returns:
            Keys, and None for "look again"; empty: nothing has changed.

        Raises:
            ClosedError: the watch has ended.
            CacheGone: the segment was destroyed, or this process is a child of the one that made the watch.

        Source: memstream_watch_next.
        """
        told = list(self._told)
        self._told.clear()
        while (status := self._ask(told)) == Status.OK:
            pass
        if status != Status.MISS and not told:
            self._connection.fail(status)
        return told

    def _ask(self, told: List[Optional[bytes]]) -> int:
        """Adds the next key to `told`, if there is one."""
        if not self._watch:
            raise _closed()
        size = c_size_t(_MAX_KEY_SIZE)
        function = self._connection.library.c.memstream_watch_next
        status: int = function(self._watch, self._key, byref(size), 0)
        if status == Status.OK:
            told.append(self._key.raw[: size.value] if size.value else None)
        return status

    def wait(self, timeout: Optional[Duration] = None) -> bool:
        """Waits until there is something to take.

        Signals are handled meanwhile. Under gevent and eventlet the other greenlets of the thread go on.

        Args:
            timeout: seconds, above 0; None: as long as it takes.

        Returns:
            Whether there is; False at the timeout.

        Raises:
            ClosedError: the watch has ended.
        """
        milliseconds(timeout, "timeout")  # Refuses what is no time.
        sleep = cooperative_sleep()
        for pause in pauses(seconds(timeout, "timeout"), LONGEST_SLICE if sleep is None else None):
            if self._is_ready(0 if sleep is not None else pause):
                return True
            if sleep is not None:
                sleep(pause)
        return self._is_ready(0)

    def _is_ready(self, wait: float) -> bool:
        if self._told:
            return True
        return bool(readable([self.fileno()], wait))

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> Optional[bytes]:
        while not self._told:
            self.wait()
            self._told.extend(self.pending())
        return self._told.popleft()

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Optional[bytes]:
        while not self._told:
            self._told.extend(self.pending())
            if not self._told:
                await until_readable(self.fileno())
        return self._told.popleft()

    @property
    def closed(self) -> bool:
        """Whether the watch has ended."""
        return not self._watch

    def close(self) -> None:
        """Ends the watch. Closing twice is fine. Source: memstream_watch_end."""
        if self.is_ours:
            self.give_back(None)

    def _end_block(self) -> None:
        self.close()


class CacheWatches:
    """Waiting for a change of one key, and watching many. A segment of at least 16 MiB has watches."""

    __slots__ = ()

    _connection: Connection

    def wait(self, key: Key, token: Optional[int], timeout: Optional[Duration] = None) -> bool:
        """Waits until the entry of a key changes or goes, in whatever process. A change wakes immediately.

            settings, token = cache.gets("settings")
            while cache.wait("settings", token):
                settings, token = cache.gets("settings")

        Every write is a change, also one of the same value. Several in a row may be noticed as one. Expiry, eviction,
        `clear`, deletes and `invalidate` end the entry; `touch` changes nothing. Signals are handled meanwhile. Under
        gevent and eventlet the other greenlets of the thread go on.

        Args:
            key: as for `get`.
            token: from `gets`, `View.token` or `Entry.token`; None: the key has no entry, wait until it has one.
            timeout: seconds, above 0; None: as long as it takes.

        Returns:
            Whether it has changed; False at the timeout.

        Raises:
            BadKey, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_wait.
        """
        return wait_for_change(self._connection, key, token, timeout)

    def watch(self, prefix: Optional[Key] = None) -> Watch:
        """Watches which keys change, in whatever process.

            with cache.watch("config:") as watch:
                load_all()
                for key in watch:               # In coroutines: async for.
                    load_all() if key is None else load(key)

        A key changes when it is stored, deleted, evicted, cleared or touched. An entry that expires is not named until
        something removes it. The watch begins with this call: what you read after it is not missed.

        Args:
            prefix: only keys that begin with this, as for `scan`; None: all.

        Returns:
            The watch. It has a thread in this process, and ends with its with block or with the cache.

        Raises:
            InvalidArgument: `prefix` is a pattern, or the segment is smaller than 16 MiB.
            ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_watch.
        """
        return Watch(self, encode_prefix(prefix))


def _closed() -> ClosedError:
    return ClosedError(Status.NOT_CONNECTED, "This watch has ended. Begin another one")


def end_watches(cache: WatchOwner) -> None:
    """Ends the watches of a cache that is being closed."""
    for owned in all_owned():
        if isinstance(owned, Watch) and owned.cache is cache:
            owned.close()
