"""Views: bytes in place, and what happens to whoever holds on to them for too long."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import threading
import time
from typing import Any, Callable

import pytest
from conftest import MIB, Segment, pins, raises_value_error

from memstream import Cache, CacheMiss, errors


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


def test_the_collector_may_find_a_cache_and_its_views_in_one_circle(segment: Segment) -> None:
    code = """
import gc, itertools, memstream
gc.disable()

class Last:
    def __init__(self, memory): self.memory = memory
    def __del__(self): assert bytes(self.memory) == b"alu"

watcher = memstream.Cache()
watcher["key"] = b"value"
for order in itertools.permutations(range(4)):
    for _ in range(3):
        cache = memstream.Cache()
        view = cache.view("key")
        circle = [[cache, view, Last(view.memory[1:4]), cache.view("key")][index] for index in order]
        circle.append(circle)
        view.circle = cache.circle = circle
        del cache, view, circle
    gc.collect()
    gc.collect()
    assert [process.pins for process in watcher.processes()] == [0], watcher.processes()
print("done")
"""
    assert segment.code(code) == b"done\n"


def test_more_views_than_the_table_holds_are_copies(cache: Cache) -> None:
    cache["key"] = b"value"
    views = [cache.view("key") for _ in range(5000)]
    assert pins(cache) == 128 + 8 * 504  # A segment of 32 MiB has eight chunks of places.
    in_place = [view.in_place for view in views]
    assert in_place == [True] * pins(cache) + [False] * (5000 - pins(cache))
    assert cache.stats().view_copies == 5000 - pins(cache)
    cache["key"] = b"other"
    assert all(view.memory == b"value" for view in views)
    for view in views:
        view.release()
    assert pins(cache) == 0


def test_a_view_of_a_read_only_cache_is_a_copy_that_is_not_counted(cache: Cache) -> None:
    cache["key"] = b"value"
    with Cache(read_only=True) as reader, reader.view("key") as memory:
        assert memory == b"value"
        assert not reader.view("key").in_place and cache.view("key").in_place
        assert cache.stats().view_copies == 0


def test_the_error_of_a_full_cache_names_the_process_that_holds_it(segment: Segment) -> None:
    with Cache(size=MIB, shards=1) as cache:
        cache["a"] = cache["b"] = bytes(400_000)
        with cache.view("a"), cache.view("b"), pytest.raises(errors.CacheFull) as caught:
            cache["c"] = bytes(400_000)
    assert f"this process ({os.getpid()}) holds" in str(caught.value) and "in 2 blocks" in str(caught.value)


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
