"""Functions whose results all processes share."""

from __future__ import annotations

import threading
import time
from typing import Any, Dict, Iterator, List

import pytest
from conftest import Segment

from memstream import Cache, CacheInfo, _shared, destroy, errors, lru_cache
from memstream.memo_keys import KeyMaker


def test_a_result_is_computed_once(cache: Cache) -> None:
    calls: List[Any] = []

    @cache.memoize()
    def add(a: int, b: int = 2) -> Dict[str, int]:
        """Adds."""
        calls.append((a, b))
        return {"sum": a + b}

    assert add(1) == add(1, 2) == add(a=1, b=2) == add(b=2, a=1) == {"sum": 3}
    assert add(1, 3) == {"sum": 4}
    assert calls == [(1, 2), (1, 3)]
    assert add.cache_info() == CacheInfo(hits=3, misses=2, maxsize=None, currsize=2)
    assert add.__name__ == "add" and add.__doc__ == "Adds."  # type: ignore[attr-defined]
    assert add.__wrapped__(5) == {"sum": 7} and calls[-1] == (5, 2)
    add(1)["sum"] = 99
    assert add(1) == {"sum": 3}


@pytest.mark.parametrize("stale", [0, 60])
@pytest.mark.parametrize("value", [None, 0, b"", b"bytes", "text", [1, (2,)], 2**80, False], ids=repr)
def test_every_result_is_kept_none_among_them(cache: Cache, value: Any, stale: float) -> None:
    calls: List[int] = []

    @cache.memoize(ttl=60, stale=stale)
    def make() -> Any:
        calls.append(1)
        return value

    for _ in range(3):
        assert make() == value and type(make()) is type(value)
    assert calls == [1]


def test_the_serializer_of_the_cache_is_used(segment: Segment) -> None:
    with Cache(serializer="json") as cache, Cache() as plain:

        @cache.memoize()
        def make(number: int) -> Any:
            return (number, b"")[:1]

        assert make(1) == (1,) and make(1) == [1]
        (key,) = cache
        with plain.view(key) as memory:
            assert memory == b"[1]"
        stale = cache.memoize(ttl=60, stale=60)(make.__wrapped__)
        assert stale(2) == (2,) and stale(2) == [2]
        assert sorted(cache.values()) == [[1], [2]]  # A plain get of a result gives the result.


