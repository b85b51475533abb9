"""The cachelib cache and the Flask-Caching backend."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Iterator, List

import pytest
from conftest import Segment

from memstream import Cache, _shared

pytest.importorskip("cachelib", reason="cachelib is not installed (Debian: python3-cachelib)")

from memstream.cachelib import MemStreamCache  # noqa: E402  cachelib may be missing.


@pytest.fixture
def shared(segment: Segment) -> Iterator[MemStreamCache]:
    _shared._open.clear()
    yield MemStreamCache(segment.name)
    _shared._open.clear()


def remaining(cache: MemStreamCache, key: str) -> Any:
    entry = cache._shared.cache.entry(key)
    assert entry is not None
    return None if entry.expires_at is None else entry.expires_at - time.time()


@pytest.mark.parametrize("value", [None, 0, 5, "text", b"bytes", [1, (2,)], {"a": {1}}, True], ids=repr)
def test_values_of_every_kind_come_back(shared: MemStreamCache, value: Any) -> None:
    assert shared.set("key", value) is True
    assert shared.get("key") == value and type(shared.get("key")) is type(value)


def test_simple_operations(shared: MemStreamCache) -> None:
    assert shared.get("absent") is None and shared.has("absent") is False
    assert shared.add("key", 1) is True and shared.add("key", 2) is False
    assert shared.get("key") == 1 and shared.has("key") is True
    assert shared.delete("key") is True and shared.delete("key") is False
    assert shared.clear() is True


def test_many_keys(shared: MemStreamCache) -> None:
    assert shared.set_many({"a": 1, "b": 2}) == ["a", "b"]
    assert shared.get_many("a", "absent", "b") == [1, None, 2]
    assert shared.get_dict("a", "absent") == {"a": 1, "absent": None}
    assert shared.delete_many("a", "absent", "b") == ["a", "b"]
    assert shared.get_many("a", "b") == [None, None]


def test_timeouts(shared: MemStreamCache, segment: Segment) -> None:
    shared.set("default", 1)
    shared.set("for ever", 1, timeout=0)
    shared.add("minute", 1, timeout=60)
    shared.set_many({"many": 1}, timeout=30)
    assert remaining(shared, "default") == pytest.approx(300, abs=2) and remaining(shared, "for ever") is None
    assert remaining(shared, "minute") == pytest.approx(60, abs=2)
    assert remaining(shared, "many") == pytest.approx(30, abs=2)
    eternal = MemStreamCache(segment.name, default_timeout=0)
    eternal.set("key", 1)
    assert remaining(eternal, "key") is None


@pytest.mark.parametrize("timeout", [-1, -0.5, timedelta(seconds=-1), -(2**70)], ids=repr)
def test_a_negative_timeout_has_expired(shared: MemStreamCache, timeout: Any) -> None:
    shared.set("key", 1)
    assert shared.set("key", 2, timeout) is True and shared.get("key") is None and not shared.has("key")
    assert shared.add("key", 3, timeout) is True and shared.get("key") is None
    shared.set("key", 4)
    assert shared.add("key", 5, timeout) is False and shared.get("key") == 4
    assert shared.set_many({"key": 6, "other": 7}, timeout) == ["key", "other"]
    assert shared.get_many("key", "other") == [None, None]


@pytest.mark.parametrize(
    "timeout, left", [(0, None), (0.0, None), (timedelta(0), None), (2.5, 2.5), (timedelta(1), 86400)]
)
def test_timeouts_of_every_kind(shared: MemStreamCache, timeout: Any, left: Any) -> None:
    shared.set("set", 1, timeout)
    shared.add("add", 1, timeout)
    shared.set_many({"many": 1}, timeout)
    for key in ("set", "add", "many"):
        assert remaining(shared, key) == (left and pytest.approx(left, abs=2))


@pytest.mark.parametrize("default", [-1, timedelta(seconds=-1)])
def test_a_negative_default_timeout_has_expired(segment: Segment, shared: MemStreamCache, default: Any) -> None:
    cache = MemStreamCache(segment.name, default_timeout=default)
    cache.set("key", 1)
    assert cache.get("key") is None
    assert cache.inc("counter", 5) == 5 and cache.get("counter") is None
    cache.set("counter", 5, timeout=60)
    assert cache.inc("counter") == 6 and cache.get("counter") == 6


def test_a_default_timeout_of_none_is_for_ever(segment: Segment, shared: MemStreamCache) -> None:
    MemStreamCache(segment.name, default_timeout=None).set("key", 1)
    assert remaining(shared, "key") is None


def test_counting(shared: MemStreamCache) -> None:
    assert shared.inc("counter") == 1 and shared.inc("counter", 5) == 6 and shared.dec("counter", 2) == 4
    assert shared.dec("other") == -1 and shared.get("counter") == 4
    shared.set("text", "x")
    with pytest.raises(ValueError):
        shared.inc("text")


def test_prefixes_and_long_keys(shared: MemStreamCache, segment: Segment) -> None:
    other = MemStreamCache(segment.name, key_prefix="other:")
    shared.set("key", 1)
    other.set("key", 2)
    assert (shared.get("key"), other.get("key")) == (1, 2)
    keys = ["x" * 3000 + end for end in "ab"]
    assert other.clear() is True
    assert (shared.get("key"), other.get("key")) == (1, None)
    shared.set_many(dict(zip(keys, "ab")))
    assert shared.get_many(*keys) == ["a", "b"]


def test_options_are_those_of_a_cache(segment: Segment, shared: MemStreamCache) -> None:
    MemStreamCache(segment.name, serializer="json").set("key", [1])
    with Cache(serializer="json") as cache:
        assert cache["key"] == [1]


@pytest.fixture
def app(segment: Segment, shared: MemStreamCache) -> Any:
    flask = pytest.importorskip("flask", reason="Flask is not installed (Debian: python3-flask)")
    pytest.importorskip("flask_caching", reason="Flask-Caching is not installed (Debian: python3-flask-caching)")
    made = flask.Flask("test")
    made.config.update(
        CACHE_TYPE="memstream.flask_caching.MemStreamCache",
        CACHE_MEMSTREAM_NAME=segment.name,
        CACHE_KEY_PREFIX="site:",
        CACHE_DEFAULT_TIMEOUT=60,
    )
    return made


def test_flask_caching_caches_views_and_functions(app: Any, shared: MemStreamCache) -> None:
    from flask_caching import Cache as FlaskCache

    caching = FlaskCache(app)
    calls: List[Any] = []

    @app.route("/<name>")
    @caching.cached()
    def page(name: str) -> str:
        calls.append(name)
        return f"page of {name}"

    @caching.memoize(timeout=30)
    def square(number: int) -> int:
        calls.append(number)
        return number * number

    client = app.test_client()
    assert [client.get(path).text for path in ("/a", "/a", "/b")] == ["page of a", "page of a", "page of b"]
    with app.app_context():
        assert [square(3), square(3), square(4)] == [9, 9, 16]
        assert calls == ["a", "b", 3, 4]
        caching.delete_memoized(square, 3)
        assert square(3) == 9 and calls == ["a", "b", 3, 4, 3]
        assert caching.set("key", 5) and caching.get("key") == 5 and caching.has("key")
        assert caching.add("key", 6) is False and caching.delete("key")
        assert caching.set_many({"a": 1, "b": 2}) == ["a", "b"] and caching.get_many("a", "b") == [1, 2]
    assert shared._shared.cache.keys() and all(key.startswith(b"site:") for key in shared._shared.cache)


@pytest.mark.parametrize("ignores", [False, True])
def test_flask_caching_stops_deleting_at_an_absent_key_unless_told_otherwise(app: Any, ignores: bool) -> None:
    from flask_caching import Cache as FlaskCache

    app.config["CACHE_IGNORE_ERRORS"] = ignores
    caching = FlaskCache(app)
    with app.app_context():
        caching.set_many({"a": 1, "b": 2})
        assert caching.delete_many("a", "absent", "b") == (["a", "b"] if ignores else ["a"])


def test_flask_caching_calls_a_key_prefix_that_is_a_function(app: Any, shared: MemStreamCache) -> None:
    from flask_caching import Cache as FlaskCache

    tenant = ["first"]
    app.config["CACHE_KEY_PREFIX"] = lambda: f"{tenant[0]}:"
    caching = FlaskCache(app)

    @caching.memoize()
    def whose() -> str:
        return tenant[0]

    with app.app_context():
        caching.set_many({"key": 1, "other": 2})
        assert whose() == "first"
        tenant[0] = "second"
        assert caching.get_many("key", "other") == [None, None] and whose() == "second"
        caching.set("key", 3)
        assert caching.add("key", 4) is False and caching.has("key") and caching.cache.inc("count") == 1
        assert caching.clear() and caching.get("key") is None
        tenant[0] = "first"
        assert caching.get_dict("key", "other") == {"key": 1, "other": 2} and whose() == "first"
        assert caching.delete_many("key", "other") == ["key", "other"]
    assert all(key.startswith(b"first:") for key in shared.memstream)


def test_flask_caching_unlinks_beyond_an_absent_key(app: Any) -> None:
    from flask_caching import Cache as FlaskCache

    caching = FlaskCache(app)
    with app.app_context():
        caching.set_many({"a": 1, "b": 2})
        assert caching.unlink("a", "absent", "b") == 2 and caching.get_many("a", "b") == [None, None]
        assert caching.unlink() == 0


@pytest.mark.parametrize("timeout", [-1, 0, None])
def test_flask_caching_has_the_timeouts_of_cachelib(app: Any, timeout: Any, shared: MemStreamCache) -> None:
    from flask_caching import Cache as FlaskCache

    app.config["CACHE_DEFAULT_TIMEOUT"] = timeout
    caching = FlaskCache(app)
    with app.app_context():
        caching.set("key", 1)
        assert caching.get("key") == (1 if timeout != -1 else None)
        if timeout != -1:
            assert remaining(shared, "site:key") is None


def test_flask_caching_takes_the_name_from_its_arguments(app: Any, segment: Segment, shared: MemStreamCache) -> None:
    from flask_caching import Cache as FlaskCache

    app.config.update(CACHE_ARGS=[segment.name], CACHE_MEMSTREAM_NAME="another")
    caching = FlaskCache(app)
    with app.app_context():
        caching.set("key", 1)
    assert list(shared.memstream) == [b"site:key"]


def test_many_keys_are_one_call(shared: MemStreamCache, shared_calls: List[str]) -> None:
    values = {f"key-{i}": [i] for i in range(200)}
    assert shared.set_many(values) == list(values)
    assert shared.get_dict(*values, "absent") == {**values, "absent": None}
    assert shared.delete_many("absent", *values) == list(values)
    assert shared_calls == ["set_many", "get_many", "_delete_each"]


def test_flask_caching_has_many_keys_in_one_call(app: Any, shared_calls: List[str]) -> None:
    from flask_caching import Cache as FlaskCache

    app.config["CACHE_IGNORE_ERRORS"] = True
    caching = FlaskCache(app)
    with app.app_context():
        assert caching.set_many({"a": 1, "b": 2}) == ["a", "b"]
        assert caching.get_many("a", "absent", "b") == [1, None, 2]
        assert caching.delete_many("a", "absent", "b") == ["a", "b"]
    assert shared_calls == ["set_many", "get_many", "_delete_each"]
