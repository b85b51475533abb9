"""Decoded objects that one process keeps in front of a shared cache, until they change there."""

from __future__ import annotations

import os
import threading
from itertools import islice
from time import monotonic, time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union
from weakref import WeakSet, finalize

from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, encode_key, encode_prefix, invalid, whole_number
from memstream._core.blocks import EndedByBlock
from memstream._core.connection import miss
from memstream._core.errors import ClosedError, InvalidArgument, MemStreamError
from memstream._core.waiting import readable
from memstream.cache import Cache
from memstream.tags import Tagged
from memstream.watches import Watch

_MISSING: Any = object()
_NEVER = float("inf")

# Seconds. The cache translates an expiry to Unix time with an error of up to 54 ms, and `_Clock` adds one of up to 50.
_CLOCK_ERROR = 0.12
_LEAST_STEP = 0.05
# The cache looks every quarter of a second whether the wall clock was set.
_CLOCK_PAUSE = 0.5

# A full store drops one part in ten at a time: to find the oldest value takes as long as to find many.
_PARTS = 10

_ABSENT = 0  # In place of the token of an entry.


class _Expiring:
    """A value with its expiry, on the clock of `time.monotonic`."""

    __slots__ = ("value", "until")

    def __init__(self, value: Any, until: float) -> None:
        self.value = value
        self.until = until


class _Clock:
    """Translates an expiry from Unix time, in which the cache tells it, to the clock that nobody sets."""

    def __init__(self) -> None:
        self._offset = time() - monotonic()
        self._unsettled_until = 0.0

    def until(self, expires_at: float) -> float:
        """Returns until when a value may be kept, at the latest: a little before it expires. 0: it may not."""
        now = monotonic()
        offset = time() - now
        if abs(offset - self._offset) > _LEAST_STEP:  # The wall clock was set. The cache may not know it yet.
            self._unsettled_until = now + _CLOCK_PAUSE
        self._offset = offset
        return 0.0 if now < self._unsettled_until else expires_at - offset - _CLOCK_ERROR


class _Reading:
    """Threads that are reading one key at the same time."""

    __slots__ = ("readers", "token")

    def __init__(self) -> None:
        self.readers = 0
        self.token: Optional[int] = None  # Of what the first of them found.


class _FollowedWatch(Watch):
    """A watch that ends when its follower has ended, also where the cache ends it."""

    stop: Callable[[], None]

    def close(self) -> None:
        """Ends the follower, which ends the watch."""
        self.stop()

    def end(self) -> None:
        """Ends the watch."""
        super().close()

    def take_each(self) -> Iterator[Optional[bytes]]:
        """Takes what has changed, key by key.

        Raises:
            CacheGone: the segment was destroyed.
        """
        told: List[Optional[bytes]] = []
        while (status := self._ask(told)) == Status.OK:
            yield told.pop()
        if status != Status.MISS:
            self.cache._connection.fail(status)


