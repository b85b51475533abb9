"""Views that native code makes: what only they can get wrong. What all views do stands in test_views.py."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from typing import Any, Callable, List

import pytest
from conftest import Segment, pins, raises_value_error

from memstream import Cache, Status, View, errors
from memstream._core.arguments import BorrowedBytes
from memstream._core.library import load


@pytest.fixture(autouse=True)
def accelerated(monkeypatch: pytest.MonkeyPatch, segment: Segment) -> None:
    """Caches opened from here on are accelerated."""
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "require")


def is_native(view: View) -> bool:
    """Returns whether native code made it."""
    return type(view).__name__ == "AcceleratedView"


def test_a_view_is_a_view_with_the_accelerator_and_without(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache["key"] = b"value"
    native = cache.view("key")
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "off")
    with Cache() as other:
        plain = other.view("key")
        assert is_native(native) and not is_native(plain)
        assert isinstance(native, View) and isinstance(plain, View) and not isinstance(cache, View)
        for name in ("token", "flags", "created_at", "expires_at"):
            assert getattr(native, name) == getattr(plain, name)
        plain.release()
    native.release()


def test_what_is_not_common_is_left_to_python(cache: Cache) -> None:
    class Text(str):
        pass

    cache["key"] = b"value"
    for view in (cache.view(Text("key")), cache.view(key="key")):
        assert not is_native(view) and view.memory == b"value"
        view.release()
    for arguments in ((), ("key", "key"), (7,)):
        with pytest.raises(TypeError):
            cache.view(*arguments)  # type: ignore[call-arg,arg-type]
    with pytest.raises(errors.BadKey):
        cache.view("")


def test_what_a_subclass_makes_of_view_stays(segment: Segment) -> None:
    class Noting(Cache):
        def view(self, key: Any) -> View:
            return super().view(key + "!")

    with Noting() as cache:
        cache["key!"] = b"value"
        with cache.view("key") as memory:
            assert memory == b"value"


def test_a_read_only_cache_copies_in_python(cache: Cache) -> None:
    cache["key"] = b"value"
    with Cache(read_only=True) as reader:
        assert reader.accelerated
        view = reader.view("key")
        assert not is_native(view) and view.memory == b"value"


def test_so_many_views_that_values_are_copied_are_taken_in_python(cache: Cache) -> None:
    cache["key"] = b"value"
    views = [cache.view("key") for _ in range(1050)]
    assert [is_native(view) for view in views] == [True] * 1000 + [False] * 50
    assert all(view.memory == b"value" for view in views)
    del views[:50]
    assert is_native(cache.view("key"))


def test_the_types_make_nothing_by_themselves(cache: Cache) -> None:
    cache["key"] = b"value"
    with cache.view("key") as memory:
        for kind in (type(cache.view("key")), type(memory.obj)):
            with pytest.raises(TypeError, match="only a Cache makes"):
                kind()
            with pytest.raises(TypeError):
                type("Derived", (kind,), {})


def test_the_memoryview_is_read_only_whoever_asks(cache: Cache) -> None:
    cache["key"] = b"value"
    with cache.view("key") as memory:
        with pytest.raises(TypeError):
            ctypes.c_char.from_buffer(memory)
        with pytest.raises(TypeError):
            ctypes.c_char.from_buffer(memory.obj)
        with memoryview(memory.obj) as again:
            assert again.readonly and again == b"value"
        del again


def test_what_knows_the_window_keeps_the_bytes(cache: Cache) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    window = view.memory.obj
    with pytest.raises(BufferError, match="a slice"):
        view.release()
    with memoryview(window) as memory:
        assert memory == b"value"
    assert pins(cache) == 1
    del window, memory
    assert pins(cache) == 0
    view.release()


def test_a_memoryview_that_was_released_has_ended_the_view(cache: Cache) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    view.memory.release()
    assert pins(cache) == 0
    view.release()
    with view as memory:
        assert raises_value_error(memory) == 0


def test_view_and_memoryview_end_in_any_order(cache: Cache) -> None:
    cache["key"] = b"value"
    memory = cache.view("key").memory
    assert pins(cache) == 1 and memory == b"value"
    again = memory[1:]
    del memory
    assert pins(cache) == 1 and again == b"value"[1:]
    del again
    assert pins(cache) == 0
    view = cache.view("key")
    del view
    assert pins(cache) == 0


def test_a_view_has_room_for_attributes_and_weak_references(cache: Cache) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    view.note = "kept"  # type: ignore[attr-defined]
    ended: List[object] = []
    reference = weakref.ref(view, ended.append)
    assert reference() is view and view.note == "kept"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        view.token = 7
    del view
    assert reference() is None and ended == [reference] and pins(cache) == 0


def test_the_collector_finds_a_view_that_refers_to_itself(cache: Cache) -> None:
    cache["key"] = b"value"
    gc.disable()
    try:
        view = cache.view("key")
        view.itself = [view, view.memory]  # type: ignore[attr-defined]
        assert gc.is_tracked(view)
        del view
        assert pins(cache) == 1
        gc.collect()
        assert pins(cache) == 0
    finally:
        gc.enable()


def test_leaving_takes_what_a_with_statement_gives(cache: Cache) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    for arguments in ((), (None, None), (None, None, None, None)):
        with pytest.raises(TypeError, match="__exit__"):
            view.__exit__(*arguments)  # type: ignore[call-arg]
    assert pins(cache) == 1
    part = view.memory[1:]
    with pytest.raises(BufferError):
        view.__exit__(None, None, None)
    error = ZeroDivisionError()
    assert not view.__exit__(ZeroDivisionError, error, None)
    assert part == b"value"[1:]


def test_a_view_of_a_destroyed_segment_says_so(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    with Cache() as other:
        other.destroy()
    with pytest.raises(errors.CacheGone):
        cache.view("key")
    assert view.memory == b"value"
    view.release()
    cache.close()


def replace_release(monkeypatch: pytest.MonkeyPatch, instead: Callable[[Callable[[], int]], int]) -> None:
    """Puts a function before memstream_release, for the caches that are opened from here on."""
    library = load().c
    release = library["memstream_release"]

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    def replacement(handle: int, held: int) -> int:
        return instead(lambda: int(release(ctypes.c_void_p(handle), ctypes.c_void_p(held))))

    monkeypatch.setattr(library, "memstream_release", replacement)


def test_a_memoryview_without_its_view_raises_in_a_forked_child(cache: Cache, in_child: Callable[..., int]) -> None:
    cache["key"] = b"value"
    memory = cache.view("key").memory
    assert in_child(raises_value_error, memory) == 0
    assert memory == b"value" and pins(cache) == 1


def test_a_child_lets_go_of_views_in_every_state(cache: Cache, in_child: Callable[..., int]) -> None:
    def child() -> int:
        seen = [view.memory for view in views] + memories
        assert [raises_value_error(memory) for memory in seen] == [0] * 9 + [1] + [0] * 10
        # What cannot be released goes on, unprotected, and so do slices; their end is not told to the library.
        assert bytes(parts[0]) == b"al" and bytes(parts[1]) == b"lu" and bytes(seen[9]) == b"value"
        views[0].release()
        with pytest.raises(BufferError):
            views[9].release()
        borrowed.__exit__(None, None, None)
        del seen, parts[:], views[:], memories[:]
        gc.collect()
        with cache.view("key") as memory:
            return 0 if memory == b"value" and pins(cache) == 1 else 1

    cache["key"] = b"value"
    views = [cache.view("key") for _ in range(10)]
    memories = [cache.view("key").memory for _ in range(10)]
    parts = [views[3].memory[1:3], memories[3][2:4]]
    borrowed = BorrowedBytes(views[9].memory)
    dropped = [cache.view("key").memory[1:] for _ in range(3)]
    assert in_child(child) == 0
    assert pins(cache) == 23 and all(memory == b"value"[1:] for memory in dropped)
    assert all(view.memory == b"value" for view in views) and all(memory == b"value" for memory in memories)
    borrowed.__exit__(None, None, None)


def test_a_child_does_not_tell_the_library_of_what_is_its_parents(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, in_child: Callable[..., int]
) -> None:
    calls: List[int] = []

    def note(release: Callable[[], int]) -> int:
        calls.append(release())
        return calls[-1]

    def child() -> int:
        views.clear()
        cache.view("key").release()
        return 0 if calls == [Status.OK] else 1

    replace_release(monkeypatch, note)
    with Cache() as cache:
        cache["key"] = b"value"
        views = [cache.view("key")]
        assert in_child(child) == 0
        views.clear()
        assert calls == [Status.OK]


def test_the_counts_of_references_are_right(cache: Cache) -> None:
    cache["key"] = b"value"
    kind, window = type(cache.view("key")), type(cache.view("key").memory.obj)
    watched = (kind, window, cache._handle)
    before = [sys.getrefcount(each) for each in watched]
    view = cache.view("key")
    memory = view.memory
    assert [sys.getrefcount(each) for each in watched] == [count + 1 for count in before[:2]] + before[2:]
    counts = [sys.getrefcount(memory), sys.getrefcount(memory.obj)]
    assert counts == [3, 2]  # One of each is the call's own.
    del memory
    view.release()
    assert [sys.getrefcount(each) for each in watched] == [before[0] + 1, *before[1:]]
    del view
    assert [sys.getrefcount(each) for each in watched] == before
