"""The accelerator: what it serves, what it leaves to Python, and that it leaks nothing."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, List, Tuple

import pytest
from conftest import Segment

from memstream import Cache, View
from memstream._core.accelerator import accelerated_names
from memstream._core.kinds import Kind, flag_word
from memstream.errors import CacheMiss, ClosedError, SerializerError, UndecodableWarning

# How often a leak test makes its call, in percent of a million: 100 is some 10 million calls in all.
LEAK_CALLS = 1_000_000 * int(os.environ.get("MEMSTREAM_LEAK_SCALE", "2")) // 100


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch, segment: Segment) -> None:
    """Caches opened from here on are accelerated."""
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "require")


def python_functions_of(call: Callable[[], object]) -> List[str]:
    """Returns the names of the package's Python functions that run in a call."""
    names: List[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and str(frame.f_globals["__name__"]).startswith("memstream."):
            names.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names


ARGUMENTS: Dict[str, Tuple[Any, ...]] = {
    **dict.fromkeys(accelerated_names(), ("key",)),
    **dict.fromkeys(("set", "put"), ("key", b"1")),
    **dict.fromkeys(("get_many", "delete_many"), (["key"],)),
    "set_many": ({"key": b"1"},),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_native_code_serves_the_common_calls(accelerated: None, cache: Cache, name: str) -> None:
    assert cache.accelerated
    cache["key"] = b"1"
    assert python_functions_of(lambda: getattr(cache, name)(*ARGUMENTS[name])) == []


def test_what_a_subclass_redefines_stays_redefined(accelerated: None, segment: Segment) -> None:
    class Loud(Cache):
        def get(self, key: Any, default: Any = None) -> Any:
            return super().get(key, default).upper()

    with Loud() as cache:
        cache["key"] = bytearray(b"value")
        assert cache.get("key") == b"VALUE" and cache["key"] == b"VALUE"
        assert python_functions_of(lambda: cache.delete("absent")) == []
        assert python_functions_of(lambda: cache.get("key")) == []  # Its own is not of the package.


class Backwards:
    """A serializer of the test's own, which gets bytes too."""

    def dumps(self, value: bytes) -> bytes:
        return value[::-1]

    def loads(self, data: bytes) -> bytes:
        return data[::-1]


def test_native_code_stores_only_what_is_stored_as_it_is(accelerated: None, segment: Segment) -> None:
    with Cache(serializer="pickle") as cache, Cache(serializer=Backwards()) as backwards:
        assert python_functions_of(lambda: cache.set("bytes", b"value")) == []
        assert python_functions_of(lambda: cache.get("bytes")) == [] and cache.get("bytes") == b"value"
        for value in ([1], 7, "text", bytearray(b"value")):
            assert "set" in python_functions_of(lambda: cache.set("object", value))
            assert "get" not in python_functions_of(lambda: cache.get("object"))
            assert cache.get("object") == value and type(cache.get("object")) is type(value)
        large = [bytes(100_000)]
        cache.set_many({"large": large, "bytes": b"many"})
        assert "get" in python_functions_of(lambda: cache.get("large")) and cache.get("large") == large
        assert cache.get_many(["object", "bytes"]) == {"object": bytearray(b"value"), "bytes": b"many"}
        backwards.set("key", b"value")
        backwards.set_many({"many": b"values"})
        assert backwards.get("key") == b"value" and backwards.get("many") == b"values"
        with Cache() as plain, plain.view("key") as stored:
            assert bytes(stored).endswith(b"eulav")
            with pytest.raises(SerializerError, match="serializer of its own"):
                plain.get("key")


def test_functions_that_were_kept_say_that_the_cache_was_closed(accelerated: None, segment: Segment) -> None:
    cache = Cache()
    kept: Dict[str, Callable[..., Any]] = {name: getattr(cache, name) for name in ARGUMENTS}
    cache.close()
    cache.close()
    for name, function in kept.items():
        with pytest.raises(ClosedError, match="was closed"):
            function(*ARGUMENTS[name])


def test_a_value_that_closes_the_cache_is_not_stored(accelerated: None, segment: Segment) -> None:
    cache = Cache()

    class Closer(ctypes.Array):  # type: ignore[type-arg]
        _type_, _length_ = ctypes.c_char, 4

    set_, value = cache.set, Closer()
    cache.close()
    with pytest.raises(ClosedError):
        set_("key", value)


def mappings() -> int:
    """How many segments this process has mapped; all handles of a process count as one in `processes`."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        return sum("/memstream." in line or "/SYSV" in line for line in maps)


def test_a_cache_that_nobody_refers_to_is_closed_at_once(accelerated: None, segment: Segment) -> None:
    gc.disable()
    try:
        with Cache():
            before = mappings()
            other = Cache()
            assert mappings() == before + 1
            get = other.get
            del other
            assert mappings() == before + 1  # The function keeps it open.
            del get
            assert mappings() == before
    finally:
        gc.enable()


def test_a_cache_at_the_address_of_another_does_not_find_what_that_had(
    accelerated: None, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Cache()
    kept, address = first._accelerator, id(first)
    del first
    others = [object.__new__(Cache) for _ in range(100)]
    (second,) = (each for each in others if id(each) == address)
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "off")
    second.__init__(segment.name)  # type: ignore[misc]
    second["key"] = b"value"
    assert "get" in python_functions_of(lambda: second.get("key"))
    second.close()
    del kept


def test_many_caches_find_their_own_accelerators(accelerated: None, segment: Segment) -> None:
    caches = [Cache() for _ in range(100)]
    for cache in [*caches[::2], *caches[1::2]]:
        assert python_functions_of(lambda: cache.set("key", b"value")) == []
    for cache in caches[::3]:
        cache.close()
    del caches[::3], cache
    for cache in caches:
        assert python_functions_of(lambda: cache.get("key")) == [] and cache.get("key") == b"value"
        cache.close()


def test_closing_while_other_threads_copy_large_values(accelerated: None, segment: Segment) -> None:
    large = bytes(range(256)) * 4096
    outcomes: List[object] = []

    def work(cache: Cache) -> None:
        try:
            while True:
                cache.set("key", large)
                assert cache.get("key") == large
                cache.get_many(["key"] * 100)
        except ClosedError as error:
            outcomes.append(error)
        except BaseException as error:
            outcomes.append(repr(error))

    for _ in range(20):
        cache = Cache()
        threads = [threading.Thread(target=work, args=(cache,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        cache.close()
        for thread in threads:
            thread.join()
    assert len(outcomes) == 60 and all(isinstance(outcome, ClosedError) for outcome in outcomes)


def test_opening_again_while_other_threads_copy_large_values(accelerated: None, segment: Segment) -> None:
    large = bytes(range(256)) * 4096
    cache = Cache(segment.name)
    cache.set("key", large)
    rounds = [0, 0, 0]
    done = threading.Event()

    def work(number: int) -> None:
        while not done.is_set():
            with suppress(ClosedError):
                cache.set("key", large)
                assert cache.get("key") == large
                assert cache.get_many(["key"] * 20) == {"key": large}
            rounds[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while min(rounds) < 60:
        cache.__init__(segment.name)  # type: ignore[misc]
    done.set()
    for thread in threads:
        thread.join()
    assert cache.get("key") == large and len(cache.processes()) == 1
    cache.close()


def test_large_values_are_copied_with_the_interpreter_free(accelerated: None, cache: Cache) -> None:
    large = bytes(8 << 20)
    counted = [0]
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(20):
        cache.set("key", large)
        cache.get("key")
    done.set()
    thread.join()
    assert counted[0] > 0


_MANY = [f"many-{number}" for number in range(100)]

# What the leak tests call: every way through the functions, also those that raise.
CALLS: Dict[str, Callable[[Cache, Any], object]] = {
    "get": lambda cache, key: cache.get(key),
    "get a miss": lambda cache, key: cache.get("absent", key),
    "get 20 KiB": lambda cache, key: cache.get("medium"),
    "get 64 KiB": lambda cache, key: cache.get("large"),
    "get by name": lambda cache, key: cache.get(key=key),
    "get and touch": lambda cache, key: (cache.get(key, touch=60), cache.get("large", touch=60)),
    "set": lambda cache, key: cache.set(key, b"value"),
    "set a bytearray": lambda cache, key: cache.set(key, bytearray(8), ttl=5, flags=3),
    "delete, exists": lambda cache, key: (cache.delete("absent"), cache.exists(key), cache.touch(key, 1.5)),
    "incr": lambda cache, key: (cache.incr("number"), cache.incr("number", 2**40), cache.incr("number", delta=-1)),
    "get_many": lambda cache, key: cache.get_many([key, "absent", "large"]),
    "get_many of 100, 1 KiB": lambda cache, key: cache.get_many([key, *_MANY]),
    "get_many of an object": lambda cache, key: pytest.warns(UndecodableWarning, cache.get_many, ["array", *_MANY]),
    "view of many": lambda cache, key: [cache.view(each).release() for each in _MANY],
    "view in a block": lambda cache, key: _view_in_block(cache.view(key)),
    "view that is dropped": lambda cache, key: (cache.view(key), cache.view(key).memory[1:]),
    "view of a name": lambda cache, key: (cache.view(key=key), pytest.raises(CacheMiss, cache.view, "absent")),
    "view with a slice in use": lambda cache, key: _view_with_slice(cache.view("large")),
    "set_many": lambda cache, key: cache.set_many({key: b"1", "other": b"2"}, 60),
    "delete_many": lambda cache, key: cache.delete_many((key, "absent")),
    "errors": lambda cache, key: [
        pytest.raises(Exception, call)
        for call in (
            lambda: cache.get(""),
            lambda: cache.get(7),  # type: ignore[call-overload]
            lambda: cache.get(),  # type: ignore[call-overload]
            lambda: cache.set(key, "text"),
            lambda: cache.set(key, b"", ttl=-1),
            lambda: cache.set(key, b"", 1, ttl=1),  # type: ignore[misc]
            lambda: cache.incr("medium"),
            lambda: cache.get_many([""]),
            lambda: cache.get_many(None),  # type: ignore[arg-type]
            lambda: cache.set_many({key: b"", "b": 7}),
        )
    ],
}


def _view_in_block(view: View) -> None:
    view.itself = view  # type: ignore[attr-defined]  # For the garbage collector.
    with view as memory:
        memory[0], view.token, view.flags, view.created_at, view.expires_at, view.memory


def _view_with_slice(view: View) -> None:
    part = view.memory[1:5]
    pytest.raises(BufferError, view.release)
    with suppress(ZeroDivisionError), view:
        part[0] / 0


@pytest.mark.parametrize("name", CALLS)
def test_no_call_leaks(accelerated: None, cache: Cache, name: str) -> None:
    call, key = CALLS[name], "a key of its own " + name
    cache.set_many({key: b"value", "medium": bytes(20_000), "large": bytes(65_536), "number": b"0"})
    cache.set_many(dict.fromkeys(_MANY, bytes(1024)))
    cache._connection.store(cache._library.c.memstream_set, "array", b"", None, flag_word(Kind.ARRAY, 0))
    default = object()
    view = cache.view(key)
    watched = (None, True, False, key, default, cache._handle, type(view), type(view.memory.obj))
    view.release()
    if any(word in name for word in ("errors", "object", "of a name", "slice")):
        share = 50
    else:
        share = 10 if any(word in name for word in ("KiB", "many", "block")) else 1
    rounds = max(LEAK_CALLS // share, 200)

    def repeat(times: int) -> None:
        for _ in range(times):
            call(cache, key)

    repeat(100 + rounds // 4)  # The interpreter fills caches of its own for a while, the longest where calls raise.
    least_blocks = least_bytes = sys.maxsize
    for _ in range(3):
        gc.collect()
        blocks, resident = sys.getallocatedblocks(), _resident()
        references = [sys.getrefcount(each) for each in watched]
        repeat(rounds)
        gc.collect()
        # A leak of one for each call would be hundreds and more; the interpreter's own caches move by a few.
        assert all(abs(sys.getrefcount(each) - before) < 50 for each, before in zip(watched, references))
        least_blocks = min(least_blocks, sys.getallocatedblocks() - blocks)
        least_bytes = min(least_bytes, _resident() - resident)
        if least_blocks < 100 and least_bytes < 8 << 20:
            break  # What leaks does so in every stretch; the interpreter fills a cache of its own once.
    assert least_blocks < 100
    assert least_bytes < 8 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_interpreter_ends_in_peace_with_a_cache_open(accelerated: None, segment: Segment) -> None:
    segment.environment["MEMSTREAM_PYTHON_ACCELERATOR"] = "require"
    code = (
        "import memstream; cache = memstream.Cache(); cache['key'] = b'1'; kept = cache.get; print(cache.accelerated)"
    )
    assert segment.code(code) == b"True\n"


def interpreters() -> List[str]:
    """Every CPython from 3.9 on that the machine has, the one that counts its references among them."""
    paths = [*Path("/usr/bin").glob("python3.*"), *Path.home().glob(".pyenv/versions/3.*/bin/python3.*")]
    named = [(path, re.fullmatch(r"python3\.(\d+)(-dbg)?", path.name)) for path in paths]
    return sorted(str(path) for path, match in named if match and int(match[1]) >= 9)


@pytest.mark.parametrize("interpreter", interpreters())
def test_the_same_file_serves_every_interpreter(accelerated: None, segment: Segment, interpreter: str) -> None:
    program = Path(__file__).with_name("accelerator_everywhere.py")
    # A tracer keeps references of its own, for every line that runs.
    environment = {**segment.unmeasured, "MEMSTREAM_PYTHON_ACCELERATOR": "require"}
    done = subprocess.run([interpreter, str(program)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
