"""The Django backend with Redis behind it and the near cache of this machine before it."""

from __future__ import annotations

import os
import pickle
import threading
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from conftest import MIB, Segment

from memstream.errors import ConfigurationError, InvalidArgument

pytest.importorskip("django", reason="Django is not installed (Debian: python3-django)")
redis = pytest.importorskip("redis", reason="redis-py is not installed (Debian: python3-redis)")

from django.core.cache.backends.base import CacheKeyWarning  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django_site import MemStreamCache  # noqa: E402,F401  It makes the settings.
from near_redis import Server, becomes_true, is_current, need_library, need_server  # noqa: E402
from test_django import VALUES  # noqa: E402

from memstream.django import NearRedisCache, check_near_caches  # noqa: E402
from memstream.integrations import near_django  # noqa: E402

Make = Callable[..., NearRedisCache]


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    need_server()
    started = Server()
    yield started
    started.end()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.start_if_killed()
    return one_server


@pytest.fixture
def make(server: Server, segment: Segment, library: Path) -> Iterator[Make]:
    """Gives a function that makes backends on the segment of the test."""
    need_library(library)
    server.client().flushall()

    def make(**parameters: Any) -> NearRedisCache:
        options = {"near": {"name": segment.name, "size": 16 * MIB}, "max_lag": 0.6, "timeout": 0.5}
        options.update(parameters.pop("OPTIONS", {}))
        return NearRedisCache(parameters.pop("LOCATION", server.url), {"OPTIONS": options, **parameters})

    near_django._open.clear()
    yield make
    for near in near_django._open.values():
        near.close()
    near_django._open.clear()


@pytest.fixture
def django(make: Make) -> NearRedisCache:
    made = make(KEY_PREFIX="site")
    assert becomes_true(lambda: is_current(made.near))
    return made


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_of_every_kind_come_back(django: NearRedisCache, value: Any) -> None:
    django.set("key", value)
    assert django.get("key", "default") == value and type(django.get("key")) is type(value)
    assert django.add("added", value) and django.get("added") == value
    assert django.set_many({"many": value}) == []
    assert django.get_many(["many", "absent"]) == {"many": value}


def test_simple_operations(django: NearRedisCache) -> None:
    assert django.get("absent") is None and django.get("absent", "default") == "default"
    assert django.add("key", 1) is True and django.add("key", 2) is False and django.get("key") == 1
    assert django.has_key("key") is True and "key" in django and "absent" not in django
    assert django.delete("key") is True and django.delete("key") is False and not django.has_key("key")
    django.set_many({"a": 1, "b": 2})
    django.delete_many(["a", "b", "absent"])
    assert django.get_many(["a", "b"]) == {} and django.set_many({}) == []
    django.delete_many([])
    django.close()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        django.set("lambda", lambda: None)


def test_what_is_read_is_a_hit_and_what_others_write_is_seen(server: Server, django: NearRedisCache) -> None:
    django.set("key", "old")
    name = django.make_key("key")

    def is_hit() -> bool:
        hits = django.near.stats().hits
        return django.get("key") == "old" and django.near.stats().hits > hits

    assert becomes_true(is_hit)
    server.client().set(name, pickle.dumps("new"))
    assert becomes_true(lambda: django.get("key") == "new", 0.6)


def test_timeouts(django: NearRedisCache) -> None:
    django.set("short", 1, 0.06)
    django.set("ever", 1, None)
    django.set("span", 1, timedelta(seconds=60))
    assert django.get("short") == 1 and django.ttl("ever") is None and django.ttl("span") == 60
    assert django.ttl("absent") == 0
    time.sleep(0.09)
    assert django.get("short") is None
    for timeout in (0, -1):
        django.set("key", 1)
        django.set("key", 2, timeout)
        assert django.get("key") is None and django.add("key", 1, timeout) is True and django.get("key") is None
        django.set("key", 1)
        assert django.add("key", 1, timeout) is False
        assert django.set_many({"key": 2}, timeout) == [] and django.get("key") is None
        django.set("key", 1)
        assert django.touch("key", timeout) is True and django.get("key") is None
    django.set("key", 1, 60)
    assert django.touch("key", 600) is True and django.ttl("key") == 600
    assert django.touch("key", None) is True and django.ttl("key") is None and django.touch("key", None) is True
    assert django.touch("absent") is False and django.touch("absent", None) is False


def test_counting(django: NearRedisCache) -> None:
    django.set("answer", 41, 60)
    assert django.incr("answer") == 42 and django.get("answer") == 42 and django.ttl("answer") == 60
    assert django.decr("answer", 50) == -8
    with pytest.raises(ValueError, match="not found"):
        django.incr("absent")
    django.set("text", "value")
    with pytest.raises(ValueError, match="no whole number"):
        django.incr("text")
    assert django.incr_version("answer") == 2 and django.get("answer", version=2) == -8


def test_versions_prefixes_and_clear(server: Server, make: Make, django: NearRedisCache) -> None:
    other = make(KEY_PREFIX="other")
    for backend, value in ((django, "site"), (other, "other")):
        backend.set("key", value)
        backend.set("key", f"{value} 2", version=2)
    assert django.get("key") == "site" and other.get("key", version=2) == "other 2"
    django.clear()
    assert django.get("key") is None and django.get("key", version=2) is None
    assert other.get("key") == "other" and other.get("key", version=2) == "other 2"
    everything = make()
    everything.set("key", 1)
    everything.clear()
    assert server.client().dbsize() == 0
    assert becomes_true(lambda: other.get("key") is None, 0.6)


