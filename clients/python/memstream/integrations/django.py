"""Django's cache in shared memory, for all processes of a site on one machine.

    CACHES = {
        "default": {
            "BACKEND": "memstream.django.MemStreamCache",
            "LOCATION": "site",                     # The name of the cache; without it MEMSTREAM_NAME, or "default".
            "OPTIONS": {"size": 512 * 1024 * 1024}, # What `memstream.Cache` takes. MAX_ENTRIES means nothing here.
        }
    }

Sessions work on it (`SESSION_ENGINE = "django.contrib.sessions.backends.cache"`). One of all processes computes what
`get_or_set` or a cached page needs; the others wait for it.

The asynchronous methods do their work immediately, in the thread of the event loop: most calls take a few microseconds,
which is less than handing them to another thread would. Only `aget_or_set` waits, and lets other coroutines run.
"""

from __future__ import annotations

import asyncio
import difflib
import math
import time
from datetime import timedelta
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Union

from django.conf import settings
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from memstream._core.arguments import shown
from memstream._shared import SharedCache, bounded_key, known_options, seconds_of
from memstream.cache import Cache
from memstream.errors import CacheMiss, ConfigurationError, MemStreamError
from memstream.integrations._alias_keys import AliasKeys
from memstream.integrations._locks import Lock
from memstream.integrations._pages import Pages, is_page
from memstream.integrations._turns import Addition, check_wait

_NOT_OURS = {"MAX_ENTRIES", "CULL_FREQUENCY"}
_OURS = {"ignore_errors", "wait"}

# Seconds: for how long get_or_set and pages wait for others, and how often a coroutine looks again.
_DEFAULT_WAIT = 30
_LOOK_AGAIN = 0.01

# Seconds: 0 or less has expired, None is for ever; DEFAULT_TIMEOUT: the TIMEOUT of the settings.
Timeout = Union[None, float, timedelta, object]


def _list_of(tags: Optional[Iterable[str]]) -> Any:
    # Once, since a call may be made again. A single str goes on, to be refused.
    return tags if tags is None or isinstance(tags, str) else list(tags)


