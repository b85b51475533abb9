"""Views and reservations: bytes in place, and what happens to whoever holds on to them for too long."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import threading
import time
from typing import Any, Callable

import pytest
from conftest import MIB, Segment

from memstream import Cache, CacheMiss, Status, errors


def pins(cache: Cache) -> int:
    """Views and reservations that this process holds."""
    return next(process.pins for process in cache.processes() if process.pid == os.getpid())


# ---- views ----


@pytest.mark.parametrize("size", [0, 1, 1000, 5 * MIB])
def test_a_view_shows_the_value(cache: Cache, size: int) -> None:
    value = os.urandom(size)
    cache["key"] = value
    with cache.view("key") as memory:
        assert len(memory) == memory.nbytes == size
        assert memory.readonly and memory.c_contiguous and memory.format == "B"
        assert memory == value
        assert hashlib.sha256(memory).digest() == hashlib.sha256(value).digest()
        assert io.BytesIO(memory).read() == value


def test_a_view_of_an_absent_key_is_a_miss(cache: Cache) -> None:
    with pytest.raises(CacheMiss, match="absent"):
        cache.view("absent")


def test_a_view_cannot_be_written_to(cache: Cache) -> None:
    cache["key"] = b"value"
    with cache.view("key") as memory, pytest.raises(TypeError, match="read-only"):
        memory[0] = 0


def test_a_view_knows_the_entry(cache: Cache) -> None:
    before = time.time()
    cache.set("key", b"value", ttl=60, flags=5)
    view = cache.view("key")
    with view:
        assert view.flags == 5
        assert view.created_at == pytest.approx(before, abs=2)
        assert view.expires_at == pytest.approx(before + 60, abs=2)
    assert cache.cas("key", b"other", view.token)
    with cache.view("key"):
        pass
    cache["key"] = b"for ever"
    view = cache.view("key")
    assert view.expires_at is None
    view.release()


@pytest.mark.parametrize("change", ["replace", "delete", "clear"])
def test_a_view_stays_as_it_is_whatever_happens_to_the_entry(cache: Cache, change: str) -> None:
    value = os.urandom(100_000)
    cache["key"] = value
    with cache.view("key") as memory:
        if change == "replace":
            cache["key"] = bytes(100_000)
        elif change == "delete":
            del cache["key"]
        else:
            cache.clear()
        for number in range(500):  # Fills the cache more than once.
            cache[f"other{number}"] = bytes(100_000)
        assert memory == value


def test_a_view_pins_one_block_until_its_end(cache: Cache) -> None:
    cache["key"] = b"value"
    with cache.view("key"):
        assert pins(cache) == 1
        with cache.view("key"):
            assert pins(cache) == 2
    assert pins(cache) == 0


def test_use_after_release_raises(cache: Cache) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    with view as memory:
        pass
    view.release()  # Once more does no harm.
    uses: "list[Callable[[], Any]]" = [
        lambda: memory[0],
        lambda: bytes(memory),
        lambda: len(memory),
        lambda: memory[1:],
        lambda: view.memory[0],
        lambda: hashlib.sha256(memory),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="released"):
            use()


def test_a_slice_keeps_the_bytes_and_release_says_so(cache: Cache) -> None:
    cache["key"] = b"value" * 1000
    view = cache.view("key")
    part = view.memory[5:10]
    with pytest.raises(BufferError, match="slice"):
        view.release()
    assert pins(cache) == 1
    cache["key"] = b"other" * 1000
    assert part == b"value"
    del part
    assert pins(cache) == 0
    view.release()


def test_leaving_the_block_with_a_slice_in_use_raises(cache: Cache) -> None:
    cache["key"] = b"value"
    with pytest.raises(BufferError):
        with cache.view("key") as memory:
            part = memory[1:3]
    assert part == b"al"
    part.release()
    assert pins(cache) == 0


def test_a_numpy_array_keeps_the_bytes_and_release_says_so(cache: Cache) -> None:
    numpy = pytest.importorskip("numpy")
    cache["key"] = numpy.arange(1000)
    view = cache.view("key")
    array = numpy.frombuffer(view.memory, dtype=numpy.arange(1).dtype)
    with pytest.raises(BufferError):
        view.release()
    cache["key"] = b"other"
    assert (array == numpy.arange(1000)).all()
    with pytest.raises(ValueError):
        array[0] = 1
    del array
    view.release()
    assert pins(cache) == 0


def test_an_exception_in_the_block_is_not_replaced_by_ours(cache: Cache) -> None:
    cache["key"] = b"value"
    with pytest.raises(ZeroDivisionError):
        with cache.view("key") as memory:
            part = memory[1:3]
            part[0] / 0
    assert part == b"al"
    del part
    gc.collect()
    assert pins(cache) == 0


def test_a_view_that_is_dropped_ends(cache: Cache) -> None:
    cache["key"] = b"value"
    for _ in range(10_000):
        cache.view("key")
    assert pins(cache) == 0


def test_closing_the_cache_does_not_take_the_bytes_away(segment: Segment) -> None:
    with Cache() as watcher:
        cache = Cache()
        cache["key"] = b"value" * 100_000
        with cache.view("key") as memory:
            cache.close()
            assert memory == b"value" * 100_000
            cache.close()
        with pytest.raises(errors.ClosedError):
            cache.view("key")
        assert pins(watcher) == 0


def test_destroying_the_segment_does_not_take_the_bytes_away(segment: Segment) -> None:
    cache = Cache()
    cache["key"] = b"value" * 100_000
    with cache.view("key") as memory:
        cache.destroy()
        assert memory == b"value" * 100_000


def test_views_at_interpreter_exit_do_no_harm(segment: Segment) -> None:
    for last_words in ("", "cache.close()", "del cache", "import os; os._exit(0)", "raise SystemExit"):
        out = segment.code(
            "import memstream; cache = memstream.Cache(); cache['key'] = b'value'; view = cache.view('key');"
            "part = view.memory[1:3]; other = memstream.Cache(); print(bytes(part).decode(), flush=True);" + last_words
        )
        assert out == b"al\n"
    with Cache() as cache:
        assert [process.pid for process in cache.processes()] == [os.getpid()]


def test_what_cannot_end_because_others_hold_the_shard_ends_later(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = cache._library.c
    is_busy = True

    def while_busy(function: Callable[..., int]) -> Callable[..., int]:
        return lambda handle, held: int(Status.BUSY) if is_busy else function(handle, held)

    monkeypatch.setattr(library, "memstream_release", while_busy(library.memstream_release))
    monkeypatch.setattr(library, "memstream_abort", while_busy(library.memstream_abort))
    cache["key"], cache["large"] = b"value", bytes(MIB)
    cache.view("key").release()
    assert cache.get("large") == bytes(MIB)
    cache.reserve("key", 1).abort()
    assert pins(cache) == 3
    is_busy = False
    cache.view("key").release()
    assert pins(cache) == 0


def test_more_views_than_the_table_holds_are_copies(cache: Cache) -> None:
    cache["key"] = b"value"
    views = [cache.view("key") for _ in range(5000)]
    cache["key"] = b"other"
    assert all(view.memory == b"value" for view in views)
    for view in views:
        view.release()
    assert pins(cache) == 0


def test_threads_take_and_release_views_of_one_cache(cache: Cache) -> None:
    cache["key"] = b"x" * 1000
    wrong = []

    def work() -> None:
        for _ in range(500):
            with cache.view("key") as memory:
                if memory[:1].tobytes() * 1000 != memory:
                    wrong.append(bytes(memory))
            cache["key"] = os.urandom(1) * 1000

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and pins(cache) == 0


# ---- fork ----


def raises_value_error(memory: memoryview) -> int:
    try:
        memory[0]
    except ValueError:
        return 0
    return 1


def test_a_view_of_the_parent_raises_in_a_forked_child(cache: Cache, in_child: Callable[..., int]) -> None:
    cache["key"] = b"value"
    with cache.view("key") as memory:
        assert in_child(raises_value_error, memory) == 0
        assert memory == b"value" and pins(cache) == 1


def test_a_child_that_leaves_the_block_does_not_release_for_the_parent(
    cache: Cache, in_child: Callable[..., int]
) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    part = view.memory[1:3]
    assert in_child(view.release) == 0
    assert pins(cache) == 1 and part == b"al"
    part.release()
    view.release()


def test_a_child_takes_views_of_its_own(cache: Cache, in_child: Callable[..., int]) -> None:
    def child() -> int:
        with cache.view("key") as memory:
            mine = [process.pins for process in cache.processes() if process.pid == os.getpid()]
            return 0 if memory == b"value" and mine == [1] else 1

    cache["key"] = b"value"
    assert in_child(child) == 0


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


# ---- reservations ----


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
