"""The Django backend against the contract of Django's documentation of its cache."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
import warnings
from typing import Any, Dict, List

import pytest
from conftest import Segment

from memstream import Cache, _shared

pytest.importorskip("django", reason="Django is not installed (Debian: python3-django)")

from django.core.cache import caches  # noqa: E402
from django.core.cache.backends.base import BaseCache, CacheKeyWarning  # noqa: E402
from django_site import MakeDjango, MemStreamCache  # noqa: E402


class Picklable:
    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picklable) and other.number == self.number


VALUES: List[Any] = [
    "text",
    "Iñtërnâtiônàlizætiøn",
    5,
    2**70,
    1.5,
    True,
    None,
    b"bytes",
    ["list", {"of": "things"}],
    {"dict": (1, 2)},
    Picklable(7),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_of_every_kind_come_back(django: MemStreamCache, value: Any) -> None:
    django.set("key", value)
    assert django.get("key", "default") == value and type(django.get("key")) is type(value)
    assert django.add("added", value) and django.get("added") == value
    django.set_many({"many": value})
    assert django.get_many(["many", "absent"]) == {"many": value}


def test_functions_and_what_cannot_be_pickled(django: MemStreamCache) -> None:
    django.set("function", time.sleep)
    assert django.get("function") is time.sleep
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        django.set("lambda", lambda: None)


def test_simple_operations(django: MemStreamCache) -> None:
    assert django.get("absent") is None and django.get("absent", "default") == "default"
    assert django.get("absent", default=5) == 5
    assert django.add("key", 1) is True and django.add("key", 2) is False and django.get("key") == 1
    assert django.has_key("key") is True and "key" in django and "absent" not in django
    assert django.delete("key") is True and django.delete("key") is False
    assert not django.has_key("key")


def test_none_is_a_value(django: MemStreamCache) -> None:
    django.set("nothing", None)
    assert django.get("nothing", "default") is None and "nothing" in django
    assert django.get_many(["nothing"]) == {"nothing": None}
    assert django.add("nothing", 1) is False
    assert django.get_or_set("nothing", "default") is None


def test_counting(django: MemStreamCache) -> None:
    django.set("answer", 41, timeout=60)
    assert django.incr("answer") == 42 and django.get("answer") == 42
    assert django.incr("answer", 10) == 52 and django.decr("answer") == 51 and django.decr("answer", 11) == 40
    assert django.incr("answer", -50) == -10
    entry = django._shared.cache.entry(":1:answer")
    assert entry is not None and entry.expires_at is not None
    for count in (django.incr, django.decr, django.incr_version, django.decr_version):
        with pytest.raises(ValueError, match="absent"):
            count("absent")
    django.set("text", "value")
    with pytest.raises(ValueError):
        django.incr("text")


def test_timeouts(make_django: MakeDjango) -> None:
    django = make_django(TIMEOUT=60)
    started = time.time()

    def remaining(key: str) -> Any:
        entry = django._shared.cache.entry(f":1:{key}")
        assert entry is not None
        return None if entry.expires_at is None else entry.expires_at - started

    django.set("default", 1)
    django.set("eternal", 1, timeout=None)
    django.set("hour", 1, timeout=3600)
    django.add("added", 1, timeout=30)
    django.set_many({"many": 1}, timeout=20)
    assert remaining("default") == pytest.approx(60, abs=2) and remaining("eternal") is None
    assert remaining("hour") == pytest.approx(3600, abs=2) and remaining("added") == pytest.approx(30, abs=2)
    assert remaining("many") == pytest.approx(20, abs=2)
    assert django.touch("default", 600) is True and remaining("default") == pytest.approx(600, abs=2)
    assert django.touch("default") is True and remaining("default") == pytest.approx(60, abs=2)
    assert django.touch("default", None) is True and remaining("default") is None
    assert django.touch("absent") is False


def test_a_timeout_of_half_a_second_ends(django: MemStreamCache) -> None:
    django.set("key", 1, timeout=0.05)
    assert django.get("key") == 1
    time.sleep(0.1)
    assert django.get("key") is None and not django.has_key("key") and django.add("key", 2)


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_a_timeout_that_is_over_stores_nothing(django: MemStreamCache, timeout: float) -> None:
    django.set("key", 1)
    django.set("key", 2, timeout=timeout)
    assert django.get("key") is None
    assert django.add("key", 3, timeout=timeout) is True and django.get("key") is None
    django.set("key", 4)
    assert django.add("key", 5, timeout=timeout) is False and django.get("key") == 4
    assert django.touch("key", timeout) is True and django.get("key") is None
    assert django.touch("key", timeout) is False
    django.set_many({"a": 1, "b": 2}, timeout=timeout)
    assert django.get_many(["a", "b"]) == {}


def test_a_default_timeout_of_none_is_for_ever(make_django: MakeDjango) -> None:
    django = make_django(TIMEOUT=None)
    django.set("key", 1)
    entry = django._shared.cache.entry(":1:key")
    assert entry is not None and entry.expires_at is None


def test_many_keys(django: MemStreamCache) -> None:
    assert django.set_many({"a": 1, "b": 2, "c": 3}) == []
    assert django.get_many(["a", "c", "d"]) == {"a": 1, "c": 3}
    assert django.get_many(iter(["a", "b"])) == {"a": 1, "b": 2}
    django.delete_many(["a", "b", "absent"])
    assert django.get_many(["a", "b", "c"]) == {"c": 3}
    assert django.set_many({}) == [] and django.get_many([]) == {}
    django.clear()
    assert django.get("c") is None


def test_get_or_set(django: MemStreamCache) -> None:
    assert django.get_or_set("plain", "value") == "value" == django.get("plain")
    assert django.get_or_set("called", lambda: "made") == "made"
    assert django.get_or_set("called", lambda: "made again") == "made"
    assert django.get_or_set("none", None) is None
    assert django.get_or_set("versioned", 1, version=2) == 1
    assert django.get("versioned") is None and django.get("versioned", version=2) == 1
    with pytest.raises(TypeError):
        django.get_or_set("key")


def test_versions(make_django: MakeDjango) -> None:
    first, second = make_django(), make_django(VERSION=2)
    first.set("key", 1)
    assert second.get("key") is None and second.get("key", version=1) == 1
    second.set("key", 2)
    assert (first.get("key"), first.get("key", version=2)) == (1, 2)
    first.set_many({"a": 1, "b": 2}, version=2)
    assert second.get_many(["a", "b"]) == {"a": 1, "b": 2} and first.get_many(["a", "b"]) == {}
    assert first.has_key("a", version=2) and not first.has_key("a")
    assert first.incr("a", version=2) == 2 and first.decr("a", 5, version=2) == -3
    assert first.add("a", 0) is True and first.add("a", 0, version=2) is False
    assert first.touch("a", 60, version=2) and first.delete("a", version=2) and not first.delete("a", version=2)
    second.delete_many(["b"])
    assert first.get("b", version=2) is None


def test_versions_move(django: MemStreamCache) -> None:
    django.set("key", "value", version=2)
    assert django.incr_version("key", version=2) == 3
    assert django.get("key", version=2) is None and django.get("key", version=3) == "value"
    assert django.decr_version("key", version=3) == 2 and django.get("key", version=2) == "value"
    django.set("other", None)
    assert django.incr_version("other") == 2 and django.get("other", "default", version=2) is None


def reversed_key(key: str, key_prefix: str, version: int) -> str:
    return f"{version}-{key_prefix}-{key[::-1]}"


def test_prefixes_and_key_functions(make_django: MakeDjango) -> None:
    plain, prefixed = make_django(), make_django(KEY_PREFIX="site")
    custom = [make_django(KEY_FUNCTION=reversed_key), make_django(KEY_FUNCTION=f"{__name__}.reversed_key")]
    plain.set("key", 1)
    assert prefixed.get("key") is None
    prefixed.set("key", 2)
    assert (plain.get("key"), prefixed.get("key")) == (1, 2)
    custom[0].set("key", 3)
    assert custom[1].get("key") == 3
    keys = set(plain._shared.cache)
    assert keys == {b":1:key", b"site:1:key", b"1--yek"}


@pytest.mark.parametrize("key", ["with space", "x" * 300])
def test_keys_that_memcached_refuses_warn_and_work(django: MemStreamCache, key: str) -> None:
    with pytest.warns(CacheKeyWarning):
        django.set(key, "value")
    with pytest.warns(CacheKeyWarning):
        assert django.get(key) == "value"


def test_keys_of_any_length_work_and_differ(django: MemStreamCache) -> None:
    keys = ["x" * 5000 + end for end in "ab"] + ["é" * 700, "\ud800"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheKeyWarning)
        for number, key in enumerate(keys):
            django.set(key, number)
        assert [django.get(key) for key in keys] == [0, 1, 2, 3]


def test_what_is_read_is_a_copy(django: MemStreamCache) -> None:
    value = {"list": [1]}
    django.set("key", value)
    value["list"].append(2)
    django.get("key")["list"].append(3)
    assert django.get("key") == {"list": [1]}


def test_large_values_and_too_large_ones(django: MemStreamCache) -> None:
    django.set("large", b"x" * 4_000_000)
    assert len(django.get("large")) == 4_000_000
    django.set("larger", 1)
    django.set("larger", b"x" * 40_000_000)
    assert django.get("larger", "default") == "default"


def test_options_are_those_of_a_cache(make_django: MakeDjango) -> None:
    django = make_django(OPTIONS={"serializer": "json", "MAX_ENTRIES": 10, "CULL_FREQUENCY": 2, "timeout": 0.5})
    django.set("key", [1])
    with Cache(serializer="json") as other:
        assert other[":1:key"] == [1]
    with pytest.raises(TypeError):
        make_django(OPTIONS={"nonsense": 1}).get("key")


def test_backends_of_all_threads_share_one_attachment(make_django: MakeDjango) -> None:
    def use() -> None:
        make_django().incr("counter")

    make_django().set("counter", 0)
    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    django = make_django()
    assert django.get("counter") == 20 and len(_shared._open) == 1
    assert len(django._shared.cache.processes()) == 1


def test_a_destroyed_segment_is_made_anew(django: MemStreamCache) -> None:
    django.set("key", 1)
    with Cache() as other:
        other.destroy()
    assert django.get("key", "default") == "default"
    django.set("key", 2)
    assert django.get("key") == 2


def test_another_process_sees_it(django: MemStreamCache, segment: Segment) -> None:
    django.set("key", {"a": 1})
    out = segment.code(
        "import sys\nfrom memstream.django import MemStreamCache\n"
        "cache = MemStreamCache(sys.argv[1], {})\nprint(cache.get('key'), cache.incr('n') if 'n' in cache else None)",
        segment.name,
    )
    assert out == b"{'a': 1} None\n"


def test_coroutines_have_the_same_methods(django: MemStreamCache) -> None:
    async def use() -> Dict[str, Any]:
        await django.aset("key", 1)
        results = {
            "get": await django.aget("key"),
            "add": await django.aadd("key", 2),
            "incr": await django.aincr("key", 4),
            "decr": await django.adecr("key"),
            "touch": await django.atouch("key", 60),
            "has_key": await django.ahas_key("key"),
            "set_many": await django.aset_many({"a": 1, "b": 2}),
            "get_many": await django.aget_many(["a", "b", "c"]),
            "delete_many": await django.adelete_many(["a"]),
            "get_or_set": await django.aget_or_set("made", lambda: 7),
            "incr_version": await django.aincr_version("b"),
            "decr_version": await django.adecr_version("b", version=2),
            "delete": await django.adelete("key"),
            "clear": await django.aclear(),
            "close": await django.aclose(),
        }
        results["after"] = await django.aget("made")
        return results

    assert asyncio.run(use()) == {
        "get": 1,
        "add": False,
        "incr": 5,
        "decr": 4,
        "touch": True,
        "has_key": True,
        "set_many": [],
        "get_many": {"a": 1, "b": 2},
        "delete_many": None,
        "get_or_set": 7,
        "incr_version": 2,
        "decr_version": 1,
        "delete": True,
        "clear": None,
        "close": None,
        "after": None,
    }
    missing = [name for name in dir(BaseCache) if name.startswith("a") and name[1:] in dir(BaseCache)]
    assert all(getattr(MemStreamCache, name) is not getattr(BaseCache, name) for name in missing)


def test_django_finds_the_backend_and_sessions_work_on_it(make_django: MakeDjango) -> None:
    from django.contrib.sessions.backends.cache import SessionStore

    assert isinstance(caches["default"], MemStreamCache)
    session = SessionStore()
    session["user"] = 7
    session.save()
    again = SessionStore(session_key=session.session_key)
    assert again["user"] == 7 and again.exists(session.session_key)
    again["user"] = 8
    again.save()
    assert SessionStore(session_key=session.session_key)["user"] == 8
    again.cycle_key()
    assert again.session_key != session.session_key
    assert SessionStore(session_key=session.session_key).get("user") is None
    again.flush()
    assert SessionStore(session_key=again.session_key).get("user") is None


def test_many_keys_are_one_call(django: MemStreamCache, shared_calls: List[str]) -> None:
    values = {f"key-{i}": [i] for i in range(200)}
    django.set_many(values)
    assert django.get_many([*values, "absent"]) == values
    django.set_many({"key-0": 1, "key-1": 2}, timeout=0)
    assert len(django.get_many(values)) == 198
    django.delete_many(values)
    assert django.get_many(values) == {}
    assert shared_calls == ["set_many", "get_many", "delete_many", "get_many", "delete_many", "get_many"]
