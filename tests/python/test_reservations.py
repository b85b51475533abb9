"""Reservations: room in the segment that is filled in place, and what becomes of it if it is held for too long."""

from __future__ import annotations

import gc
import io
import os
from typing import Callable

import pytest
from conftest import MIB, Segment, pins, raises_value_error

from memstream import Cache, Status, errors


@pytest.mark.parametrize("size", [0, 1, 1000, 5 * MIB])
def test_a_reservation_is_filled_in_place_and_appears_at_the_end(cache: Cache, size: int) -> None:
    value = os.urandom(size)
    with cache.reserve("key", size) as memory:
        assert len(memory) == size and not memory.readonly
        memory[:] = value
        assert "key" not in cache
    assert cache["key"] == value


def test_a_reservation_takes_what_file_objects_read(cache: Cache) -> None:
    with cache.reserve("key", 100_000) as memory:
        assert io.BytesIO(b"x" * 100_000).readinto(memory) == 100_000
    assert cache["key"] == b"x" * 100_000


def test_a_reservation_leaves_the_old_value_until_then(cache: Cache) -> None:
    cache["key"] = b"old"
    with cache.reserve("key", 3) as memory:
        memory[:] = b"new"
        assert cache["key"] == b"old"
    assert cache["key"] == b"new"


def test_an_exception_aborts(cache: Cache) -> None:
    cache["key"] = b"old"
    with pytest.raises(ZeroDivisionError):
        with cache.reserve("key", 3) as memory:
            memory[:] = b"new"
            memory[0] / 0
    assert cache["key"] == b"old" and pins(cache) == 0


def test_ttl_and_flags_of_a_reservation_are_kept(cache: Cache) -> None:
    with cache.reserve("key", 5, ttl=60, flags=3) as memory:
        memory[:] = b"value"
    entry = cache.entry("key")
    assert entry is not None and entry.flags == 3 and entry.expires_at is not None
    assert entry.expires_at - entry.created_at == pytest.approx(60, abs=1)


def test_a_reservation_ends_once(cache: Cache) -> None:
    committed = cache.reserve("key", 5)
    committed.memory[:] = b"value"
    committed.commit()
    aborted = cache.reserve("key", 5)
    aborted.abort()
    aborted.abort()
    for reservation in (committed, aborted):
        with pytest.raises(errors.BadHandle):
            reservation.commit()
        with pytest.raises(ValueError, match="released"):
            reservation.memory[0] = 0
    with cache.reserve("key", 5) as memory:
        memory[:] = b"other"
    assert cache["key"] == b"other"


def test_committing_by_hand_inside_the_block_is_enough(cache: Cache) -> None:
    reservation = cache.reserve("key", 5)
    with reservation as memory:
        memory[:] = b"value"
        reservation.commit()
        assert cache["key"] == b"value"
    reservation = cache.reserve("key", 5)
    with reservation:
        reservation.abort()
    assert cache["key"] == b"value"


def test_nothing_is_committed_while_a_slice_could_still_change_it(cache: Cache) -> None:
    reservation = cache.reserve("key", 5)
    part = reservation.memory[1:3]
    with pytest.raises(BufferError):
        reservation.commit()
    part[:] = b"xx"  # Goes to memory that is still ours.
    assert "key" not in cache and pins(cache) == 1
    del part
    assert pins(cache) == 0
    with pytest.raises(errors.BadHandle):
        reservation.commit()


def test_nothing_is_committed_while_an_array_could_still_change_it(cache: Cache) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(BufferError):
        with cache.reserve("key", 80) as memory:
            array = numpy.frombuffer(memory, dtype="float64")
            array[:] = 1.5
    assert "key" not in cache
    del array, memory
    gc.collect()
    assert pins(cache) == 0
    with cache.reserve("key", 80) as memory:
        numpy.frombuffer(memory, dtype="float64")[:] = 2.5
    assert (numpy.frombuffer(cache["key"]) == 2.5).all()


def test_an_abort_with_a_slice_in_use_waits_for_it(cache: Cache) -> None:
    reservation = cache.reserve("key", 5)
    part = reservation.memory[1:3]
    reservation.abort()
    assert pins(cache) == 1
    part[:] = b"xx"
    part.release()
    assert pins(cache) == 0


def test_a_reservation_that_is_dropped_is_given_back(cache: Cache) -> None:
    for _ in range(1000):
        cache.reserve("key", 1000)
    assert pins(cache) == 0 and "key" not in cache


@pytest.mark.parametrize("size", [-1, 2**63])
def test_impossible_sizes_are_refused(cache: Cache, size: int) -> None:
    with pytest.raises(errors.InvalidArgument, match="size"):
        cache.reserve("key", size)


def test_too_large_a_reservation_is_refused(cache: Cache) -> None:
    with pytest.raises(errors.ValueTooLarge):
        cache.reserve("key", cache.stats().max_memory)


def test_a_commit_that_others_keep_waiting_stores_nothing_and_gives_the_room_back(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache._library.c, "memstream_commit", lambda *arguments: int(Status.BUSY))
    with pytest.raises(errors.CacheBusy):
        with cache.reserve("key", 5) as memory:
            memory[:] = b"value"
    assert pins(cache) == 0 and "key" not in cache


def test_a_commit_after_destroy_raises(segment: Segment) -> None:
    with Cache() as mine, Cache() as other:
        reservation = mine.reserve("key", 5)
        reservation.memory[:] = b"value"
        other.destroy()
        with pytest.raises(errors.CacheGone):
            reservation.commit()


def test_a_reservation_of_the_parent_cannot_be_committed_by_a_child(cache: Cache, in_child: Callable[..., int]) -> None:
    def child() -> int:
        try:
            reservation.commit()
        except errors.BadHandle:
            return raises_value_error(reservation.memory)
        return 1

    reservation = cache.reserve("key", 5)
    reservation.memory[:] = b"value"
    assert in_child(child) == 0
    assert "key" not in cache
    reservation.commit()
    assert cache["key"] == b"value"