class _Store:
    """The values that a process keeps, and the thread that drops those that change.

    A value is kept in three steps: `begin` notes that its key is being read, the shared cache is read, and `finish`
    keeps the value if the note is still there. A change before the read is in the value. A change after it takes away
    the note or the value. So a value of before never stays.

    No caller sees a value older than one that a caller got before. Of threads that read a key at the same time, all
    have to find the same entry: otherwise none of them keeps what it found.

    It does not know the LocalCache, which ends when nothing refers to it any more.

    Attributes:
        values: by key as the caller writes it, str or bytes. `get` looks into it without the lock.
        has_ended: whether nobody tells any more what changes. Nothing is kept then.
        misses, invalidations: as in LocalInfo.
    """

    def __init__(self, watch: _FollowedWatch, maxsize: int) -> None:
        self.values: Dict[Key, Any] = {}
        self.has_ended = False
        self.misses = 0
        self.invalidations = 0
        self._watch = watch
        self._maxsize = maxsize
        self._process = os.getpid()
        # Guards all but single look-ups in `values`. While a thread has it, a signal handler or a destructor may use
        # the same cache in that thread.
        self._lock = threading.RLock()
        self._reading: Dict[bytes, _Reading] = {}
        self._clock = _Clock()
        self._stop_reader, self._stop_writer = os.pipe()
        watch.stop = self.stop
        self._thread = threading.Thread(target=self._follow, name="memstream-local", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self.has_ended = True
            self.close_pipe()
            watch.end()
            raise

    # ---- values ----

    def begin(self, name: bytes) -> Union[_Reading, _Expiring]:
        """Notes that a key is being read.

        Args:
            name: the key as bytes.

        Returns:
            The note. Its value instead, if another thread or another spelling of the key has brought it meanwhile.
        """
        with self._lock:
            for spelling in _spellings(name):
                value = self.values.get(spelling, _MISSING)
                found = value if type(value) is _Expiring else _Expiring(value, _NEVER)
                if value is not _MISSING and monotonic() < found.until:
                    return found
            self._drop(name)
            self.misses += 1
            reading = self._reading.setdefault(name, _Reading())
            reading.readers += 1
            return reading

    def finish(self, key: Key, name: bytes, reading: _Reading, value: Any, token: int, expires_at_ms: int) -> None:
        """Keeps what was read, if that is still right.

        Args:
            key: as the caller writes it.
            name: the same as bytes.
            reading: what `begin` returned.
            value: what was read.
            token: of the entry; _ABSENT: there is none, and nothing to keep.
            expires_at_ms: Unix time; 0: never.
        """
        with self._lock:
            try:
                is_current = self._reading.get(name) is reading
                if not is_current or reading.token not in (None, token):
                    self.forget(name)
                elif reading.token is None:
                    reading.token = token
                    if token != _ABSENT and not self.has_ended:
                        self._keep(key, value, expires_at_ms)
                        if self._reading.get(name) is not reading:  # A signal handler has set the key in between.
                            self._drop(name)
            finally:
                self.give_up(name, reading)

    def give_up(self, name: bytes, reading: _Reading) -> None:
        """Takes back the note of `begin`."""
        with self._lock:
            reading.readers -= 1
            if reading.readers == 0 and self._reading.get(name) is reading:
                del self._reading[name]

    def _keep(self, key: Key, value: Any, expires_at_ms: int) -> None:
        if not expires_at_ms:
            self._put(key, value)
        elif (until := self._clock.until(expires_at_ms / 1000)) > monotonic():
            self._put(key, _Expiring(value, until))

    def _put(self, key: Key, value: Any) -> None:
        if key not in self.values and len(self.values) >= self._maxsize:
            for oldest in list(islice(self.values, max(1, self._maxsize // _PARTS))):
                self.values.pop(oldest, None)  # The destructor of one value may drop another.
        self.values[key] = value

    def forget(self, name: bytes) -> int:
        """Drops a key, and what is being read of it. Returns how many values that were."""
        with self._lock:
            self._reading.pop(name, None)
            return self._drop(name)

    def _drop(self, name: bytes) -> int:
        return sum(self.values.pop(spelling, _MISSING) is not _MISSING for spelling in _spellings(name))

    def clear(self) -> int:
        """Drops everything, and what is being read. Returns how many values that were."""
        with self._lock:
            count = len(self.values)
            self._reading.clear()
            self.values.clear()
            return count

    # ---- changes ----

    def _follow(self) -> None:
        try:
            descriptors = [self._watch.fileno(), self._stop_reader]
            while self._stop_reader not in readable(descriptors):
                for name in self._watch.take_each():
                    self.invalidations += self.clear() if name is None else self.forget(name)
                    if self.has_ended:  # Others may change keys without a pause.
                        break
        except MemStreamError:
            pass  # The segment was destroyed. The next read of it says so.
        finally:
            self._end()
            self._watch.end()
            self.close_pipe()

    def _end(self) -> bool:
        """Keeps nothing from now on. Returns whether it did before."""
        with self._lock:
            has_kept, self.has_ended = not self.has_ended, True
            self.clear()
            return has_kept

    def stop(self) -> None:
        """Ends the thread and with it the watch. In a forked child nothing: they are the parent's."""
        if self._process != os.getpid():
            return
        with self._lock:
            if self._end():
                os.write(self._stop_writer, b"s")
        # A signal handler may run in a thread that has the lock, and the other thread needs it for its end.
        holds_lock = self._lock._is_owned()  # type: ignore[attr-defined]
        if threading.current_thread() is not self._thread and not holds_lock:
            self._thread.join()

    def close_pipe(self) -> None:
        """Closes the descriptors that wake the thread."""
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def leave_to_parent(self) -> None:
        """Lets go of what a forked child has of it. The lock may be that of a thread which the child does not have."""
        self._lock = threading.RLock()
        if not self.has_ended:
            self.close_pipe()


class LocalInfo(NamedTuple):
    """What a LocalCache counts, in this process since it was made, and its size. Without a lock: in busy threads a hit
    may be missing.
    """

    hits: int
    """Values that were found here."""
    misses: int
    """Values that the shared cache was asked for, of keys under the prefix."""
    invalidations: int
    """Values that were dropped because they changed, or may have changed, in the shared cache."""
    size: int
    """Values that are kept now; one that has expired counts until something drops it."""
    maxsize: int
    """The most that are kept."""


class LocalCache(EndedByBlock):
    """Values of a shared cache that this process keeps decoded, until any process changes them. Made by `local`.

    A hit costs about as much as a look-up in a dict. Callers get the same object each time, and share it: do not change
    it. Change a copy, and `set` that.

    A value is dropped when its key is stored, deleted, evicted, touched, or invalidated by a tag. This process learns
    of it within about a millisecond, and in threads that compute all the time within some intervals of
    `sys.getswitchinterval()`, each 5 ms. Until then `get` may return the value before. It never returns an older value
    than before, none older than the last `set` or `delete` of this object, and none after its expiry.

    Use it from any thread and any coroutine: `get` never waits for longer than `Cache.get`. A forked child keeps
    nothing of its parent's values and begins a watch of its own.

    Attributes:
        cache: the shared cache.
        prefix: what the keys begin with that are kept, as bytes.
    """

    def __init__(self, cache: Cache, prefix: bytes, maxsize: int) -> None:
        """Begins to watch the cache."""
        self.cache = cache
        self.prefix = prefix
        self._maxsize = maxsize
        self._is_closed = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Begins with nothing kept, and without a watch."""
        self._store: Optional[_Store] = None
        self._values: Dict[Key, Any] = {}
        self._hits = 0
        self._starting = threading.RLock()  # A signal handler may use this cache too.

    def _start(self) -> _Store:
        """Returns the store; starts it in the first call of a process."""
        store = self._store
        if store is None:
            with self._starting:
                if self._is_closed:
                    raise ClosedError(Status.NOT_CONNECTED, "This local cache was closed. Make another one.")
                store = self._store
                if store is None:
                    store = _Store(_FollowedWatch(self.cache, self.prefix), self._maxsize)
                    finalize(self, store.stop)
                    self._store, self._values = store, store.values
        return store

    def get(self, key: Key, default: Any = None) -> Any:
        """Returns the value of `key`, or `default` if it is not there.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            default: what a miss returns. A miss is not kept.

        Returns:
            The value: the same object for all callers. Do not change it.

        Raises:
            ClosedError: this cache or the shared one was closed.
            Those of `Cache.get`.
        """
        try:
            value = self._values[key]
            if type(value) is not _Expiring:
                self._hits += 1
                return value
            if monotonic() < value.until:
                self._hits += 1
                return value.value
        except (KeyError, TypeError):  # The latter: a list, for instance, whose error tells more below.
            pass
        return self._read(key, default)

    def _read(self, key: Key, default: Any) -> Any:
        store = self._start()
        name = encode_key(key)
        if not name.startswith(self.prefix):
            return self.cache.get(key, default)
        if key.__class__ is not str:
            key = name
        reading = store.begin(name)
        if isinstance(reading, _Expiring):
            self._hits += 1
            return reading.value
        try:
            found = self.cache._connection.read(name)
            # A copy: the memory of a large array is a view, which would keep room of the shared cache.
            value = default if found is None else self.cache._codec.unpack(key, bytes(found.memory), found.flags)
        except BaseException:
            store.give_up(name, reading)
            raise
        token, expires_at_ms = (_ABSENT, 0) if found is None else (found.token, found.expires_at_ms)
        store.finish(key, name, reading, value, token, expires_at_ms)
        return value

    def __getitem__(self, key: Key) -> Any:
        """Returns the value; raises CacheMiss, which is a KeyError, if the key is not there."""
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise miss(key)
        return value

    def __contains__(self, key: object) -> bool:
        """Returns whether the key is there. An object that cannot be a key is not there."""
        if not isinstance(key, (str, bytes)):
            return False
        value = self._values.get(key, _MISSING)
        is_here = value is not _MISSING and (type(value) is not _Expiring or monotonic() < value.until)
        return is_here or key in self.cache

    def set(self, key: Key, value: Any, ttl: Optional[Duration] = None, flags: int = 0, *, tags: Tagged = None) -> None:
        """Stores a value in the shared cache. The next `get` in this process returns what a reader of that gets.

        Args:
            key, value, ttl, flags, tags: as for `Cache.set`.

        Raises:
            Those of `Cache.set`.
        """
        name = encode_key(key)
        try:
            self.cache.set(key, value, ttl, flags, tags=tags)
        finally:  # Also after an error: the value may have been stored.
            self._start().forget(name)

    def __setitem__(self, key: Key, value: Any) -> None:
        self.set(key, value)

    def delete(self, key: Key) -> bool:
        """Removes `key` from the shared cache. The next `get` in this process does not find it.

        Args:
            key: as for `get`.

        Returns:
            Whether it was there.

        Raises:
            Those of `Cache.delete`.
        """
        name = encode_key(key)
        try:
            return self.cache.delete(key)
        finally:
            self._start().forget(name)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise miss(key)

    def clear(self) -> None:
        """Drops what this process keeps, and leaves the shared cache alone.

        Raises:
            ClosedError: this cache was closed.
        """
        self._start().clear()

    def info(self) -> LocalInfo:
        """Returns counts of this process.

        Returns:
            Hits, misses and others, as they are now.

        Raises:
            ClosedError: this cache was closed.
        """
        store = self._start()
        return LocalInfo(self._hits, store.misses, store.invalidations, len(store.values), self._maxsize)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def close(self) -> None:
        """Drops what this process keeps, and ends the watch. The shared cache stays open. Closing twice is fine."""
        with self._starting:
            self._is_closed = True
            store, self._store, self._values = self._store, None, {}
        if store is not None:
            store.stop()

    def _end_block(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<memstream.LocalCache of {self.cache!r}{', closed' if self._is_closed else ''}>"

    def _leave_to_parent(self) -> None:
        """Begins in a forked child."""
        if self._store is not None:
            self._store.leave_to_parent()
        self._begin()


def local(cache: Cache, prefix: Optional[Key] = None, maxsize: int = 10_000) -> LocalCache:
    """Makes a cache of decoded objects in this process, in front of a shared one.

        settings = memstream.local(Cache("settings", serializer="pickle"), prefix="config:")
        settings.get("config:colors")           # From this process's memory, until any process changes it.

    Args:
        cache: the shared cache, of at least 16 MiB, and not opened with `read_only=True`.
        prefix: keep only keys that begin with this, as for `Cache.watch`; None or empty: all. `get` also finds other
            keys, in the shared cache.
        maxsize: the most values to keep, above 0. A full one drops those that it has kept for longest.

    Returns:
        The local cache. It has a watch and a thread. These end with its with block, with `cache`, and when nothing
        refers to it any more.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgument: `prefix` is a pattern, `maxsize` is not above 0, or the segment is smaller than 16 MiB.
        ReadOnlyError, UnavailableError: as for `Cache.watch`.

    Source: memstream_watch, memstream_watch_next.
    """
    if not isinstance(cache, Cache):
        raise TypeError(invalid("cache", cache, "a Cache", "Open one: memstream.Cache(name)"))
    expected, remedy = "a whole number above 0", "Use the shared cache itself to keep nothing"
    if whole_number("maxsize", maxsize, expected) <= 0:
        raise InvalidArgument(Status.INVALID, invalid("maxsize", maxsize, expected, remedy))
    made = LocalCache(cache, encode_prefix(prefix), maxsize)
    made._start()
    return made


def _spellings(name: bytes) -> Tuple[Key, ...]:
    """Returns the keys of a cache that are this name: bytes, and a str if it is UTF-8."""
    try:
        return name, name.decode()
    except UnicodeDecodeError:
        return (name,)


_all: "WeakSet[LocalCache]" = WeakSet()


def _leave_all_to_parent() -> None:
    for each in list(_all):
        each._leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
