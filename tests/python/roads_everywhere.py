"""A walk over the fast road for interpreters that have no pytest: exit code 0 and "fast" if all is well."""

import gc
import sys

import memstream
from memstream import Cache
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
    refuses(BadKey, cache.get, "")
    refuses(TypeError, cache.get, 7)
    refuses(TypeError, cache.get)
    refuses(TypeError, cache.set, "key", "text")
    refuses(UnicodeEncodeError, cache.get, "\udc80")
    refuses(InvalidArgument, cache.set, "key", b"", ttl=0)
    refuses(InvalidArgument, cache.set, "key", b"", flags=-1)
    refuses(CacheMiss, cache.incr, "absent")


with Cache() as opened:
    for _ in range(30):  # Until the interpreter has filled its own caches.
        walk(opened)
    gc.collect()
    # A debug build counts every reference there is; a leak of one in a walk would be 300.
    count_references = getattr(sys, "gettotalrefcount", lambda: 0)
    blocks, references = sys.getallocatedblocks(), count_references()
    for _ in range(300):
        walk(opened)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 200, sys.getallocatedblocks() - blocks
    assert count_references() - references < 200, count_references() - references
    kept = opened.get
refuses(ClosedError, kept, "key")
print(opened.road, file=sys.stdout)
assert memstream.__version__