class MemStreamCache(BaseCache):
    """A cache backend; its methods are those of Django's documentation.

    A value that is too large is not stored, and the key is absent then, as with memcached.
    """

    def __init__(self, location: str, params: Dict[str, Any]) -> None:
        """Makes the backend; the segment is opened at the first use.

        Args:
            location: name of the cache; empty: the environment's.
            params: the settings of the cache. OPTIONS are those of `memstream.Cache`; `serializer`, "pickle" if it is
                not given; `ignore_errors`, whether trouble (busy, full, gone, no memory) is logged and counts as a
                miss; `wait`, the seconds to wait for another process that computes the same, 0 for not at all: 30 if
                it is not given.
        """
        super().__init__(params)
        options = {name: value for name, value in params.get("OPTIONS", {}).items() if name not in _NOT_OURS}
        self._wait = options.pop("wait", _DEFAULT_WAIT)
        self._shared = SharedCache(location or None, options, "django")
        self._pages = Pages(self._shared, self._wait)

    @property
    def memstream(self) -> Cache:
        """The `memstream.Cache` behind this one, open. Its keys are those of `make_key`."""
        return self._shared.cache

    def _key(self, key: str, version: Optional[int]) -> bytes:
        made = self.make_key(key, version=version)
        self.validate_key(made)
        return bounded_key(made)

    def _seconds(self, timeout: Any) -> Optional[float]:
        """Returns seconds to live, 0 or less for "expired at once", None for ever."""
        return seconds_of(self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout)

    def add(
        self,
        key: str,
        value: Any,
        timeout: Timeout = DEFAULT_TIMEOUT,
        version: Optional[int] = None,
        *,
        tags: Optional[Iterable[str]] = None,
    ) -> bool:
        """Stores a value if the key is absent.

        Args:
            key, version: the key, as Django has it.
            value: any object that the serializer takes.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.
            tags: as for `set`.

        Returns:
            Whether it was stored.

        Source: memstream_add; memstream_store_tagged with tags.
        """
        return self._shared.add(self._key(key, version), value, self._seconds(timeout), _list_of(tags))

    def get(self, key: str, default: Any = None, version: Optional[int] = None) -> Any:
        """Returns a value. Waits for a page that another process is making.

        Args:
            key, version: the key, as Django has it.
            default: what a miss returns.

        Returns:
            The value, or `default`.

        Source: memstream_get.
        """
        name = self._key(key, version)
        if is_page(key):
            return self._pages.get(key, name, lambda: self._shared.get(name, default), default)
        return self._shared.get(name, default)

    def set(
        self,
        key: str,
        value: Any,
        timeout: Timeout = DEFAULT_TIMEOUT,
        version: Optional[int] = None,
        *,
        tags: Optional[Iterable[str]] = None,
    ) -> None:
        """Stores a value; with a timeout of 0 or less, removes it.

        Args:
            key, version: the key, as Django has it.
            value: any object that the serializer takes.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.
            tags: up to four groups of the entry: `invalidate` ends all entries of one.

        Source: memstream_set; memstream_store_tagged with tags.
        """
        is_stored = self._shared.set(self._key(key, version), value, self._seconds(timeout), _list_of(tags))
        if is_page(key):
            self._pages.note_set(key, is_stored)

    def get_or_set(
        self, key: str, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None
    ) -> Any:
        """Returns a value; stores `default` first if it is absent, or what `default` returns if that can be called.

        One of all processes and threads calls it; the others wait for the value, as long as `wait` of OPTIONS says. If
        it raises, its caller gets the exception, and the others compute side by side.

        Args:
            key, version: the key, as Django has it.
            default: the value, or a function that makes it.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.

        Returns:
            The value that is there now.

        Source: memstream_get, memstream_lease, memstream_lease_wait, memstream_add.
        """
        addition = Addition(self._shared, self._key(key, version), default, self._seconds(timeout), self._wait)
        while not addition.is_decided():
            addition.turn.wait()
        return addition.finish()

    async def aget_or_set(
        self, key: str, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None
    ) -> Any:
        """As `get_or_set`, for coroutines: others run while this one waits.

        Args:
            key, default, timeout, version: as for `get_or_set`.

        Returns:
            The value that is there now.
        """
        addition = Addition(self._shared, self._key(key, version), default, self._seconds(timeout), self._wait)
        while not addition.is_decided():
            await asyncio.sleep(_LOOK_AGAIN)
        return addition.finish()

    def touch(self, key: str, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        """Gives a key a new timeout.

        Args:
            key, version: the key, as Django has it.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.

        Returns:
            Whether the key was there.

        Source: memstream_touch.
        """
        return self._shared.touch(self._key(key, version), self._seconds(timeout))

    def delete(self, key: str, version: Optional[int] = None) -> bool:
        """Removes a key.

        Args:
            key, version: the key, as Django has it.

        Returns:
            Whether it was there.

        Source: memstream_delete.
        """
        return bool(self._shared.call("delete", self._key(key, version)))

    def get_many(self, keys: Iterable[str], version: Optional[int] = None) -> Dict[str, Any]:
        """Returns the values of those of the keys that are there.

        Args:
            keys: the keys.
            version: of all of them, as Django has it.

        Returns:
            A dict from the keys to their values.

        Source: memstream_get_many.
        """
        names = {self._key(key, version): key for key in keys}
        found = self._shared.get_many(names)
        return {names[name]: value for name, value in found.items()}

    def set_many(
        self,
        data: Mapping[str, Any],
        timeout: Timeout = DEFAULT_TIMEOUT,
        version: Optional[int] = None,
        *,
        tags: Optional[Iterable[str]] = None,
    ) -> List[str]:
        """Stores values; with a timeout of 0 or less, removes them.

        Args:
            data: from keys to values.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.
            version: of all keys, as Django has it.
            tags: of all of them, as for `set`.

        Returns:
            The keys of values that could not be stored; they are absent then.

        Source: memstream_set_many; memstream_set_many_sized with tags.
        """
        values = dict(data)  # Another thread may change it meanwhile.
        names = {self._key(key, version): key for key in values}
        named = {name: values[key] for name, key in names.items()}
        failed = self._shared.set_many(named, self._seconds(timeout), _list_of(tags))
        return [names[name] for name in failed]

    def invalidate(self, tag: str) -> None:
        """Makes all entries misses that have a tag, in constant time. Versions and KEY_PREFIX play no part.

        Args:
            tag: as in `tags` of `set`.

        Raises:
            MemStreamError: it could not be done, also with `ignore_errors`: the entries would live on.

        Source: memstream_invalidate.
        """
        self._shared.invalidate(tag)

    def delete_many(self, keys: Iterable[str], version: Optional[int] = None) -> None:
        """Removes keys.

        Args:
            keys: the keys.
            version: of all of them, as Django has it.

        Source: memstream_delete_many.
        """
        self._shared.call("delete_many", [self._key(key, version) for key in keys])

    def has_key(self, key: str, version: Optional[int] = None) -> bool:
        """Tells whether a key is there.

        Args:
            key, version: the key, as Django has it.

        Returns:
            Whether it is.

        Source: memstream_exists.
        """
        return bool(self._shared.call("exists", self._key(key, version)))

    def incr(self, key: str, delta: int = 1, version: Optional[int] = None) -> int:
        """Adds to a number, in one step among all processes. Keeps its timeout.

        Args:
            key, version: the key, as Django has it.
            delta: a whole number.

        Returns:
            The new number.

        Raises:
            ValueError: the key is absent, or its value is no whole number.

        Source: memstream_incr.
        """
        try:
            return self._shared.incr(self._key(key, version), delta)
        except CacheMiss:
            raise ValueError(f"Key '{key}' not found") from None

    def clear(self) -> None:
        """Removes the entries of this KEY_PREFIX, of all versions; without KEY_PREFIX, all entries of the segment.

        Source: memstream_scan, memstream_delete_many; memstream_clear.
        """
        if self.key_prefix:
            self._delete("*", version=None)
        else:
            self._shared.clear()

    # ---- as django-redis has them ----

    def ttl(self, key: str, version: Optional[int] = None) -> Optional[int]:
        """Tells how long a key still has.

        Args:
            key, version: the key, as Django has it.

        Returns:
            Seconds, rounded up; 0 if it is absent; None if it never expires.

        Source: memstream_entry_info.
        """
        entry = self._shared.call("entry", self._key(key, version))
        if entry is None:
            return 0
        return None if entry.expires_at is None else max(0, math.ceil(entry.expires_at - time.time()))

    def iter_keys(self, search: str, version: Optional[int] = None, itersize: Optional[int] = None) -> Iterator[str]:
        """Walks over the keys of one version that match a search. Looks at every entry of the segment.

        Args:
            search: may have *, ?, [abc], [^abc] and a backslash before what is meant as it is.
            version: None: that of the settings.
            itersize: not used; taken so that calls for django-redis work.

        Returns:
            Keys as callers have them; one of more than 1,024 bytes ends in a digest.

        Source: memstream_scan.
        """
        ours = AliasKeys(self.make_key, self.version)
        read = ours.reader(search, self.version if version is None else version)
        for name in self._shared.names(ours.prefix(), lambda name: read(name) is not None) or ():
            key = read(name)
            if key is not None:
                yield key

    def keys(self, search: str = "*", version: Optional[int] = None) -> List[str]:
        """Returns the keys that match a search.

        Args:
            search, version: as for `iter_keys`.

        Returns:
            A list of what `iter_keys` gives.

        Source: memstream_scan.
        """
        return list(self.iter_keys(search, version))

    def delete_pattern(self, pattern: str, version: Optional[int] = None, itersize: Optional[int] = None) -> int:
        """Removes the keys that match a search.

        Args:
            pattern, version, itersize: as for `iter_keys`.

        Returns:
            How many there were.

        Source: memstream_scan, memstream_delete_many.
        """
        return self._delete(pattern, self.version if version is None else version)

    def _delete(self, search: str, version: Optional[int]) -> int:
        ours = AliasKeys(self.make_key, self.version)
        read = ours.reader(search, version)
        return self._shared.delete_matching(ours.prefix(), lambda name: read(name) is not None) or 0

    def lock(
        self,
        key: str,
        version: Optional[int] = None,
        timeout: Optional[float] = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: Optional[float] = None,
    ) -> Lock:
        """Returns a lock among all threads of all processes, which a dead holder does not keep.

        Args:
            key, version: name it; a value of this key has nothing to do with it.
            timeout: seconds after which another caller may take it; None: as long as the process lives.
            sleep: not used; taken so that calls for django-redis work.
            blocking, blocking_timeout: whether, and for how many seconds, `acquire` and `with` wait for it.

        Returns:
            A lock that nobody has acquired yet.

        Source: memstream_lease.
        """
        return Lock(self._shared, self._key(key, version), timeout, blocking, blocking_timeout)

    def close(self, **_: Any) -> None:
        """Ends what this thread's request had begun; the segment stays open. Called by Django after each request."""
        self._pages.end()


def _asynchronous(name: str) -> Callable[..., Any]:
    async def method(self: MemStreamCache, *arguments: Any, **options: Any) -> Any:
        return getattr(self, name)(*arguments, **options)

    method.__name__ = method.__qualname__ = f"a{name}"
    method.__doc__ = f"As `{name}`, for coroutines."
    return method


for _name in (
    "add get set touch delete has_key incr decr clear close "
    "get_many set_many delete_many incr_version decr_version ttl keys delete_pattern"
).split():
    setattr(MemStreamCache, f"a{_name}", _asynchronous(_name))


def check_caches(app_configs: Any, **_: Any) -> List[checks.CheckMessage]:
    """Looks at the settings of every alias that has this backend; part of `manage.py check`.

    The library itself judges the options: their cache is opened if it is there, and never made.
    """
    messages: List[checks.CheckMessage] = []
    for alias in settings.CACHES:
        cache = caches[alias]
        if isinstance(cache, MemStreamCache):
            messages += _check(cache, f"CACHES[{alias!r}]")
    return messages


def _check(cache: MemStreamCache, where: str) -> Iterator[checks.CheckMessage]:
    shared = cache._shared
    unknown = sorted(shared.options.keys() - known_options())
    for name in unknown:
        near = difflib.get_close_matches(name, known_options() | _OURS, 1)
        hint = f"Use {near[0]!r}." if near else f"Use one of {', '.join(sorted(known_options() | _OURS))}."
        yield checks.Error(f"{where}: Invalid option {shown(name)} in OPTIONS.", hint, id="memstream.E001")
    try:
        check_wait(cache._wait)
        if not unknown:
            shared.try_options()
    except (ConfigurationError, TypeError, ValueError) as error:
        yield checks.Error(f"{where}: {error}", id="memstream.E002")
    except MemStreamError as error:
        yield checks.Warning(f"{where}: the cache cannot be opened: {error}", id="memstream.W003")
    if cache.key_prefix:
        try:
            AliasKeys(cache.make_key, cache.version)
        except ConfigurationError as error:
            yield checks.Warning(f"{where}: clear() will fail: {error}", id="memstream.W004")


checks.register(check_caches, checks.Tags.caches)
