"""A walk over the accelerator for interpreters that have no pytest: exit code 0 and "True" if all is well."""

import gc
import inspect
import os
import pickle
import sys
import weakref

import memstream
from memstream import Cache, View
from memstream.errors import BadKey, CacheMiss, ClosedError, InvalidArgument


def refuses(error: type, call: object, *arguments: object, **named: object) -> None:
    """Requires that a call raises just that."""
    try:
        call(*arguments, **named)  # type: ignore[operator]
    except error:
        return
    raise AssertionError(f"{call} with {arguments} and {named} did not raise {error}")


def walk(cache: Cache) -> None:
    """Goes once over every function, with every kind of argument."""
    cache.set("key", b"value")
    cache.set(b"bytes", bytearray(b"array"), ttl=60, flags=7)
    cache.put("view", memoryview(b"view"), 0.5, 2**32 - 1)
    assert cache.get("key") == b"value" and cache.get("absent") is None and cache.get("absent", 7) == 7
    assert cache.get(key="key", default=1) == b"value"
    for size in (0, 4096, 4097, 32768, 32769, 300_000):
        value = bytes(range(256)) * (size // 256) + bytes(size % 256)
        cache.set("sized", value)
        assert cache.get("sized") == value and cache.get_many(["sized"]) == {"sized": value}
    assert cache.exists("key") and "key" in cache and not cache.exists("absent")
    assert cache.touch("key") and cache.touch("key", 60) and not cache.touch("absent", 1.5)
    cache.delete("number")
    assert cache.incr("number", 5, initial=2**40) == 2**40 + 5
    assert cache.incr("number") == 2**40 + 6 and cache.incr("number", -7) == 2**40 - 1
    cache.set_many({"a": b"1", b"b": b"2"}, 60)
    assert cache.get_many(("a", b"b", "absent")) == {"a": b"1", b"b": b"2"}
    assert cache.delete_many(["a", b"b", "absent"]) == 2
    assert cache.delete("key") and not cache.delete("key")
    look(cache)
    ask(cache)
    refuses(BadKey, cache.get, "")
    refuses(TypeError, cache.get, 7)
    refuses(TypeError, cache.get)
    refuses(TypeError, cache.set, "key", "text")
    refuses(UnicodeEncodeError, cache.get, "\udc80")
    refuses(InvalidArgument, cache.set, "key", b"", ttl=0)
    refuses(InvalidArgument, cache.set, "key", b"", flags=-1)
    refuses(CacheMiss, cache.incr, "absent")


def ask(cache: Cache) -> None:
    """Treats methods as the objects that they are."""
    cache.set("key", b"value")
    assert Cache.get(cache, "key") == super(Cache, cache).get("key") == b"value"
    assert cache.get.__self__ is cache and cache.get == cache.get and cache.get.__func__ is Cache.get
    assert inspect.signature(cache.get) == inspect.signature(Cache.get.__get__(cache))
    assert list(inspect.signature(Cache.get).parameters) == ["self", "key", "default", "touch"]
    assert Cache.get.__name__ == "get" and Cache.get.__doc__ and "get at 0x" in repr(Cache.get)
    assert pickle.loads(pickle.dumps(Cache.get)) is Cache.get and weakref.ref(Cache.get)() is Cache.get
    Cache.get.note = 1  # type: ignore[attr-defined]
    del Cache.get.note  # type: ignore[attr-defined]
    refuses(AttributeError, getattr, Cache.get, "note")
    refuses(AttributeError, Cache.get, None, "key")
    refuses(TypeError, Cache.get)
    for native in (type(inspect.getattr_static(Cache, "get")), type(cache._accelerator.state)):
        refuses(TypeError, native)
        refuses(TypeError, object.__new__, native)
        refuses(TypeError, type, "Derived", (native,), {})


def look(cache: Cache) -> None:
    """Takes views in every state, and ends them in every way."""
    cache.set("key", b"value", flags=7)
    view = cache.view("key")
    assert isinstance(view, View) and view.flags == 7 and view.token > 0 and view.expires_at is None
    with view as memory:
        assert memory.readonly and memory == b"value" and memory.format == "B" and memory.shape == (5,)
    refuses(ValueError, memory.tobytes)
    view.release()
    view = cache.view(b"key")
    view.itself = view  # type: ignore[attr-defined]
    part = view.memory[1:3]
    refuses(BufferError, view.release)
    assert part == b"al"
    del part, view, memory
    alone = cache.view("key").memory
    again = memoryview(alone.obj)
    alone.release()
    assert again == b"value"
    refuses(TypeError, type(again.obj))
    refuses(CacheMiss, cache.view, "absent")
    refuses(BadKey, cache.view, "")
    cache.set("empty", b"")
    with cache.view("empty") as memory:
        assert memory == b"" and len(memory) == 0


def fork(cache: Cache) -> None:
    """A child is kept from the views of its parent, and takes its own."""
    view = cache.view("key")
    memory = cache.view("key").memory
    pid = os.fork()
    if pid == 0:
        refuses(ValueError, view.memory.tobytes)
        refuses(ValueError, memory.tobytes)
        look(cache)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert view.memory == memory == b"value"


def starve(cache: Cache) -> None:
    """Lets each allocation of a view fail, one after the other, where the interpreter can."""
    try:
        from _testcapi import remove_mem_hooks, set_nomemory
    except ImportError:
        return
    failures = 0
    for number in range(12):
        view = memory = None
        set_nomemory(number, number + 1)
        try:
            view = cache.view(b"key")
            memory = view.memory
            view = None
        except MemoryError:
            failures += 1
        finally:
            remove_mem_hooks()
        assert memory is None or memory == b"value"
    assert 4 <= failures < 12, failures
    # A view that ends because of an exception leaves that as it is.
    for number in range(8):
        kept = []

        def taken() -> View:
            view = cache.view(b"key")
            kept.append(view.memory)
            return view

        def fail() -> None:
            set_nomemory(number, number + 1)
            raise error

        error = BadKey(0, "of our own")
        try:
            taken(), fail()
        except (BadKey, MemoryError):
            remove_mem_hooks()
        else:
            raise AssertionError("the exception is lost")
        assert kept[0] == b"value"


with Cache() as opened:
    for _ in range(30):  # Until the interpreter has filled its own caches.
        walk(opened)
    gc.collect()
    # A debug build counts every reference there is; a leak of one in a walk would be 300, each time. Once the
    # interpreter may still fill a cache of its own.
    count_references = getattr(sys, "gettotalrefcount", lambda: 0)
    growths = []
    for _ in range(8):
        blocks, references = sys.getallocatedblocks(), count_references()
        for _ in range(300):
            walk(opened)
        gc.collect()
        growths.append((sys.getallocatedblocks() - blocks, count_references() - references))
        if max(growths[-1]) < 200:
            break
    assert max(growths[-1]) < 200, growths
    fork(opened)
    starve(opened)
    gc.collect()
    assert sum(process.pins for process in opened.processes()) == 0
    kept = opened.get
refuses(ClosedError, kept, "key")
print(opened.accelerated)
assert memstream.__version__
