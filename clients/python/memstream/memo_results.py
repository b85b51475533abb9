"""The results of one memoized function, as entries of the cache."""

from __future__ import annotations

import logging
import time
import warnings
from pickle import PickleError
from random import random
from typing import Any, Callable, Dict, Iterable, Iterator, NamedTuple, Optional, Protocol, Tuple, TypeVar, Union

from memstream._core.arguments import Key
from memstream._core.codec import Codec, PickleCodec, decode, result_head, split_result
from memstream._core.errors import CacheGone, SerializerError, ValueTooLarge
from memstream._core.kinds import Kind, flag_word, kind_of
from memstream._core.records import Entry, Info
from memstream.leases import Lease, LeaseOwner
from memstream.memo_callables import function_name
from memstream.memo_keys import KeyMaker
from memstream.tags import Tags, struct_of, take

_T = TypeVar("_T")

# Is given texts, no exceptions: a record that somebody keeps would keep alive what their frames have.
_logger = logging.getLogger("memstream.memoize")

# Of a result, by which it is fresh: a time to live of 0 would mean for ever.
_LEAST_SECONDS = 0.001


class CacheInfo(NamedTuple):
    """As `functools.lru_cache` has it. Hits and misses are those of this process, the size is everybody's."""

    hits: int
    misses: int
    maxsize: Optional[int]
    """None: the memory of the cache is the limit."""
    currsize: int


class ResultCache(LeaseOwner, Protocol):
    """What the results of functions need of their Cache."""

    def delete(self, key: Key) -> bool:
        """As `Cache.delete`."""

    def scan(self, prefix: Optional[Key] = None) -> Iterator[Entry]:
        """As `Cache.scan`."""

    def info(self) -> Info:
        """As `Cache.info`."""


class Source(NamedTuple):
    """Where results are kept."""

    find: Callable[[], ResultCache]
    """Returns the cache, at each call."""
    renew: Callable[[ResultCache], bool] = lambda cache: False
    """Called when the segment of a cache was destroyed: whether `find` gives another one from now on."""


class Options(NamedTuple):
    """What the user of `memoize` has chosen for the results; durations in seconds."""

    ttl: Optional[float] = None
    stale: float = 0
    cache_if: Optional[Callable[[Any], bool]] = None
    wait: Optional[float] = None
    lease: Optional[float] = None
    jitter: float = 0
    """The share of its ttl by which a result may be fresh for less: each by chance."""
    refresh_ahead: float = 0
    """The share of its ttl, the last one, in which a result is computed again before it ends."""
    absent_ttl: Optional[float] = None
    """Of the result None, instead of `ttl`."""
    tags: Union[None, Iterable[Key], Callable[..., Iterable[Key]]] = None
    """Of all results, or a function that takes the arguments of a call and gives those of its result."""


class Result(NamedTuple):
    """A stored result."""

    value: Any
    is_fresh: bool
    """False: a caller who gets the lease computes it again."""
    is_readable: bool
    """False: `value` means nothing. It was stored by a program with other classes, or with another serializer."""
    token: int


