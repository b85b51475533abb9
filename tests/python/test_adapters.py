"""What the adapters of all frameworks have in common: trouble, values too large, values that cannot be decoded."""

from __future__ import annotations

import gc
import pickle
import signal
import sys
import time
import types
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest
from conftest import Segment

from memstream import Cache, _shared, errors
from memstream._shared import SharedCache, bounded_key, seconds_of
from memstream.errors import CacheBusy, CacheFull, NoMemory

TOO_LARGE = b"x" * 40_000_000


class Adapter(NamedTuple):
    """An adapter's own words for what they all do."""

    name: str
    cache: Any
    shared: SharedCache
    get: Callable[[str], Any]
    set: Callable[[str, Any], Any]
    set_many: Callable[[Dict[str, Any]], List[str]]
    """Returns the keys that were not stored."""
    get_many: Callable[[List[str]], Dict[str, Any]]


def make_django(segment: Segment, **options: Any) -> Adapter:
    pytest.importorskip("django", reason="Django is not installed (Debian: python3-django)")
    from memstream.django import MemStreamCache

    cache = MemStreamCache(segment.name, {"OPTIONS": options})
    return Adapter("django", cache, cache._shared, cache.get, cache.set, cache.set_many, cache.get_many)


def make_cachelib(segment: Segment, **options: Any) -> Adapter:
    pytest.importorskip("cachelib", reason="cachelib is not installed (Debian: python3-cachelib)")
    from memstream.cachelib import MemStreamCache

    return of_cachelib("cachelib", MemStreamCache(segment.name, **options))


def make_flask(segment: Segment, **options: Any) -> Adapter:
    pytest.importorskip("flask_caching", reason="Flask-Caching is not installed (Debian: python3-flask-caching)")
    from memstream.flask_caching import MemStreamCache

    config = {"CACHE_MEMSTREAM_NAME": segment.name, "CACHE_KEY_PREFIX": "site:"}
    return of_cachelib("flask_caching", MemStreamCache.factory(None, config, [], dict(options)))


def of_cachelib(name: str, cache: Any) -> Adapter:
    def set_many(values: Dict[str, Any]) -> List[str]:
        stored = cache.set_many(values)
        return [key for key in values if key not in stored]

    def get_many(keys: List[str]) -> Dict[str, Any]:
        return {key: value for key, value in cache.get_dict(*keys).items() if value is not None}

    return Adapter(name, cache, cache._shared, cache.get, cache.set, set_many, get_many)


Make = Callable[..., Adapter]


@pytest.fixture(params=[make_django, make_cachelib, make_flask], ids=["django", "cachelib", "flask"])
def make(request: pytest.FixtureRequest, segment: Segment) -> Iterator[Make]:
    """Makes an adapter on the segment of the test."""
    _shared._open.clear()
    yield lambda **options: request.param(segment, **options)
    _shared._open.clear()
    gc.collect()  # What pytest has kept of exceptions.