def test_methods_count_the_state_of_their_object(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: List[int] = []
    monkeypatch.setattr(Counter, "calls", calls)
    total: Any = cache.memoize()(Counter.total)
    ignoring: Any = cache.memoize(ignore="self")(Counter.total)
    monkeypatch.setattr(Counter, "total", total)
    assert [Counter(1).total(5), Counter(1).total(5), Counter(2).total(5)] == [6, 6, 7]
    assert calls == [1, 2]
    total.cache_clear()
    monkeypatch.setattr(Counter, "total", ignoring)
    assert [Counter(3).total(5), Counter(4).total(5)] == [8, 8]


class Counter:
    calls: List[int] = []

    def __init__(self, start: int) -> None:
        self.start = start

    def total(self, more: int) -> int:
        self.calls.append(self.start)
        return self.start + more


def test_exceptions_are_not_kept_and_end_the_lease(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize()
    def fail() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ZeroDivisionError(len(calls))
        return 7

    for number in (1, 2):
        with pytest.raises(ZeroDivisionError, match=str(number)):
            fail()
        assert cache.wait_for_lease(KeyMaker(fail.__wrapped__).key_of((), {}), 5)
    started = time.monotonic()
    assert fail() == 7 and time.monotonic() - started < 10


def test_cache_if_decides_what_is_kept(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize(cache_if=lambda result: result > 1)
    def grow() -> int:
        calls.append(1)
        return len(calls)

    assert [grow() for _ in range(4)] == [1, 2, 2, 2]


def test_a_result_that_is_too_large_is_given_back_with_a_warning(cache: Cache) -> None:
    @cache.memoize()
    def make() -> bytes:
        return bytes(40_000_000)

    with pytest.warns(RuntimeWarning, match="is not cached"):
        assert len(make()) == 40_000_000
    with pytest.warns(RuntimeWarning):
        assert len(make()) == 40_000_000


def test_results_end(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize(ttl=0.05)
    def make() -> int:
        calls.append(1)
        return len(calls)

    assert make() == make() == 1
    time.sleep(0.1)
    assert make() == 2


def test_refresh_forget_and_clear(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize(ttl=60)
    def make(name: str) -> int:
        calls.append(1)
        return len(calls)

    @cache.memoize()
    def other() -> int:
        return 1

    other()
    assert (make("a"), make.refresh("a"), make("a"), make("b")) == (1, 2, 2, 3)
    assert make.forget("a") is True and make.forget("a") is False and make("a") == 4
    assert make.cache_info().currsize == 2
    make.cache_clear()
    assert make.cache_info() == CacheInfo(0, 0, None, 0) and other.cache_info().currsize == 1
    assert make("b") == 5


def test_a_stale_result_is_given_to_all_but_the_one_who_computes(cache: Cache) -> None:
    calls: List[int] = []
    goes_on, computing = threading.Event(), threading.Event()

    @cache.memoize(ttl=0.05, stale=60, ignore=("goes_on", "computing"))
    def make() -> int:
        calls.append(1)
        if len(calls) == 2:
            computing.set()
            assert goes_on.wait(20)
        return len(calls)

    assert make() == 1
    time.sleep(0.1)
    results: List[int] = []
    thread = threading.Thread(target=lambda: results.append(make()))
    thread.start()
    assert computing.wait(20)
    assert [make(), make()] == [1, 1]
    goes_on.set()
    thread.join()
    assert results == [2] and make() == 2 and len(calls) == 2


def test_what_is_written_meanwhile_is_newer_than_what_is_computed(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize()
    def make() -> int:
        calls.append(1)
        number = len(calls)
        if number == 1:
            assert make.refresh() == 2  # Somebody stores a result while this one is being computed.
        return number

    assert make() == 1
    assert make() == 2


def test_jitter_spreads_the_ends_of_results(cache: Cache) -> None:
    @cache.memoize(ttl=100, jitter=0.5)
    def square(number: int) -> int:
        return number * number

    for number in range(200):
        square(number)
    now = time.time()
    lives = sorted(entry.expires_at - now for entry in cache.scan() if entry.expires_at is not None)
    assert 45 < lives[0] < 60 and 90 < lives[-1] <= 100
    assert 65 < lives[100] < 85


def test_absence_has_a_time_to_live_of_its_own(cache: Cache) -> None:
    @cache.memoize(ttl=1000, absent_ttl=100)
    def find(number: int) -> Any:
        return number or None

    lives = []
    for number in (0, 1):
        assert find(number) == find(number) == (number or None)
        ends = [entry.expires_at or 0 for entry in cache.scan()]
        lives.append(ends[0] - time.time())
        cache.clear()
    assert 50 < lives[0] <= 100 and 900 < lives[1] <= 1000
    assert find.cache_info().hits == 2


def test_jitter_needs_a_time_to_live(cache: Cache) -> None:
    with pytest.raises(ValueError, match="0 without a ttl"):
        cache.memoize(jitter=0.1)
    cache.memoize(jitter=0.1, absent_ttl=5)


def test_impossible_options_are_refused_at_once(cache: Cache) -> None:
    with pytest.raises(errors.InvalidArgument, match="ttl"):
        cache.memoize(ttl=0)
    for options in ({"stale": 5}, {"ttl": 5, "stale": -1}):
        with pytest.raises(ValueError, match="stale"):
            cache.memoize(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no parameter 'z'"):
        cache.memoize(ignore=["a", "z"])(lambda a: a)

    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        cache.memoize()(generator)


def test_a_damaged_result_is_computed_again(cache: Cache) -> None:
    @cache.memoize()
    def make() -> int:
        return 1

    make()
    (key,) = cache
    assert cache._library.c.memstream_set(cache._handle, key, len(key), b"short", 5, 0, 0xE7000000) == 0
    with pytest.warns(RuntimeWarning, match="cannot be read.*damaged"):
        assert make() == 1
    assert make() == 1 and make.cache_info().misses == 2


def test_a_result_of_another_serializer_is_computed_again(segment: Segment) -> None:
    def make() -> List[int]:
        return [1]

    with Cache(serializer="json") as json, Cache() as plain:
        json.memoize(name="make")(make)()
        with pytest.warns(RuntimeWarning, match="cannot be read"):
            assert plain.memoize(name="make")(make)() == [1]
        with pytest.warns(RuntimeWarning, match="cannot be read"):
            assert json.memoize(name="make", ttl=60, stale=60)(make)() == [1]


DEPLOYED = """
import sys, warnings, memstream
warnings.simplefilter("ignore")
class {name}:
    pass
@memstream.Cache().memoize(name="make")
def make():
    print("computing")
    return {name}()
print(type(make()).__name__, type(make()).__name__)
"""


def test_a_result_whose_class_has_gone_is_computed_again(cache: Cache, segment: Segment) -> None:
    assert segment.code(DEPLOYED.format(name="Old")) == b"computing\nOld Old\n"
    assert segment.code(DEPLOYED.format(name="New")) == b"computing\nNew New\n"


def test_an_exception_from_a_signal_handler_is_no_unreadable_result(cache: Cache) -> None:
    class Timeout(Exception):
        pass

    @cache.memoize()
    def make() -> Any:
        return Interrupted()

    make()
    Interrupted.error = Timeout()
    try:
        with pytest.raises(Timeout):
            make()
    finally:
        Interrupted.error = None


class Interrupted:
    error: Any = None

    def __setstate__(self, state: Any) -> None:
        if self.error is not None:
            raise self.error

    def __getstate__(self) -> Any:
        return (1,)


# ---- lru_cache ----


@pytest.fixture
def default_cache(segment: Segment) -> Iterator[None]:
    _shared._open.clear()
    yield
    _shared._open.clear()


def test_lru_cache_has_the_words_of_functools(default_cache: None) -> None:
    calls: List[Any] = []

    @lru_cache
    def plain(a: Any) -> Any:
        calls.append(a)
        return [a]

    @lru_cache(maxsize=None, typed=True)
    def typed(a: Any) -> Any:
        calls.append(a)
        return type(a).__name__

    assert [plain(1), plain(1.0), plain(True)] == [[1]] * 3 and calls == [1]
    assert [typed(1), typed(1.0), typed(True), typed(1)] == ["int", "float", "bool", "int"]
    assert plain.cache_info() == (2, 1, None, 1)
    plain.cache_clear()
    assert plain.cache_info().currsize == 0 and plain.__wrapped__(3) == [3]
    with pytest.raises(ValueError, match="maxsize"):
        lru_cache(maxsize=0)


def test_lru_cache_opens_nothing_before_the_first_call(segment: Segment) -> None:
    segment.code("import memstream\n@memstream.lru_cache\ndef f(): return 1\nassert not memstream._shared._open")
    with pytest.raises(errors.NoSegment):
        Cache(create=False)


def test_lru_cache_goes_on_in_a_new_segment(default_cache: None, segment: Segment) -> None:
    calls: List[int] = []

    @lru_cache
    def plain(number: int) -> int:
        calls.append(number)
        if number == 4 and calls.count(4) == 1:
            destroy()
        return number

    for again in (plain, plain.refresh, plain.forget):
        assert plain(1) == 1
        destroy()
        assert again(1) in (1, False)
    destroy()
    plain.cache_clear()
    destroy()
    assert plain.cache_info().currsize == 0
    assert plain(4) == 4 and plain(4) == 4 and calls.count(4) == 1  # Destroyed while it was being computed.


def test_lru_cache_that_waits_goes_on_in_a_new_segment(default_cache: None, segment: Segment) -> None:
    @lru_cache
    def plain() -> int:
        return 5

    key = KeyMaker(plain.__wrapped__).key_of((), {})
    with Cache() as other:
        lease = other.lease(key)
        results: List[int] = []
        thread = threading.Thread(target=lambda: results.append(plain()))
        thread.start()
        time.sleep(0.2)
        assert lease is not None and not results
        other.destroy()
        thread.join(10)
    assert results == [5]


def test_a_cache_whose_segment_was_destroyed_says_so(segment: Segment) -> None:
    with Cache() as cache:

        @cache.memoize()
        def make() -> int:
            return 1

        destroy()
        for call in (make, make.refresh, make.forget, make.cache_clear):
            with pytest.raises(errors.CacheGone):
                call()