def test_strange_prefixes_are_cleared_literally(server: Server, make: Make) -> None:
    strange, plain = make(KEY_PREFIX="a*[b]"), make(KEY_PREFIX="ab")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheKeyWarning)
        strange.set("key", 1)
        plain.set("key", 2)
        strange.clear()
        assert strange.get("key") is None and plain.get("key") == 2


def test_keys_that_memcached_would_refuse_are_warned_of_and_work(django: NearRedisCache) -> None:
    for key in ("with space", "x" * 251, "x" * 2000, "é" * 600):
        with pytest.warns(CacheKeyWarning, match="will cause errors"):
            django.set(key, key)
        with pytest.warns(CacheKeyWarning):
            assert django.get(key) == key


def test_one_of_all_computes_what_is_missing(django: NearRedisCache) -> None:
    calls: List[int] = []

    def compute() -> str:
        calls.append(1)
        time.sleep(0.1)
        return "computed"

    found: List[Any] = []
    threads = [threading.Thread(target=lambda: found.append(django.get_or_set("key", compute))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["computed"] * 4 and calls == [1]
    assert django.get_or_set("plain", 5) == 5 and django.get_or_set("plain", 6) == 5
    with pytest.raises(KeyError):
        django.get_or_set("fails", {}.popitem)
    assert django.get_or_set("fails", lambda: 7) == 7


def test_nobody_waits_if_that_is_chosen(make: Make) -> None:
    django = make(OPTIONS={"wait": 0})
    assert django.get_or_set("key", lambda: 1) == 1 and django.get_or_set("key", lambda: 2) == 1


def test_all_threads_share_one_near_cache_and_a_child_has_its_own(django: NearRedisCache, make: Make) -> None:
    parents = django.near
    assert make(KEY_PREFIX="site").near is parents
    django.set("key", "value")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if django.near is not parents and django.get("key") == "value" else 2
            django.near.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


class Upper:
    """A serializer of one's own."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        return str(value).upper().encode()

    @staticmethod
    def loads(data: bytes) -> str:
        return data.decode()


def test_serializers_and_values_that_cannot_be_decoded(
    server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    django = make(KEY_PREFIX="upper", OPTIONS={"serializer": Upper})
    django.set("key", "value")
    assert django.get("key") == "VALUE"
    plain = make(KEY_PREFIX="upper")
    assert plain.get("key", "default") == "default" and plain.get_many(["key"]) == {}
    assert "cannot be decoded" in caplog.text


def test_trouble_with_redis(server: Server, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    strict = make(KEY_PREFIX="site")
    patient = make(KEY_PREFIX="site", OPTIONS={"ignore_errors": True})
    strict.set("key", "value")
    server.kill()
    time.sleep(0.8)
    try:
        calls: Dict[str, Any] = {
            "get": (lambda backend: backend.get("key", "default"), "default"),
            "set": (lambda backend: backend.set("key", 1), None),
            "add": (lambda backend: backend.add("key", 1), False),
            "delete": (lambda backend: backend.delete("key"), False),
            "get_many": (lambda backend: backend.get_many(["key"]), {}),
            "set_many": (lambda backend: backend.set_many({"key": 1}), ["key"]),
            "has_key": (lambda backend: backend.has_key("key"), False),
            "touch": (lambda backend: backend.touch("key"), False),
            "clear": (lambda backend: backend.clear(), None),
            "ttl": (lambda backend: backend.ttl("key"), 0),
            "get_or_set": (lambda backend: backend.get_or_set("key", lambda: 5), 5),
        }
        for name, (call, missed) in calls.items():
            with pytest.raises(redis.ConnectionError):
                call(strict)
            caplog.clear()
            assert call(patient) == missed, name
            assert "counts as a miss" in caplog.text
    finally:
        server.start()
    assert becomes_true(lambda: is_current(strict.near))
    assert strict.get("key") is None


def test_options_that_are_wrong(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="'max_lagg' in OPTIONS: expected max_lag. Correct its name"):
        make(OPTIONS={"max_lagg": 1})
    with pytest.raises(InvalidArgument, match="max_lag_ms '100': expected 250"):
        make(OPTIONS={"max_lag": 0.1}).get("key")
    assert make(OPTIONS={"MAX_ENTRIES": 5}).get("key") is None
    assert make(LOCATION=[make()._url, "redis://127.0.0.1:1"]).get("key") is None


def test_checks_of_the_settings(server: Server, segment: Segment, make: Make) -> None:
    near = {"name": segment.name, "size": 16 * MIB}
    backend = "memstream.django.NearRedisCache"
    aliases = {
        "default": {"BACKEND": backend, "LOCATION": server.url, "KEY_PREFIX": "a", "OPTIONS": {"near": near}},
        "all": {"BACKEND": backend, "LOCATION": server.url, "OPTIONS": {"near": near}},
        "typo": {"BACKEND": backend, "LOCATION": server.url, "OPTIONS": {"nears": near}},
        "lag": {
            "BACKEND": backend,
            "LOCATION": server.url,
            "KEY_PREFIX": "b",
            "OPTIONS": {"near": near, "max_lag": 0.1},
        },
        "gone": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1", "KEY_PREFIX": "c", "OPTIONS": {"near": near}},
        "other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    with override_settings(CACHES=aliases):
        messages = {str(message.id): str(message.msg) for message in check_near_caches(None)}
    assert sorted(messages) == ["memstream.E101", "memstream.W102", "memstream.W103"]
    with override_settings(CACHES={"default": aliases["default"], "lag": aliases["lag"]}):
        (message,) = check_near_caches(None)
    assert "CACHES['lag']: Invalid max_lag_ms '100'" in str(message.msg)