def test_a_value_that_is_too_large_takes_the_old_one_away(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    adapter = make()
    adapter.set("key", "old")
    assert not adapter.set("key", TOO_LARGE) and adapter.get("key") is None
    assert [record.name for record in caplog.records] == [f"memstream.{adapter.name}"]
    assert "40000000 bytes" in caplog.text and "key' is not cached" in caplog.text
    adapter.set("large", "old")
    assert adapter.set_many({"a": 1, "large": TOO_LARGE, "b": 2}) == ["large"]
    assert adapter.get_many(["a", "large", "b"]) == {"a": 1, "b": 2}
    assert adapter.cache.add("added", TOO_LARGE) is False and adapter.get("added") is None


@contextmanager
def failing(adapter: Adapter, error: Any, *methods: str) -> Iterator[None]:
    """Lets methods of the open cache fail."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error(getattr(error, "code", None), "made to fail")

    with pytest.MonkeyPatch.context() as patch:
        for method in methods:
            patch.setattr(adapter.shared.cache, method, fail)
        yield


@pytest.mark.parametrize("error", [CacheFull, NoMemory, CacheBusy])
@pytest.mark.parametrize("ignores", [False, True])
def test_a_failed_set_takes_the_old_value_away(make: Make, error: type, ignores: bool) -> None:
    adapter = make(ignore_errors=ignores)
    for key in ("key", "a", "b"):
        adapter.set(key, "old")
    with failing(adapter, error, "set", "set_many"):
        if ignores:
            assert not adapter.set("key", "new") and adapter.set_many({"a": 1, "b": 2}) == ["a", "b"]
        else:
            with pytest.raises(error):
                adapter.set("key", "new")
            with pytest.raises(error):
                adapter.set_many({"a": 1, "b": 2})
    assert adapter.get_many(["key", "a", "b"]) == {}


def test_no_old_value_survives_trouble_after_a_value_that_was_too_large(make: Make) -> None:
    adapter = make()
    for key in ("first", "last"):
        adapter.set(key, "old")
    with failing(adapter, CacheBusy, "set"), pytest.raises(CacheBusy):
        adapter.set_many({"first": 1, "last": TOO_LARGE})
    assert adapter.get_many(["first", "last"]) == {}


METHODS = "get get_many set set_many add touch delete delete_many _delete_each exists clear incr scan".split()


def use_everything(adapter: Adapter) -> List[Any]:
    """Calls every method that all adapters have."""
    cache = adapter.cache
    results = [adapter.get("key"), adapter.set("key", 1), cache.add("key", 1), cache.delete("key"), cache.clear()]
    return results + [adapter.set_many({"a": 1, "b": 2}), adapter.get_many(["a", "b"])]


def test_trouble_is_raised(make: Make) -> None:
    adapter = make()
    for method in ("get", "set", "get_many", "delete"):
        with failing(adapter, CacheBusy, method), pytest.raises(CacheBusy):
            use_everything(adapter)
    count = adapter.cache.incr if adapter.name == "django" else adapter.cache.inc
    with failing(adapter, CacheBusy, "incr"), pytest.raises(CacheBusy):
        count("key")


def test_trouble_can_be_logged_misses(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    adapter = make(ignore_errors=True)
    adapter.set("key", 1)
    with failing(adapter, CacheBusy, *METHODS):
        assert not any(use_everything(adapter)[:5])
        assert use_everything(adapter)[5:] == [["a", "b"], {}]
        assert "key' failed and counts as a miss: made to fail" in caplog.text
        assert {record.name for record in caplog.records} == {f"memstream.{adapter.name}"}
        cache = adapter.cache
        if adapter.name == "django":
            assert not cache.touch("key") and not cache.has_key("key")
            cache.delete_many(["key"])
            with pytest.raises(ValueError, match="not found"):
                cache.incr("key")
        else:
            assert cache.inc("key") is None and cache.dec("key") is None
            assert cache.has("key") is False and cache.delete_many("key") == []


def test_a_segment_that_cannot_be_opened_can_be_a_logged_miss(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(errors.NoSegment):
        make(create=False).get("key")
    adapter = make(create=False, ignore_errors=True)
    assert adapter.get("key") is None and adapter.get_many(["key"]) == {} and not adapter.set("key", 1)
    assert "counts as a miss" in caplog.text


HOLDER = """
from memstream import Cache
with Cache() as cache:
    cache.set_many({f"entry-{number}": b"" for number in range(50_000)})
    print(flush=True)
    while True:
        cache.check()   # Holds the lock of the shard while it looks at every entry.
"""


def test_a_busy_cache_can_be_a_logged_miss(make: Make, segment: Segment, caplog: pytest.LogCaptureFixture) -> None:
    adapter = make(ignore_errors=True, timeout=0.05)
    adapter.set("key", "old")
    child = segment.start("-c", HOLDER)
    assert child.stdout is not None and child.stdout.readline()
    for _ in range(100):
        child.send_signal(signal.SIGSTOP)
        adapter.set("key", "new")
        if "key' failed and counts as a miss" in caplog.text:
            break
        child.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    assert "key' failed and counts as a miss" in caplog.text and "could not be deleted" in caplog.text
    with pytest.raises(CacheBusy):
        make(timeout=0.05).set("key", "new")
    child.send_signal(signal.SIGCONT)


def test_wrong_options_are_no_trouble(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    for wrong, error in (({"nonsense": 1}, TypeError), ({"shards": 1000}, errors.BadShards)):
        with pytest.raises(error):
            make(ignore_errors=True, **wrong).get("key")
    assert caplog.text == ""


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class whose module is gone by the time its objects are read."""
    module = types.ModuleType("deployed_before")
    exec("class Gone:\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "deployed_before", module)
    yield module
    sys.modules.pop("deployed_before", None)


def test_a_value_whose_class_is_gone_is_a_logged_miss(
    make: Make, forgotten: Any, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = make()
    adapter.set_many({"gone": forgotten.Gone(), "also gone": forgotten.Gone(), "good": 1})
    del sys.modules["deployed_before"]
    assert adapter.get("gone") is None and adapter.get_many(["also gone", "good"]) == {"good": 1}
    assert {record.name for record in caplog.records} == {f"memstream.{adapter.name}"}
    assert "deployed_before" in caplog.text
    assert len(adapter.cache.memstream) == 1  # It is gone for `has` as well.
    assert adapter.cache.add("gone", 2) and adapter.get("gone") == 2


def test_an_undecodable_value_of_a_read_only_cache_is_a_logged_miss(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    make(serializer="json").set("key", [1])
    assert make(read_only=True).get("key") is None
    assert "could not be deleted" in caplog.text


def test_a_value_of_another_serializer_is_a_logged_miss(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    make(serializer="json").set("key", [1])
    adapter = make()
    assert adapter.get("key") is None and adapter.get_many(["key"]) == {}
    assert "cannot be decoded" in caplog.text


def test_what_cannot_be_pickled_raises_and_leaves_the_old_value(make: Make) -> None:
    adapter = make()
    adapter.set("key", 1)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        adapter.set("key", lambda: None)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        adapter.set_many({"key": lambda: None})
    assert adapter.get("key") == 1


def test_out_of_memory_while_decoding_is_no_miss(make: Make) -> None:
    adapter = make()
    with failing(adapter, lambda *_: MemoryError(), "get"), pytest.raises(MemoryError):
        adapter.get("key")


def test_all_recover_after_the_segment_was_destroyed(make: Make) -> None:
    adapter = make()
    for use in (lambda: adapter.set("key", 1), lambda: adapter.get("key"), adapter.cache.clear):
        adapter.set("key", 1)
        with Cache() as other:
            other.destroy()
        use()
    adapter.set("key", 2)
    assert adapter.get("key") == 2 and adapter.cache.memstream is adapter.shared.cache
    assert len(list(adapter.cache.memstream)) == 1


def test_an_empty_key_and_a_long_one_work(make: Make) -> None:
    adapter = make()
    adapter.set("", "empty")
    adapter.set("x" * 5000, "long")
    assert (adapter.get(""), adapter.get("x" * 5000), adapter.get("x")) == ("empty", "long", None)
    assert len(bounded_key("")) == 64


@pytest.mark.parametrize(
    "timeout, seconds",
    [
        (None, None),
        (0, 0),
        (-1, -1),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
        (timedelta(-1), -86400),
        (Decimal("2.5"), 2.5),
    ],
)
def test_timeouts_are_seconds(timeout: Any, seconds: Any) -> None:
    assert seconds_of(timeout) == seconds


@pytest.mark.parametrize("timeout", ["60", b"60", [60], "soon"], ids=repr)
def test_a_timeout_that_is_none_is_refused(make: Make, timeout: Any) -> None:
    with pytest.raises(TypeError, match="Invalid timeout .*: expected seconds"):
        make().cache.set("key", 1, timeout=timeout)


@pytest.mark.parametrize(
    "timeout, shown",
    [("\x1b[31m", r"'\\x1b\[31m'"), ("x" * 5000, r"'x+\.\.\.x+'"), ([10**5000], "of type list")],
    ids=["control", "long", "digits"],
)
def test_a_timeout_is_shown_without_control_bytes_and_shortened(timeout: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=f"^Invalid timeout {shown}: expected seconds") as refused:
        seconds_of(timeout)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("timeout", [float("nan"), float("inf")])
def test_a_timeout_beyond_all_numbers_is_refused(make: Make, timeout: Any) -> None:
    with pytest.raises(errors.InvalidArgument):
        make().cache.set("key", 1, timeout=timeout)


def test_dogpile_ignores_trouble_and_drops_old_values(segment: Segment, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("dogpile.cache", reason="dogpile.cache is not installed (Debian: python3-dogpile.cache)")
    from dogpile.cache import make_region
    from dogpile.cache.api import NO_VALUE

    import memstream.dogpile  # noqa: F401  Registers the backend.

    _shared._open.clear()
    region = make_region().configure("memstream", arguments={"name": segment.name, "ignore_errors": True})
    region.set_multi({"key": 1, "other": 2, "third": 3})
    region.set("key", TOO_LARGE)
    region.set_multi({"other": TOO_LARGE, "third": 4})
    assert region.get_multi(["key", "other", "third"]) == [NO_VALUE, NO_VALUE, 4]
    backend = region.backend
    adapter = Adapter("dogpile", backend, backend._shared, region.get, region.set, region.set_multi, region.get_multi)
    with failing(adapter, CacheBusy, "get", "get_many", "set", "set_many", "delete", "delete_many"):
        region.set("key", 1)
        region.set_multi({"key": 1})
        region.delete("key")
        region.delete_multi(["key"])
        assert region.get("key") is NO_VALUE and region.get_multi(["key", "third"]) == [NO_VALUE] * 2
    assert "counts as a miss" in caplog.text
    _shared._open.clear()
    del adapter, backend, region
    gc.collect()  # A region refers to itself.
