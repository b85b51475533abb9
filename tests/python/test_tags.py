"""Tags: groups of entries that one call makes misses."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, List

import pytest
from conftest import Segment

from memstream import Cache, Tags
from memstream.errors import InvalidArgument, ReadOnlyError


def test_an_invalidation_ends_all_entries_of_a_tag_and_no_others(cache: Cache) -> None:
    cache.set("both", b"1", tags=["user:7", b"pages"])
    cache.set("user", b"2", ttl=60, flags=3, tags=["user:7"])
    cache.set("none", b"3")
    assert cache.get("both") == b"1" and cache.get("user") == b"2"
    cache.invalidate("user:7")
    assert cache.get_many(["both", "user", "none"]) == {"none": b"3"}
    cache.set("both", b"4", tags=["user:7", b"pages"])
    assert cache.get("both") == b"4"
    cache.invalidate(b"pages")
    assert cache.get("both") is None


@pytest.mark.parametrize("store", ["set", "add", "replace", "cas", "set_many", "fulfil"])
@pytest.mark.parametrize("value", [b"", b"small", bytes(100_000)])
def test_each_way_of_storing_takes_tags(cache: Cache, store: str, value: bytes) -> None:
    def by_lease() -> None:
        with cache.lease("key") as lease:  # type: ignore[union-attr]
            assert lease.fulfil(value, tags=["t"])

    if store in ("replace", "cas"):
        cache.set("key", b"before")
    token = cache.gets("key")[1]
    ways: "dict[str, Callable[[], Any]]" = {
        "set": lambda: cache.set("key", value, tags=["t"]),
        "add": lambda: cache.add("key", value, tags=["t"]),
        "replace": lambda: cache.replace("key", value, tags=["t"]),
        "cas": lambda: cache.cas("key", value, token, tags=["t"]),
        "set_many": lambda: cache.set_many({"key": value, "other": b"x"}, tags=["t"]),
        "fulfil": by_lease,
    }
    assert ways[store]() in (None, True)
    assert cache.get("key") == value
    cache.invalidate("t")
    assert cache.get("key") is None


def test_refusals_are_those_of_calls_without_tags(cache: Cache) -> None:
    cache.set("key", b"value")
    assert cache.add("key", b"other", tags=["t"]) is False
    assert cache.replace("absent", b"other", tags=["t"]) is False
    assert cache.cas("key", b"other", 1, tags=["t"]) is False
    assert cache.get("key") == b"value"


def test_tags_that_were_taken_before_an_invalidation_end_what_is_stored_later(cache: Cache) -> None:
    tags = cache.tags("t", "u")
    assert isinstance(tags, Tags)
    cache.set("one", b"1", tags=tags)
    assert cache.get("one") == b"1"
    cache.invalidate("u")
    cache.set("two", b"2", tags=tags)
    cache.set_many({"three": b"3"}, tags=tags)
    assert cache.get_many(["one", "two", "three"]) == {}


def test_objects_have_tags_too(segment: Segment) -> None:
    with Cache(segment.name, serializer="pickle") as cache:
        cache.set("key", {"a": [1, 2]}, tags=["t"])
        assert cache.get("key") == {"a": [1, 2]}
        cache.invalidate("t")
        assert cache.get("key") is None


def test_no_tags_are_no_tags(cache: Cache) -> None:
    cache.set("key", b"value", tags=[])
    cache.set("other", b"value", tags=cache.tags())
    assert cache.get_many(["key", "other"]) == {"key": b"value", "other": b"value"}


def test_wrong_tags_are_refused_with_the_remedy(cache: Cache, segment: Segment) -> None:
    with pytest.raises(TypeError, match="Put a single one into a list"):
        cache.set("key", b"value", tags="user:7")
    with pytest.raises(TypeError, match="Invalid tags 7: expected an iterable"):
        cache.set("key", b"value", tags=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Invalid tag 7: expected str or bytes"):
        cache.tags(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="expected at most 4"):
        cache.tags(*"abcdefghij")
    with pytest.raises(InvalidArgument, match="Invalid tag of 0 bytes"):
        cache.invalidate("")
    with pytest.raises(TypeError, match="Invalid tags 'users'"):
        cache.memoize(tags="users")
    assert cache.get("key") is None
    with Cache(segment.name, read_only=True) as reader:
        with pytest.raises(ReadOnlyError):
            reader.invalidate("t")


def test_a_memoized_result_ends_by_its_tags(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize(tags=lambda number: ["all", f"n:{number}"])
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [double(1), double(1), double(2)] == [2, 2, 4]
    cache.invalidate("n:1")
    assert [double(1), double(2)] == [2, 4]
    assert calls == [1, 2, 1]
    cache.invalidate("all")
    assert [double(1), double(2)] == [2, 4]
    assert calls == [1, 2, 1, 1, 2]


def test_an_invalidation_while_a_result_is_computed_ends_it(cache: Cache) -> None:
    rows = {"7": "old"}

    @cache.memoize(tags=["rows"])
    def read() -> str:
        found = rows["7"]
        if found == "old":
            rows["7"] = "new"
            cache.invalidate("rows")
        return found

    assert read() == "old"
    assert read() == "new"


def test_coroutine_functions_have_tags(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize(tags=["t"])
    async def one() -> int:
        calls.append(1)
        return 1

    async def twice() -> None:
        assert await one() == await one() == 1

    asyncio.run(twice())
    cache.invalidate("t")
    asyncio.run(twice())
    assert len(calls) == 2
