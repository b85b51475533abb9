"""A cache as a mutable mapping."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Iterator

import pytest

from memstream import Cache, CacheMiss
from memstream.records import Entry


def test_a_cache_is_a_mutable_mapping(cache: Cache) -> None:
    assert isinstance(cache, MutableMapping)
    cache["key"] = b"value"
    assert cache["key"] == b"value"
    assert "key" in cache and b"key" in cache and len(cache) == 1
    del cache["key"]
    assert "key" not in cache and len(cache) == 0


def test_an_absent_key_is_a_key_error(cache: Cache) -> None:
    with pytest.raises(KeyError):
        cache["absent"]
    with pytest.raises(CacheMiss, match="'absent'"):
        del cache["absent"]


def test_what_cannot_be_a_key_is_not_in_it(cache: Cache) -> None:
    for thing in (7, None, bytearray(b"key"), ("key",)):
        assert thing not in cache


def test_iteration_gives_keys_as_bytes(cache: Cache) -> None:
    cache.update({"a": b"1", "ключ": b"2"}, c=b"3")
    assert sorted(cache) == sorted(cache.keys()) == [b"a", b"c", "ключ".encode()]
    assert sorted(cache.values()) == [b"1", b"2", b"3"]
    assert dict(cache.items()) == {b"a": b"1", b"c": b"3", "ключ".encode(): b"2"}
    assert b"1" in cache.values() and b"9" not in cache.values()
    assert ("a", b"1") in cache.items() and ("a", b"2") not in cache.items() and ("z", b"") not in cache.items()
    assert "a" in cache.keys() and len(cache.items()) == 3


def test_iteration_leaves_out_what_goes_meanwhile(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.update(a=b"1", b=b"2")
    scan = cache.scan

    def scan_and_delete() -> Iterator[Entry]:
        entries = list(scan())
        del cache["a"]
        yield from entries

    monkeypatch.setattr(cache, "scan", scan_and_delete)
    assert list(cache.items()) == [(b"b", b"2")]


def test_pop_removes_and_returns(cache: Cache) -> None:
    cache["key"] = b"value"
    assert cache.pop("key") == b"value"
    assert cache.pop("key", None) is None
    with pytest.raises(CacheMiss):
        cache.pop("key")


def test_popitem_empties_it(cache: Cache) -> None:
    cache["key"] = b"value"
    assert cache.popitem() == (b"key", b"value")
    with pytest.raises(KeyError):
        cache.popitem()


def test_setdefault_stores_once(cache: Cache) -> None:
    assert cache.setdefault("key", b"first") == b"first"
    assert cache.setdefault("key", b"second") == b"first"
    assert cache.setdefault("other") == b""


def test_setdefault_gives_way_to_whoever_is_faster(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    add = cache.add

    def late_add(key: str, value: bytes) -> bool:
        cache.set(key, b"theirs")
        return add(key, value)

    monkeypatch.setattr(cache, "add", late_add)
    assert cache.setdefault("key", b"ours") == b"theirs"


def test_clear_removes_all(cache: Cache) -> None:
    cache.update({str(number): b"value" for number in range(1000)})
    assert len(cache) == 1000
    cache.clear()
    assert len(cache) == 0 and list(cache) == []


def test_an_empty_cache_is_true_and_equal_to_itself_alone(segment: object, cache: Cache) -> None:
    with Cache() as same_segment:
        assert cache and cache == cache and cache != same_segment
        assert len({cache, same_segment}) == 2
