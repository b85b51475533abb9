"""One value that cannot be decoded, after a deploy or beside another serializer, among others that can."""

from __future__ import annotations

import pickle
import sys
import types
import warnings
from typing import Any, Callable, Dict, Iterator

import pytest
from conftest import Segment

from memstream import Cache, CacheMiss, SerializerError, UndecodableWarning, errors
from memstream._core.kinds import Kind, flag_word

GOOD = {b"a": "first", b"z": "last"}


class Loads:
    """A serializer of the caller's own that fails as it is told to."""

    name = "loads"
    error: BaseException = KeyError("lost")

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def loads(self, data: bytes) -> Any:
        value = pickle.loads(data)
        if value == "bad":
            raise self.error
        return value


def _class_that_is_gone(segment: Segment) -> Cache:
    module = types.ModuleType("before_the_deploy")
    module.User = type("User", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    cache = Cache(serializer="pickle")
    cache["bad"] = module.User()
    del sys.modules[module.__name__]
    return cache


def _other_serializer(segment: Segment) -> Cache:
    with Cache(serializer="json") as other:
        other["bad"] = {"a": 1}
    return Cache(serializer="pickle")


def _no_serializer(segment: Segment) -> Cache:
    with Cache(serializer="json") as other:
        other["bad"] = {"a": 1}
    return Cache()


def _own_serializer(segment: Segment) -> Cache:
    cache = Cache(serializer=Loads())
    cache["bad"] = "bad"
    return cache


def _other_own_serializer(segment: Segment) -> Cache:
    _own_serializer(segment).close()
    return Cache(serializer=type("Mine", (Loads,), {"name": "mine"})())


def _damaged(segment: Segment) -> Cache:
    cache = Cache(serializer="pickle")
    cache._connection.store(cache._library.c.memstream_set, "bad", b"\xff" * 16, None, flag_word(Kind.PICKLE_PARTS, 0))
    return cache


def _newer(segment: Segment) -> Cache:
    cache = Cache(serializer="pickle")
    cache._connection.store(cache._library.c.memstream_set, "bad", b"?", None, 0xEF000000)
    return cache


CASES: Dict[str, "tuple[Callable[[Segment], Cache], str]"] = {
    "class gone": (_class_that_is_gone, "it raises ModuleNotFoundError: No module named 'before_the_deploy'"),
    "other serializer": (_other_serializer, 'it was stored with serializer="json". Open the cache with it'),
    "no serializer": (_no_serializer, 'it was stored with serializer="json". Open the cache with it'),
    "own serializer": (_own_serializer, "it raises KeyError: 'lost'"),
    "other own serializer": (_other_own_serializer, "it was stored with the serializer 'loads'"),
    "damaged": (_damaged, "it is a damaged pickle with buffers"),
    "newer version": (_newer, "it has the unknown kind 0xef. Install the newer version"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(segment: Segment, case: str) -> Iterator[Cache]:
    """A cache with one value that it cannot decode, under "bad", and two that it can."""
    with CASES[case][0](segment) as opened:
        opened.update(GOOD if opened._codec.stores_objects else {key: value.encode() for key, value in GOOD.items()})
        yield opened


def good(cache: Cache) -> Dict[Any, Any]:
    return {key: cache[key] for key in GOOD}


WALKS: Dict[str, Callable[[Cache], Any]] = {
    "get_many": lambda cache: cache.get_many([b"a", b"bad", b"z"]),
    "items": lambda cache: dict(cache.items()),
    "dict": lambda cache: dict(zip(sorted(GOOD), sorted(cache.values()))),
    "popitem": lambda cache: dict([cache.popitem(), cache.popitem()]),
}


@pytest.mark.parametrize("walk", WALKS)
def test_the_others_come_back_and_a_warning_says_why_one_does_not(cache: Cache, case: str, walk: str) -> None:
    expected = good(cache)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert WALKS[walk](cache) == expected
    assert caught or walk == "popitem"  # Which may have met the others first.
    for warning in caught:
        assert warning.category is UndecodableWarning and warning.filename == __file__
        assert str(warning.message).startswith("Left out a value that cannot be decoded: " + CASES[case][1])


def test_a_warning_is_shown_once_however_many_values_there_are(segment: Segment) -> None:
    with Cache(serializer="json") as other, Cache() as cache:
        other.update({str(number): [number] for number in range(1000)})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(3):
                assert cache.get_many(map(str, range(1000))) == {}
    assert len(caught) == 1


def test_the_warning_as_an_error_names_the_key(cache: Cache) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UndecodableWarning)
        with pytest.raises(UndecodableWarning) as caught:
            cache.get_many([b"a", "bad"])
    cause = caught.value.__context__
    assert cause is not None and (
        not isinstance(cause, SerializerError) or str(cause).startswith("The value of 'bad' ")
    )


def test_pop_with_a_default_removes_it_and_without_one_leaves_it(cache: Cache) -> None:
    with pytest.raises(Exception) as caught:
        cache.pop("bad")
    assert not isinstance(caught.value, CacheMiss) and "bad" in cache
    with pytest.warns(UndecodableWarning):
        assert cache.pop("bad", "default") == "default"
    assert "bad" not in cache and cache.pop("bad", "default") == "default"
    with pytest.raises(CacheMiss):
        cache.pop("bad")


def test_a_single_read_still_says_what_is_wrong(cache: Cache, case: str) -> None:
    for read in (cache.get, cache.gets, cache.__getitem__):
        with pytest.raises((SerializerError, ModuleNotFoundError, KeyError)) as caught:
            read("bad")
        if isinstance(caught.value, SerializerError):
            assert caught.value.key == "bad" and str(caught.value).startswith("The value of 'bad' ")
            copy = pickle.loads(pickle.dumps(caught.value))
            assert str(copy) == str(caught.value)


def test_it_is_in_no_view_of_the_items(cache: Cache) -> None:
    with pytest.warns(UndecodableWarning):
        assert ("bad", "anything") not in cache.items()
    assert all(item in cache.items() for item in good(cache).items())
    assert b"bad" in cache and b"bad" in list(cache)


def test_what_raises_for_another_reason_is_asked_once(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cache(serializer="pickle") as cache:
        calls = []

        def busy(*arguments: Any) -> Any:
            calls.append(arguments)
            raise errors.CacheBusy(None, "busy")

        monkeypatch.setattr(cache, "get", busy)
        for call in (lambda: cache.pop("key", None), lambda: ("key", 1) in cache.items()):
            with pytest.raises(errors.CacheBusy) as caught:
                call()
            assert caught.value.__context__ is None
    assert len(calls) == 2


def test_an_empty_cache_has_nothing_to_pop(cache: Cache) -> None:
    cache.delete_many(GOOD)
    with pytest.warns(UndecodableWarning), pytest.raises(CacheMiss, match="no value that can be decoded"):
        cache.popitem()


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_value_ends_the_batch(segment: Segment, error: BaseException) -> None:
    serializer = Loads()
    serializer.error = error
    with Cache(serializer=serializer) as cache:
        cache["bad"] = "bad"
        with pytest.raises(type(error)):
            cache.get_many(["bad"])
        with pytest.raises(type(error)):
            cache.pop("bad", None)
        assert "bad" in cache
    with pytest.raises(errors.ClosedError):
        cache.get_many(["bad"])
    with pytest.raises(errors.ClosedError):
        cache.pop("bad", None)
