"""Both ways raise the same errors in the same words, whatever is wrong: the key, the value, the state of the cache.

test_arguments.py compares what they say of arguments of wrong types.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest
from conftest import MIB, Segment

from memstream import Cache, errors

# Every function that the fast way has, by position as it takes arguments, and one by name, which it leaves.
CALLS: Dict[str, Callable[[Cache], Any]] = {
    "get": lambda cache: cache.get("key"),
    "get by name": lambda cache: cache.get(key="key"),
    "get and touch": lambda cache: cache.get("key", touch=60),
    "set": lambda cache: cache.set("key", b"1"),
    "set a bytearray": lambda cache: cache.set("key", bytearray(b"1"), 60, 7),
    "put": lambda cache: cache.put(b"key", b"1"),
    "delete": lambda cache: cache.delete("key"),
    "exists": lambda cache: cache.exists("key"),
    "touch": lambda cache: cache.touch("key", 60),
    "incr": lambda cache: cache.incr("key"),
    "incr from": lambda cache: cache.incr("key", 1, 0),
    "view": lambda cache: cache.view("key").release(),
    "get_many": lambda cache: cache.get_many(["key", b"other"]),
    "set_many": lambda cache: cache.set_many({"key": b"1"}),
    "delete_many": lambda cache: cache.delete_many(["key", b"other"]),
}


def _closed() -> Cache:
    cache = Cache()
    cache.close()
    return cache


def _destroyed() -> Cache:
    with Cache() as other:
        cache = Cache()
        other.destroy()
    return cache


STATES: Dict[str, Callable[[], Cache]] = {
    "closed": _closed,
    "destroyed": _destroyed,
    "read-only": lambda: Cache(read_only=True),
}


def error_on(way: str, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Cache], call: Callable[[Cache], Any]) -> Any:
    """Returns type, text and status of what a call raises on a way; its result if it raises nothing."""
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", way)
    with Cache() as first:
        first["key"] = b"1"
        with make() as cache:
            assert cache.accelerated == (way == "require") or cache.closed
            try:
                return call(cache)
            except Exception as error:
                return type(error), str(error), getattr(error, "status", None)
        first.clear()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", CALLS)
def test_a_cache_that_cannot_serve_says_the_same(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, name: str, state: str
) -> None:
    fast, plain = [error_on(way, monkeypatch, STATES[state], CALLS[name]) for way in ("require", "off")]
    assert fast == plain
    assert state == "read-only" or fast[0] in (errors.ClosedError, errors.CacheGone)


FAILURES: Dict[str, "tuple[Any, Callable[[Cache], Any]]"] = {
    "an empty key": (errors.BadKey, lambda cache: cache.get("")),
    "a long key": (errors.BadKey, lambda cache: cache.set("k" * 1025, b"1")),
    "a long key of bytes": (errors.BadKey, lambda cache: cache.delete(b"k" * 1025)),
    "a bad key among others": (errors.BadKey, lambda cache: cache.get_many(["key", ""])),
    "a bad key to store": (errors.BadKey, lambda cache: cache.set_many({"key": b"1", "": b"2"})),
    "a bad key to remove": (errors.BadKey, lambda cache: cache.delete_many(["key", ""])),
    "lone surrogates": (UnicodeEncodeError, lambda cache: cache.exists("\udc80")),
    "lone surrogates among others": (UnicodeEncodeError, lambda cache: cache.get_many(["key", "\udc80"])),
    "a large value": (errors.ValueTooLarge, lambda cache: cache.set("key", bytes(40 * MIB))),
    "a large bytearray": (errors.ValueTooLarge, lambda cache: cache.set("key", bytearray(40 * MIB))),
    "a large value among others": (errors.ValueTooLarge, lambda cache: cache.set_many({"key": bytes(40 * MIB)})),
    "no number": (errors.NotNumeric, lambda cache: (cache.set("key", b"text"), cache.incr("key"))),
    "too large a sum": (errors.NotNumeric, lambda cache: cache.incr("key", 2**63 - 1)),
    "an absent number": (errors.CacheMiss, lambda cache: cache.incr("absent")),
    "an absent view": (errors.CacheMiss, lambda cache: cache.view("absent")),
    "an absent item": (errors.CacheMiss, lambda cache: cache["absent"]),
    "an absent item to remove": (errors.CacheMiss, lambda cache: cache.__delitem__("absent")),
    "a foreign value": (errors.SerializerError, lambda cache: (_store_array(cache), cache.get("key"))),
    "a released buffer": (ValueError, lambda cache: cache.set("key", _released())),
    "no argument": (TypeError, lambda cache: cache.get()),  # type: ignore[call-overload]
    "an unknown option": (TypeError, lambda cache: cache.set("key", b"1", expire=1)),  # type: ignore[call-arg]
    "an option twice": (TypeError, lambda cache: cache.set("key", b"1", 1, ttl=1)),  # type: ignore[misc]
    "too many arguments": (TypeError, lambda cache: cache.delete("key", "other")),  # type: ignore[call-arg]
    "no iterable": (TypeError, lambda cache: cache.get_many(7)),  # type: ignore[arg-type]
    "an iterable that raises": (ZeroDivisionError, lambda cache: cache.get_many(str(1 // n) for n in (1, 0))),
    "an iterable that raises TypeError": (TypeError, lambda cache: cache.delete_many("a" + n for n in (1, 0))),
    "a view with a slice in use": (BufferError, lambda cache: _keep_slice(cache)),
}
_kept: List[memoryview] = []


def _released() -> memoryview:
    memory = memoryview(b"value")
    memory.release()
    return memory


def _store_array(cache: Cache) -> None:
    assert cache._library.c.memstream_set(cache._handle, b"key", 3, b"1", 1, 0, 0xE6000000) == 0


def _keep_slice(cache: Cache) -> None:
    view = cache.view("key")
    _kept[:] = [view.memory[:1]]
    view.release()


@pytest.mark.parametrize("name", FAILURES)
def test_a_call_that_fails_says_the_same(segment: Segment, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected, call = FAILURES[name]
    fast, plain = [error_on(way, monkeypatch, Cache, call) for way in ("require", "off")]
    _kept.clear()
    assert fast == plain and fast[0] is expected and fast[1]
