"""Django's cache in Redis, with the near cache of this machine before it.

    CACHES = {
        "default": {
            "BACKEND": "memstream.django.NearRedisCache",
            "LOCATION": "redis://127.0.0.1:6379/0",
            "KEY_PREFIX": "site",                              # What Redis reports changes of: give each site its own.
            "OPTIONS": {"max_lag": 0.5, "near": {"name": "site-near", "size": "64M"}},
        }
    }

All machines share what is in Redis. On each of them all processes share what they have read, and nothing that they get
was overwritten more than `max_lag` seconds ago.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import pickle
from datetime import timedelta
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Type, Union

from django.conf import settings
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from memstream._core.arguments import shown
from memstream._shared import bounded_key, is_over, seconds_of
from memstream.cache import Cache
from memstream.errors import ConfigurationError, MemStreamError
from memstream.integrations._alias_keys import AliasKeys
from memstream.integrations._near_memo import Turn
from memstream.integrations._near_upstream import UNREACHABLE, client_from_url
from memstream.integrations.redis import NearCache

_NOT_OURS = {"MAX_ENTRIES", "CULL_FREQUENCY"}
_OURS = {"client", "cluster", "ignore_errors", "near", "serializer", "wait"}
_DEFAULT_WAIT = 30.0
_DELETE_BATCH = 1000
_ABSENT = object()
_TROUBLE: Tuple[Type[Exception], ...] = (MemStreamError, *UNREACHABLE)

# As MemStreamCache has it.
Timeout = Union[None, float, timedelta, object]

_logger = logging.getLogger("memstream.django")

# One for each process and all its threads: Django makes a backend for each thread.
_open: Dict[Tuple[Any, ...], NearCache] = {}


def known_options() -> List[str]:
    """Returns the names of OPTIONS."""
    own = set(inspect.signature(NearCache).parameters) - {"client", "cache", "prefixes"}
    return sorted(own | _OURS)


class NearRedisCache(BaseCache):
    """A cache backend; its methods are those of Django's documentation.

    Whole numbers are stored as text, so that Redis can count, and everything else by the serializer.
    """

    def __init__(self, location: Union[str, Iterable[str]], params: Dict[str, Any]) -> None:
        """Makes the backend. Segment and connections are made at the first use.

        Args:
            location: the URL of a Redis, `redis://` or `unix://`; of several, the first.
            params: the settings of the cache. OPTIONS are `max_lag`, `local_ttl`, `absent_ttl`, `timeout`, `agent` and
                `stale_on_error` of `memstream.redis.NearCache`; `near`, a dict of the arguments of `memstream.Cache`
                (its name is "django-near" if it is not given); `cluster`, whether the URL is that of a cluster;
                `client`, a dict of further arguments of the client of redis-py; `serializer`, an object with `dumps`
                and `loads`, pickle if it is not given; `ignore_errors`, whether a Redis that cannot be reached is
                logged and counts as a miss; `wait`, the seconds that `get_or_set` waits for another process, 30 if it
                is not given.
        """
        super().__init__(params)
        options = {name: value for name, value in (params.get("OPTIONS") or {}).items() if name not in _NOT_OURS}
        unknown = sorted(set(options) - set(known_options()))
        if unknown:
            close = difflib.get_close_matches(unknown[0], known_options(), 1) or known_options()
            text = f"Invalid option {shown(unknown[0])} in OPTIONS: expected {', '.join(close)}"
            raise ConfigurationError(None, f"{text}. Correct its name, or leave it out")
        self._url = location if isinstance(location, str) else next(iter(location), "")
        self._ignore = bool(options.pop("ignore_errors", False))
        self._wait = float(options.pop("wait", _DEFAULT_WAIT))
        self._serializer: Any = options.pop("serializer", None) or pickle
        self._segment: Dict[str, Any] = {"name": "django-near", **options.pop("near", {})}
        self._is_cluster = bool(options.pop("cluster", False))
        self._client_options = dict(options.pop("client", {}))
        self._options = options
        self._prefixes = [AliasKeys(self.make_key, self.version).prefix()] if self.key_prefix else []
        words = (self._segment, self._client_options, sorted(options.items()), self._prefixes)
        self._identity = (self._url, self._is_cluster, *map(repr, words))

    @property
    def near(self) -> NearCache:
        """The `memstream.redis.NearCache` behind this one, open. A child of fork opens its own."""
        identity = (os.getpid(), *self._identity)
        found = _open.get(identity)
        if found is None:
            client = client_from_url(self._url, self._is_cluster, self._client_options)
            opened = NearCache(client, cache=Cache(**self._segment), prefixes=self._prefixes, **self._options)
            found = _open.setdefault(identity, opened)
            if found is not opened:  # Another thread was faster.
                opened.close()
        return found

    def _key(self, key: str, version: Optional[int]) -> bytes:
        made = self.make_key(key, version=version)
        self.validate_key(made)
        return bounded_key(made)

    def _milliseconds(self, timeout: Any) -> Optional[int]:
        """Returns what PX takes, 0 for "expired at once", None for ever."""
        seconds = seconds_of(self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout)
        if seconds is None:
            return None
        return 0 if is_over(seconds) else max(1, round(seconds * 1000))

    def _run(self, work: Callable[[NearCache], Any], missed: Any) -> Any:
        """Calls `work`. Trouble with Redis is logged and gives `missed`, where that is wanted."""
        try:
            return work(self.near)
        except _TROUBLE as error:
            if not self._ignore or isinstance(error, ConfigurationError):
                raise
            _logger.warning("Redis at %s: %s, which counts as a miss", self._url, str(error))
            return missed

    def _write(self, names: Iterable[bytes], work: Callable[[Any], Any], missed: Any) -> Any:
        """Calls `work` with the client of Redis, then removes the local copies, whatever came of it."""
        wanted = list(names)

        def write(near: NearCache) -> Any:
            try:
                return work(near.client)
            finally:
                for name in wanted:
                    near.invalidate(name)

        return self._run(write, missed)

    def _dumps(self, value: Any) -> Any:
        # Not bool: it would come back as a number.
        return value if type(value) is int else self._serializer.dumps(value)

    def _loads(self, data: bytes, default: Any = None) -> Any:
        try:
            return int(data)
        except ValueError:
            pass
        try:
            return self._serializer.loads(data)
        except Exception as error:  # Unpickling runs code of the value's classes, which may raise anything.
            _logger.warning("met a value that cannot be decoded, which is a miss: %s", repr(error))
            return default

    def add(self, key: str, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        """Stores a value if the key is absent.

        Args:
            key, version: the key, as Django has it.
            value: any object that the serializer takes.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.

        Returns:
            Whether it was stored.
        """
        name, ttl, data = self._key(key, version), self._milliseconds(timeout), self._dumps(value)
        if ttl == 0:
            return not self.has_key(key, version)
        return bool(self._write([name], lambda client: client.set(name, data, px=ttl, nx=True), False))

    def get(self, key: str, default: Any = None, version: Optional[int] = None) -> Any:
        """Returns a value.

        Args:
            key, version: the key, as Django has it.
            default: what a miss returns.

        Returns:
            The value, or `default`.
        """
        name = self._key(key, version)
        data = self._run(lambda near: near.get(name), None)
        return default if data is None else self._loads(data, default)

    def set(self, key: str, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> None:
        """Stores a value; with a timeout of 0 or less, removes it.

        Args:
            key, version: the key, as Django has it.
            value: any object that the serializer takes.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.
        """
        name, ttl, data = self._key(key, version), self._milliseconds(timeout), self._dumps(value)
        if ttl == 0:
            self._write([name], lambda client: client.delete(name), None)
        else:
            self._write([name], lambda client: client.set(name, data, px=ttl), None)

    def get_or_set(
        self, key: str, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None
    ) -> Any:
        """Returns a value; stores `default` first if it is absent, or what `default` returns if that can be called.

        One of all processes of this machine calls it; the others wait for the value, as long as `wait` of OPTIONS says.

        Args:
            key, version: the key, as Django has it.
            default: the value, or a function that makes it.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.

        Returns:
            The value that is there now.
        """
        found = self.get(key, _ABSENT, version)
        if found is not _ABSENT:
            return found
        if not callable(default) or self._wait <= 0:
            return self._add_or_get(key, default() if callable(default) else default, timeout, version)
        turn = Turn(self.near.cache, self._key(key, version), self._wait)
        try:
            is_mine = turn.is_taken()
            while not is_mine:
                turn.wait()
                found = self.get(key, _ABSENT, version)
                if found is not _ABSENT:
                    return found
                is_mine = turn.is_taken()
            found = self.get(key, _ABSENT, version)
            return self._add_or_get(key, default(), timeout, version) if found is _ABSENT else found
        finally:
            turn.end()

    def _add_or_get(self, key: str, value: Any, timeout: Timeout, version: Optional[int]) -> Any:
        self.add(key, value, timeout, version)
        return self.get(key, value, version)

    def touch(self, key: str, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        """Gives a key a new timeout.

        Args:
            key, version: the key, as Django has it.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.

        Returns:
            Whether the key was there.
        """
        name, ttl = self._key(key, version), self._milliseconds(timeout)
        if ttl == 0:
            return bool(self._write([name], lambda client: client.delete(name), False))
        if ttl is not None:
            return bool(self._write([name], lambda client: client.pexpire(name, ttl), False))
        # PERSIST also answers 0 for a key that had no timeout.
        return bool(self._write([name], lambda client: client.persist(name) or client.exists(name), False))

    def delete(self, key: str, version: Optional[int] = None) -> bool:
        """Removes a key.

        Args:
            key, version: the key, as Django has it.

        Returns:
            Whether it was there.
        """
        name = self._key(key, version)
        return bool(self._write([name], lambda client: client.delete(name), False))

    def get_many(self, keys: Iterable[str], version: Optional[int] = None) -> Dict[str, Any]:
        """Returns the values of those of the keys that are there. Of what is missing here Redis is asked in one go.

        Args:
            keys: the keys.
            version: of all of them, as Django has it.

        Returns:
            A dict from the keys to their values.
        """
        names = {self._key(key, version): key for key in keys}
        found = self._run(lambda near: near.get_many(names), {})
        values = {names[name]: self._loads(data, _ABSENT) for name, data in found.items()}
        return {key: value for key, value in values.items() if value is not _ABSENT}

    def set_many(
        self, data: Mapping[str, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None
    ) -> List[str]:
        """Stores values; with a timeout of 0 or less, removes them.

        Args:
            data: from keys to values.
            timeout: seconds to live; 0 or less: expired at once; None: for ever; without it, the TIMEOUT of the
                settings.
            version: of all keys, as Django has it.

        Returns:
            The keys of values that could not be stored.
        """
        values = dict(data)  # Another thread may change it meanwhile.
        names = {self._key(key, version): self._dumps(values[key]) for key in values}
        ttl = self._milliseconds(timeout)

        def store(client: Any) -> bool:
            with client.pipeline(transaction=False) as pipeline:
                for name, value in names.items():
                    if ttl == 0:
                        pipeline.delete(name)
                    else:
                        pipeline.set(name, value, px=ttl)
                pipeline.execute()
            return True

        if not values or self._write(names, store, False):
            return []
        return list(values)

    def delete_many(self, keys: Iterable[str], version: Optional[int] = None) -> None:
        """Removes keys.

        Args:
            keys: the keys.
            version: of all of them, as Django has it.
        """
        names = [self._key(key, version) for key in keys]
        if names:
            self._write(names, lambda client: client.delete(*names), None)

    def has_key(self, key: str, version: Optional[int] = None) -> bool:
        """Tells whether a key is there.

        Args:
            key, version: the key, as Django has it.

        Returns:
            Whether it is.
        """
        name = self._key(key, version)
        return self._run(lambda near: near.get(name), None) is not None

    def incr(self, key: str, delta: int = 1, version: Optional[int] = None) -> int:
        """Adds to a number, in one step among all machines. Keeps its timeout.

        Args:
            key, version: the key, as Django has it.
            delta: a whole number.

        Returns:
            The new number.

        Raises:
            ValueError: the key is absent, or its value is no whole number.
        """
        name = self._key(key, version)

        def count(client: Any) -> Any:
            return client.eval(_INCR, 1, name, delta)

        found = self._write([name], count, None)
        if found is None:
            raise ValueError(f"Key '{key}' not found")
        if found == b"text":
            raise ValueError(f"Key '{key}' is no whole number")
        return int(found)

    def clear(self) -> None:
        """Removes the keys of this KEY_PREFIX, of all versions; without KEY_PREFIX, all keys of the database."""
        if not self._prefixes:
            self._run(lambda near: near.client.flushdb(), None)
            return
        read = AliasKeys(self.make_key, self.version).reader("*", None)
        pattern = _escaped(self._prefixes[0]) + b"*"

        def remove(near: NearCache) -> None:
            names: List[bytes] = []
            for name in near.client.scan_iter(match=pattern, count=_DELETE_BATCH):
                if read(name) is not None:
                    names.append(name)
                if len(names) == _DELETE_BATCH:
                    near.delete(*names)
                    names = []
            near.delete(*names)

        self._run(remove, None)

    def ttl(self, key: str, version: Optional[int] = None) -> Optional[int]:
        """Tells how long a key still has. As django-redis has it.

        Args:
            key, version: the key, as Django has it.

        Returns:
            Seconds, rounded up; 0 if it is absent; None if it never expires.
        """
        name = self._key(key, version)
        left = self._run(lambda near: near.client.pttl(name), -2)
        return None if left == -1 else max(0, -(-left // 1000))

    def close(self, **_: Any) -> None:
        """Does nothing: connections and segment stay open for the next request."""


# A key is counted only if it is there; Redis itself would begin with 0.
_INCR = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local done = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(done) == 'table' then return 'text' end
return done
"""