class Results:
    """The results of one function."""

    def __init__(self, source: Source, keys: KeyMaker, options: Options) -> None:
        self.keys = keys
        self.options = options
        self.hits = 0
        self.misses = 0
        self.name = function_name(keys.function)
        self._source = source

    @property
    def cache(self) -> ResultCache:
        """The cache of now."""
        return self._source.find()

    def renew(self, gone: ResultCache) -> bool:
        """Returns whether there is another cache in place of one that was destroyed."""
        return self._source.renew(gone)

    def _on_cache(self, action: Callable[[ResultCache], _T]) -> _T:
        cache = self.cache
        try:
            return action(cache)
        except CacheGone:
            if not self.renew(cache):
                raise
            return action(self.cache)

    def look(self, key: bytes) -> Optional[Result]:
        """Returns what is stored under a key; None if nothing is."""
        cache = self.cache
        try:
            located = cache._connection.read(key)
        except CacheGone:
            if not self.renew(cache):
                raise
            return None
        if located is None:
            return None
        try:
            is_fresh = True
            memory = memoryview(located.memory)
            if kind_of(located.flags) is Kind.RESULT:
                is_fresh = time.monotonic() < split_result(memory)[0]
            value = decode(key, _codec_of(cache), memory, located.flags)
        except _UNREADABLE as error:
            warnings.warn(
                f"A stored result of {self.name} cannot be read, so it is computed again: {error!r}", RuntimeWarning, 4
            )
            return Result(None, False, False, located.token)
        return Result(value, is_fresh, True, located.token)

    def take_tags(self, arguments: Tuple[Any, ...], options: Dict[str, Any]) -> Optional[Tags]:
        """Returns the tags that the result of a call will have, as they are before it is computed."""
        tags = self.options.tags
        if tags is None:
            return None
        names = tags(*arguments, **options) if callable(tags) else tags
        return self._on_cache(lambda cache: take(cache._connection, names))

    def store(self, key: bytes, value: Any, lease: Optional[Lease], tags: Optional[Tags] = None) -> None:
        """Stores a result, if it may be: through a lease, which may have ended; without one whatever is there."""
        if self.options.cache_if is not None and not self.options.cache_if(value):
            return
        try:
            self._on_cache(lambda cache: self._store(cache, key, value, lease, tags))
        except ValueTooLarge as error:
            # The caller is better served by a result that was not stored than by none.
            warnings.warn(f"A result of {self.name} is not cached: {error}", RuntimeWarning, stacklevel=4)

    def may_stay(self, old: Result, error: Exception) -> bool:
        """Returns whether a caller gets the old result in place of an exception of the function, which is logged."""
        if not old.is_readable or not self.options.refresh_ahead:
            return False
        _logger.warning("A result of %s cannot be computed again, so the old one stays: %s", self.name, repr(error))
        return True

    def _store(self, cache: ResultCache, key: bytes, value: Any, lease: Optional[Lease], tags: Optional[Tags]) -> None:
        struct = struct_of(cache._connection, tags)
        kind, pieces, size = _codec_of(cache).encode(value)
        lifetime = self._lifetime_of(value)
        if lifetime is not None and (self.options.stale or self.options.refresh_ahead):
            head = result_head(time.monotonic() + lifetime * (1 - self.options.refresh_ahead), kind)
            kind, pieces, size = Kind.RESULT, [head, *pieces], len(head) + size
            lifetime += self.options.stale
        if lease is None or lease.cache is not cache:
            cache._connection.set(key, pieces, size, lifetime, flag_word(kind, 0), struct)
        else:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            lease._fulfil_packed(data, lifetime, flag_word(kind, 0), struct)

    def _lifetime_of(self, value: Any) -> Optional[float]:
        """Returns for how many seconds a result is fresh; None: for ever."""
        options = self.options
        lifetime = options.ttl if value is not None or options.absent_ttl is None else options.absent_ttl
        if lifetime is None or not options.jitter:
            return lifetime
        return max(lifetime * (1 - options.jitter * random()), _LEAST_SECONDS)

    def forget(self, *arguments: Any, **options: Any) -> bool:
        """Removes one result."""
        key = self.keys.key_of(arguments, options)
        return self._on_cache(lambda cache: cache.delete(key))

    def clear(self) -> None:
        """Removes all results."""

        def delete_all(cache: ResultCache) -> None:
            for entry in cache.scan(self.keys.prefix):
                cache.delete(entry.key)

        self._on_cache(delete_all)
        self.hits = self.misses = 0

    def info(self) -> CacheInfo:
        """Counts."""
        size = self._on_cache(lambda cache: sum(1 for _ in cache.scan(self.keys.prefix)))
        return CacheInfo(self.hits, self.misses, None, size)


# What decoding comes to when a class has gone or changed. Not every Exception: signal handlers raise some meanwhile.
_UNREADABLE = (PickleError, SerializerError, AttributeError, ImportError, EOFError, LookupError, TypeError, ValueError)

_PICKLE = PickleCodec()


def _codec_of(cache: ResultCache) -> Codec:
    return cache._codec if cache._codec.stores_objects else _PICKLE
