"""What the adapters to other frameworks share: one attachment per process, what they do in trouble, keys of any length.

Frameworks make their cache objects as they please, Django one in each thread; all those with the same options share one
open cache here. It is opened at the first use and lives as long as the process. A forked child goes on with it.

An adapter must not serve an old value after a new one could not be stored: where storing fails, the key is deleted.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
import time
from datetime import timedelta
from operator import methodcaller
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, TypeVar, Union

from memstream._core.abi import MAX_KEY_SIZE
from memstream._core.arguments import Key, shown
from memstream._core.undecodable import collect_undecodable
from memstream.cache import Cache
from memstream.errors import (
    CacheGone,
    CacheMiss,
    MemStreamError,
    NoSegment,
    ReadOnlyError,
    SegmentError,
    SerializerError,
    SystemCallError,
    UnavailableError,
    ValueTooLarge,
)

_T = TypeVar("_T")

# What ignore_errors ignores: the state of the cache or the machine. Wrong arguments and options still raise.
_TROUBLE = (UnavailableError, SegmentError, SystemCallError)

_ABSENT = object()
_DIGEST_SIZE = 64
_HEAD_SIZE = MAX_KEY_SIZE - _DIGEST_SIZE
_DELETE_BATCH = 1000

# Seconds that one call waits for a lease.
_SLICE = 0.05

_open: Dict[Tuple[Any, ...], Cache] = {}


def _tags(tags: Optional[List[Key]]) -> Dict[str, Any]:
    """As options of a call; none for no tags, so that the accelerator serves it."""
    return {} if tags is None else {"tags": tags}


class SharedCache:
    """The process's cache of these options; after the segment was destroyed, a new one.

    `call` is the cache as it is. The methods with a name of their own are what the adapters of frameworks have in
    common; their `seconds` are those to live: None for ever, 0 or less expired at once.
    """

    def __init__(self, name: Optional[str], options: Mapping[str, Any], adapter: str = "adapters") -> None:
        """Notes what to open; opens nothing yet.

        Args:
            name: as for `Cache`.
            options: those of `Cache`, but `serializer` is "pickle" unless it is given; and `ignore_errors`: whether
                trouble is logged and counts as a miss.
            adapter: the adapter's name; its logger is "memstream.<adapter>".
        """
        self._name = name
        self.options = dict(options)
        self.ignore_errors = bool(self.options.pop("ignore_errors", False))
        # Is given texts, no exceptions: a record that somebody keeps would keep the cache open by their frames.
        self.logger = logging.getLogger(f"memstream.{adapter}")
        self.identity = (name, *sorted(self.options.items(), key=lambda item: item[0]))

    @property
    def cache(self) -> Cache:
        """The open cache."""
        found = _open.get(self.identity)
        if found is None:
            # Two threads may both open it: the first one's stays. No lock, which a fork could leave locked for ever.
            found = _open.setdefault(self.identity, self._make_cache(self.options))
        return found

    def try_options(self) -> None:
        """Opens the cache if it is there, makes none, and closes it: raises what is wrong with name and options."""
        options: Dict[str, Any] = {**self.options, "create": False}
        try:
            self._make_cache(options).close()
        except NoSegment:
            pass

    def _make_cache(self, options: Mapping[str, Any]) -> Cache:
        chosen: Dict[str, Any] = {"serializer": "pickle", **options}
        return Cache(self._name, **chosen)

    def run(self, work: Callable[[Cache], _T]) -> _T:
        """Calls `work` with the cache. If the segment was destroyed, makes a new one and calls again."""
        cache = self.cache
        try:
            return work(cache)
        except CacheGone:
            self.drop(cache)
            return work(self.cache)

    def drop(self, gone: object) -> bool:
        """Forgets a cache whose segment was destroyed. Returns True: `cache` is a new one from now on."""
        if _open.get(self.identity) is gone:
            _open.pop(self.identity, None)
        return True

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Calls a method of the cache by way of `run`.

        After a failed `set` or `set_many` the old values are gone. A value that is too large is logged and not stored;
        with `ignore_errors`, trouble is logged and counts as a miss.

        Returns:
            What the method returns. `set` returns False and `set_many` a list of keys for what was not stored.
        """
        try:
            try:
                return getattr(self.cache, method)(*arguments, **options)
            except CacheGone:
                return self.run(methodcaller(method, *arguments, **options))
        except (ValueTooLarge, *_TROUBLE) as error:
            return self._answer(error, method, arguments, options)

    def _answer(self, error: MemStreamError, method: str, arguments: Tuple[Any, ...], options: Dict[str, Any]) -> Any:
        """Returns what a call answers that has failed; raises the error if no answer would be true."""
        if method == "set_many" and isinstance(error, ValueTooLarge):
            values, *rest = arguments
            try:
                return [
                    name for name, value in values.items() if self.call("set", name, value, *rest, **options) is False
                ]
            except _TROUBLE as trouble:
                error = trouble
        if method == "set":
            self._forget(arguments[:1])
        elif method == "set_many":
            self._forget(arguments[0])
        if method in _MISSES and self.ignores(error, method, arguments[:1]):
            return _MISSES[method](*arguments)
        raise error

    def _forget(self, names: Iterable[bytes]) -> None:
        """Deletes keys if that is possible: the caller has an error already to report."""
        try:
            self.run(lambda cache: cache.delete_many(names))
        except (ReadOnlyError, *_TROUBLE) as error:
            self.logger.warning("Old values may still be there, for they could not be deleted: %s", str(error))

    def ignores(self, error: MemStreamError, method: str, arguments: Tuple[Any, ...] = ()) -> bool:
        """Returns whether the caller goes on after an error as after a miss; logs the error then, with the key."""
        key = "".join(f" of {argument!r}" for argument in arguments if isinstance(argument, bytes))
        if isinstance(error, ValueTooLarge):
            self.logger.warning("The value%s is not cached: %s", key, str(error))
            return True
        if self.ignore_errors and isinstance(error, _TROUBLE):
            self.logger.warning("%s%s failed and counts as a miss: %s", method, key, str(error))
            return True
        return False

    def get(self, name: bytes, default: Any = None) -> Any:
        """Returns a value, or `default`; also if the value cannot be decoded, which is logged.

        Such a value is removed: `exists` and `add` must find no more than `get` does.
        """
        try:
            return self.call("get", name, default)
        except Exception as error:  # Unpickling runs code of the value's classes, which may raise anything.
            self._note_undecodable(error, "get", name)
        self._forget([name])
        return default

    def get_many(self, names: Iterable[bytes]) -> Dict[bytes, Any]:
        """Returns the values that are there and can be decoded; as `get` with the others."""
        wanted = list(names)
        try:
            with collect_undecodable() as left_out:
                found = dict(self.call("get_many", wanted))
        except Exception as error:  # As in `get`, which tells the good ones from the bad.
            self._note_undecodable(error, "get_many", len(wanted))
            found, left_out = {}, wanted
        for name in left_out:  # `get` logs them and removes them.
            value = self.get(name, _ABSENT)
            if value is not _ABSENT:
                found[name] = value
        return found

    def _note_undecodable(self, error: Exception, method: str, what: object) -> None:
        """Logs that a value could not be decoded; raises the error if it says something else."""
        if isinstance(error, MemStreamError) and not isinstance(error, SerializerError):
            raise error
        if isinstance(error, MemoryError) or self.identity not in _open:
            raise error  # Not open: an option is wrong.
        self.logger.warning("%s(%r) met a value that cannot be decoded, which is a miss: %s", method, what, repr(error))

    def wait_for_lease(self, name: bytes, seconds: Optional[float]) -> None:
        """Waits until nobody holds the lease of a key, or for `seconds`; None: as long as it takes.

        In slices, between which signals are handled and greenlets run.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        remaining = deadline - time.monotonic()
        while remaining > 0 and not self.call("wait_for_lease", name, min(remaining, _SLICE)):
            time.sleep(0)
            remaining = deadline - time.monotonic()

    def set(self, name: bytes, value: Any, seconds: Optional[float], tags: Optional[List[Key]] = None) -> bool:
        """Stores a value; returns False if it could not be stored, and nothing is there then."""
        if is_over(seconds):
            self.call("delete", name)
            return True
        return self.call("set", name, value, seconds, **_tags(tags)) is not False

    def add(self, name: bytes, value: Any, seconds: Optional[float], tags: Optional[List[Key]] = None) -> bool:
        """Stores a value if the key is absent; returns whether it was. False also if it could not be stored."""
        if is_over(seconds):
            return not self.call("exists", name)
        return bool(self.call("add", name, value, seconds, **_tags(tags)))

    def set_many(
        self, values: Mapping[bytes, Any], seconds: Optional[float], tags: Optional[List[Key]] = None
    ) -> List[bytes]:
        """Stores values; returns the keys of those that could not be stored, which are not there then."""
        if is_over(seconds):
            self.call("delete_many", list(values))
            return []
        return self.call("set_many", values, seconds, **_tags(tags)) or []

    def invalidate(self, tag: Key) -> None:
        """Makes all entries misses that have a tag. Trouble is raised also with `ignore_errors`: they would live on."""
        self.run(methodcaller("invalidate", tag))

    def touch(self, name: bytes, seconds: Optional[float]) -> bool:
        """Gives a key other seconds to live; returns whether it was there."""
        if is_over(seconds):
            return bool(self.call("delete", name))
        return bool(self.call("touch", name, seconds))

    def incr(self, name: bytes, delta: int, initial: Optional[int] = None, seconds: Optional[float] = None) -> int:
        """Adds to a number; an absent key counts from `initial` and lives for `seconds`.

        Raises:
            CacheMiss: the key is absent and there is no `initial`; or trouble that counts as a miss.
            NotNumeric: the value is no whole number.
        """
        if initial is not None and is_over(seconds):
            try:
                return self.incr(name, delta)
            except CacheMiss:
                return initial + delta  # It would expire immediately.
        try:
            return self.run(lambda cache: cache.incr(name, delta, initial, seconds))
        except _TROUBLE as error:
            if not self.ignores(error, "incr"):
                raise
            raise CacheMiss(error.status, str(error)) from error

    def names(self, prefix: bytes, is_ours: Callable[[bytes], Any]) -> Optional[List[bytes]]:
        """Returns the keys of live entries that begin with a prefix and are ours; None for trouble that is ignored."""
        try:
            return self.run(lambda cache: [entry.key for entry in cache.scan(prefix) if is_ours(entry.key)])
        except _TROUBLE as error:
            if not self.ignores(error, "scan"):
                raise
            return None

    def delete_matching(self, prefix: bytes, is_ours: Callable[[bytes], Any] = bool) -> Optional[int]:
        """Removes the entries that `names` finds; returns how many there were, None for trouble that is ignored."""
        names = self.names(prefix, is_ours)
        if names is None:
            return None
        batches = (names[start : start + _DELETE_BATCH] for start in range(0, len(names), _DELETE_BATCH))
        return sum(int(self.call("delete_many", batch)) for batch in batches)

    def clear(self) -> bool:
        """Removes all entries of the segment; returns False for trouble that is ignored."""
        return self.call("clear") is None


# What `call` answers where nothing was found or stored. A miss is no answer to other methods, such as `lease`.
_MISSES: Dict[str, Callable[..., Any]] = {
    "get": lambda name, default=None: default,
    "get_many": lambda names: {},
    "set": lambda *_: False,
    "set_many": lambda values, *_: list(values),
    "add": lambda *_: False,
    "touch": lambda *_: False,
    "delete": lambda name: False,
    "delete_many": lambda names: 0,
    "_delete_each": lambda names: [False] * len(names),
    "exists": lambda name: False,
    "clear": lambda: False,
    "entry": lambda name: None,
}


def known_options() -> FrozenSet[str]:
    """Returns the options that `Cache` takes besides its name."""
    return frozenset(inspect.signature(Cache).parameters) - {"name"}


def is_over(seconds: Optional[float]) -> bool:
    """Returns whether a value that lives for `seconds` has expired already."""
    return seconds is not None and seconds <= 0


def seconds_of(timeout: Union[None, float, timedelta]) -> Optional[float]:
    """Returns what a framework's caller gave as a timeout as seconds; None stays None.

    Raises:
        TypeError: it is neither a number, a timedelta nor None.
    """
    if timeout is None or isinstance(timeout, (int, float)):
        return timeout
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    try:
        return float(timeout.__float__())  # Decimal, Fraction, the numbers of numpy.
    except AttributeError:
        raise TypeError(
            f"Invalid timeout {shown(timeout)}: expected seconds, a timedelta or None. Give a number"
        ) from None


def key_bytes(text: str) -> bytes:
    """Returns text as bytes, also text with lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def key_text(name: bytes) -> Optional[str]:
    """Returns the text that `key_bytes` has turned into bytes; None if it was not that."""
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def bounded_key(key: str) -> bytes:
    """Returns a key as bytes; one that is empty or longer than the library takes ends in a digest of the whole."""
    name = key_bytes(key)
    if 0 < len(name) <= MAX_KEY_SIZE:
        return name
    return name[:_HEAD_SIZE] + hashlib.sha256(name).hexdigest().encode()


def bounded_prefix(prefix: str) -> bytes:
    """Returns what every `bounded_key` begins with whose key begins with `prefix`."""
    return key_bytes(prefix)[:_HEAD_SIZE]