def _escaped(prefix: bytes) -> bytes:
    """Returns a prefix as SCAN takes it literally."""
    return b"".join(b"\\" + bytes([one]) if one in b"*?[]^\\-" else bytes([one]) for one in prefix)


def check_near_caches(app_configs: Any, **_: Any) -> List[checks.CheckMessage]:
    """Looks at the settings of every alias that has this backend; part of `manage.py check`.

    Args:
        app_configs: not used.

    Returns:
        What is wrong with them, and what will be slow.
    """
    messages: List[checks.CheckMessage] = []
    for alias in settings.CACHES:
        where = f"CACHES[{alias!r}]"
        try:
            cache = caches[alias]
        except ConfigurationError as error:
            messages.append(checks.Error(f"{where}: {error}", id="memstream.E101"))
            continue
        if isinstance(cache, NearRedisCache):
            messages += _check(cache, where)
    return messages


def _check(cache: NearRedisCache, where: str) -> Iterator[checks.CheckMessage]:
    if not cache.key_prefix:
        hint = "Set KEY_PREFIX, so that Redis reports the changes of this site alone."
        yield checks.Warning(f"{where}: all keys of the Redis are tracked.", hint, id="memstream.W102")
    try:
        cache.near.client.ping()
    except (ConfigurationError, TypeError, ValueError) as error:
        yield checks.Error(f"{where}: {error}", id="memstream.E101")
    except _TROUBLE as error:
        yield checks.Warning(f"{where}: Redis cannot be used: {error}", id="memstream.W103")


checks.register(check_near_caches, checks.Tags.caches)
