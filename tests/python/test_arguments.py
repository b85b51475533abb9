"""Every public function names the parameter that is wrong and what it expects, on both ways with the same words.

The functions and their parameters are read from the classes, so that a new one fails here until it is in the tables.
"""

from __future__ import annotations

import inspect
import os
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import pytest
from conftest import Segment

import memstream
from memstream import Cache, Lease, LocalCache, ObjectCache, Reservation, View, destroy, lru_cache

WAYS = ("off", "require")


class Nothing:
    """An object that is none of what any parameter takes."""


_WRONG_NUMBERS: List[Any] = ["60", b"60", None, 1.5, True, [1], Nothing()]
_WRONG_SECONDS: List[Any] = ["60", "soon", b"60", True, [60], 1j, Nothing(), print, 0, -1, float("nan"), float("inf")]
_WRONG_BOOLS: List[Any] = ["no", 1, 0, None, Nothing()]
_WRONG_TEXTS: List[Any] = [5, b"posix", 1.5, ["posix"], Nothing(), "po\0six", "\udc80"]
_WRONG_ACCOUNTS: List[Any] = [b"root", 1.5, True, [1], Nothing(), "", -1, 2**32 - 1, "ro\0ot", "\udc80"]

# What each parameter refuses, and words that say what it expects instead.
WRONG: Dict[str, Tuple[List[Any], str]] = {
    "key": ([None, 1, 1.5, bytearray(b"key"), ["key"], Nothing(), "\udc80"], "str"),
    "prefix": ([1, 1.5, bytearray(b"key"), ["key"], Nothing(), "user:*", "*", "\udc80"], "str|no pattern"),
    "keys": ([None, 1, 1.5, Nothing()], "iterable"),
    "names": ([None, 1, 1.5, Nothing(), "user:7", b"user:7"], "iterable"),
    "tag": ([None, 1, 1.5, bytearray(b"tag"), ["tag"], Nothing(), "", "\udc80"], "str|1 to"),
    "tags": ([1, 1.5, Nothing(), "user:7", b"user:7"], "iterable"),
    "values": ([None, 1, "ab", [("a", b"1")], Nothing()], "a mapping"),
    "value": ([None, 1, 1.5, "text", {"a": 1}, Nothing(), memoryview(b"some bytes")[::2]], "buffer"),
    "ttl": (_WRONG_SECONDS, "seconds above 0"),
    "touch": (_WRONG_SECONDS, "seconds above 0"),
    "duration": (_WRONG_SECONDS, "seconds above 0"),
    "flags": ([*_WRONG_NUMBERS, -1, 2**32, 0xE2000000], "a whole number from 0|none of 0xe0000000"),
    "delta": ([*_WRONG_NUMBERS, 2**63, -(2**63) - 1], "a whole number from"),
    "initial": ([*(wrong for wrong in _WRONG_NUMBERS if wrong is not None), 2**63], "a whole number from"),
    "token": ([*(wrong for wrong in _WRONG_NUMBERS if wrong is not None), -1, 2**64], "a whole number from"),
    "name": ([*_WRONG_TEXTS, "", "a/b", "a" * 65, ".a"], "1 to 64"),
    "backend": ([*_WRONG_TEXTS, "floppy"], "posix"),
    "hugepages": ([*_WRONG_TEXTS, "sometimes"], "try"),
    "size": (
        [b"64M", 1.5, True, [1], Nothing(), 0, -1, 4096, 2**64, 2**63, "64X", "", "M", "-1", "1M\0"],
        "bytes|1 ?M",
    ),
    "shards": (["8", 1.5, True, [1], Nothing(), 0, -1, 65, 2**32 + 1], "1 to 64"),
    "mode": (["0660", 1.5, True, [1], Nothing(), 0, 0o1000, 0o066, 660, 2**32 + 0o600], "permission bits"),
    "timeout": (["1", b"1", True, [1], Nothing(), -1, float("nan")], "seconds"),
    "prefault": (["off", 1, 0, Nothing()], "True, False"),
    "checksum": (["off", 1, 0, Nothing()], "True, False"),
    "group": ([*_WRONG_ACCOUNTS, "no-such-group"], "a group"),
    "max_value": ([b"64M", 1.5, True, [1], Nothing(), 0, -1, 2**64, 2**63, "64X", "", "M", "-1", "1M\0"], "M"),
    "owner": ([*_WRONG_ACCOUNTS, "no-such-user"], "a user"),
    "library": ([5, b"/libcache.so", Nothing(), "/tmp/a\0b"], "path"),
    "serializer": (["yaml", 5, Nothing()], "dumps"),
    "read_only": (_WRONG_BOOLS, "True or False"),
    "create": (_WRONG_BOOLS, "True or False"),
    "consistent": (_WRONG_BOOLS, "True or False"),
    "any_owner": (_WRONG_BOOLS, "True or False"),
    "reserve size": (["1", 1.5, True, [1], None, Nothing(), -1, 2**63], "a whole number from 0"),
    "function": ([5, "text", True, Nothing()], "a function"),
    "stale": (
        ["60", b"60", True, [60], None, Nothing(), -1, float("nan"), float("inf"), 5],
        "seconds of 0|without a ttl",
    ),
    "jitter": (["0.1", b"0", True, [0.1], None, Nothing(), -0.1, 1, 2, float("nan")], "a number from 0"),
    "refresh_ahead": (["0.1", b"0", True, [0.1], None, Nothing(), -0.1, 1, 2, 0.5], "a number from 0|without a ttl"),
    "absent_ttl": (["60", b"60", True, [60], Nothing(), -1, 0, float("nan")], "seconds"),
    "wait": (["60", b"60", True, [60], Nothing(), -1, float("nan")], "seconds of 0"),
    "memoize name": ([5, b"name", ["name"], Nothing(), ""], "a str that is not empty"),
    "ignore": ([5, Nothing()], "names of parameters"),
    "typed": (_WRONG_BOOLS, "True or False"),
    "maxsize": (["128", 1.5, True, [1], Nothing(), 0, -1], "above 0"),
    "cache": ([None, 5, "name", Cache, Nothing()], "a Cache"),
    "rate": ([*_WRONG_NUMBERS, 0, -1, 2**63], "a whole number from 1"),
    "burst": ([*(wrong for wrong in _WRONG_NUMBERS if wrong is not None), 0, -1, 2**63], "a whole number from 1"),
    "period": (_WRONG_SECONDS, "seconds above 0"),
    "permits": ([*_WRONG_NUMBERS, 0, -1, 65536], "a whole number from 1"),
    "permit name": ([None, 1, 1.5, bytearray(b"name"), ["name"], Nothing(), "\udc80"], "str"),
    "other": ([None, 5, Nothing(), [1], ["abc"]], "a mapping"),
    "array": ([Nothing(), [Nothing()], {"a": 1}, [[1], [2, 3]]], "without Python objects|of one shape"),
}

# Parameters that mean something else in one function than everywhere else: the key of WRONG for them.
OTHERWISE = {
    ("setdefault", "default"): "value",
    ("reserve", "size"): "reserve size",
    ("memoize", "key"): "function",
    ("memoize", "cache_if"): "function",
    ("memoize", "name"): "memoize name",
    ("memoize", "lease"): "duration",
    ("semaphore", "name"): "permit name",
    ("lock", "name"): "permit name",
}

# Parameters that take everything.
WHATEVER = {("get", "default"), ("gets", "default"), ("pop", "default"), ("memoize", "version")}
OBJECTS = {"value", "default"}  # A serializer takes every object, and says itself what it does not.

# They may refuse an argument as late as when they see the function.
DECORATORS = {"memoize", "lru_cache"}

# Arguments for the parameters before and behind the one that is wrong.
RIGHT: Dict[str, Any] = {
    "key": "absent",
    "keys": ["absent"],
    "value": b"1",
    "token": 1,
    "size": 1,
    "array": [1],
    "values": {"absent": b"1"},
    "rate": 1,
    "permits": 1,
}
RIGHT_IN = {("semaphore", "name"): "nightly", ("lock", "name"): "nightly"}


def undecorated() -> None:
    """A function."""


class Case(NamedTuple):
    """A parameter of a function, and what calls the function with one wrong argument for it."""

    function: str
    parameter: str
    call: Callable[[Any], Any]
    table: str

    def __repr__(self) -> str:
        return f"{self.function}({self.parameter})"


def parameters(function: Any) -> List[inspect.Parameter]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = [each for each in inspect.signature(function).parameters.values() if each.kind not in variable]
    return [each for each in found if each.name != "self"]


def calling(function: str, find: Callable[[], Any], of: Any) -> Iterator[Case]:
    """Gives a case for each parameter; what can be passed by position is, because the fast way takes only that."""
    all_of_them = parameters(of)
    for wrong in all_of_them:

        def right(each: inspect.Parameter) -> Any:
            if each.name == "cache":
                return _cache[0]
            return RIGHT_IN.get((function, each.name), RIGHT.get(each.name, each.default))

        def call(argument: Any, wrong: inspect.Parameter = wrong) -> Any:
            positional: List[Any] = []
            named: Dict[str, Any] = {}
            is_before = True
            for each in all_of_them:
                is_needed = each is wrong or each.default is inspect.Parameter.empty
                is_before = is_before and each is not wrong
                if each.kind is inspect.Parameter.KEYWORD_ONLY:
                    if is_needed:
                        named[each.name] = argument if each is wrong else right(each)
                elif is_needed or is_before:
                    positional.append(argument if each is wrong else right(each))
            return find()(*positional, **named)

        table = OTHERWISE.get((function, wrong.name), wrong.name)
        if (function, wrong.name) not in WHATEVER:
            yield Case(function, wrong.name, call, table)


def methods(cls: type) -> List[str]:
    public = [name for name, member in inspect.getmembers(cls, callable) if not name.startswith("_")]
    return public + [name for name in ("__getitem__", "__setitem__", "__delitem__") if hasattr(cls, name)]


_cache: List[Cache] = []  # What the cases of methods call.


def cases_of(cls: type, make: Callable[[], Any]) -> Iterator[Case]:
    for name in methods(cls):
        yield from calling(name, lambda name=name: getattr(make(), name), getattr(cls, name))  # type: ignore[misc]


CACHE = list(cases_of(Cache, lambda: _cache[0]))
OBJECT_CACHE = [case for case in cases_of(Cache, lambda: _cache[0]) if case.parameter not in OBJECTS]
LEASE = list(cases_of(Lease, lambda: _cache[0].lease(os.urandom(8))))
LOCAL = [
    *calling("local", lambda: memstream.local, memstream.local),
    *cases_of(LocalCache, lambda: memstream.local(_cache[0])),
]
OPENING = [
    *calling("Cache", lambda: Cache, Cache.__init__),
    *calling("ObjectCache", lambda: ObjectCache, ObjectCache.__init__),
    *calling("destroy", lambda: destroy, destroy),
    *calling("lru_cache", lambda: lru_cache, lru_cache),
]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, segment: Segment, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", request.param)
    return str(request.param)


def refused(case: Case) -> List[str]:
    """Requires that every wrong argument is refused as it should be; returns the errors."""
    assert case.table in WRONG, f"{case!r} is new: say in WRONG, or in OTHERWISE or WHATEVER, what it refuses"
    wrongs, expected = WRONG[case.table]
    texts = []
    for wrong in wrongs:
        with pytest.raises((TypeError, ValueError, BufferError)) as caught:
            made = case.call(wrong)
            if case.function in DECORATORS:
                made(undecorated)
        text = str(caught.value)
        name = "value" if case.table == "value" else case.parameter
        assert name in text and re.search(expected, text), f"{case!r} of {wrong!r} says: {text}"
        texts.append(f"{caught.type.__name__}: {text}")
    return texts


def both_ways(case: Case, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    said = []
    for choice in WAYS:
        monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", choice)
        with Cache(**options) as cache:
            assert cache.accelerated == (choice == "require")
            cache["key"] = 1 if options else b"1"
            _cache[:] = [cache]
            said.append(refused(case))
            assert cache.stats().entries == 1 and cache["key"] in (1, b"1")
    assert said[0] == said[1]


@pytest.mark.parametrize("case", CACHE + LEASE + LOCAL, ids=repr)
def test_a_wrong_argument_is_refused_by_name_and_in_the_same_words_both_ways(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    both_ways(case, monkeypatch)


@pytest.mark.parametrize("case", OBJECT_CACHE, ids=repr)
def test_a_cache_of_objects_refuses_the_same(segment: Segment, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    both_ways(case, monkeypatch, serializer="pickle")


@pytest.mark.parametrize("case", OPENING, ids=repr)
def test_a_wrong_option_is_refused_by_name(segment: Segment, case: Case) -> None:
    refused(case)


def test_no_public_function_is_left_out() -> None:
    """What the package offers to be called is in one of the lists, or has no parameters to be wrong."""
    listed = {case.function for case in CACHE + LEASE + LOCAL + OPENING}
    for cls in (Cache, LocalCache, ObjectCache, Lease, Reservation, View):
        for name in methods(cls):
            assert name in listed or parameters(getattr(cls, name)) == []
    made_by_the_cache = {
        Lease,
        LocalCache,
        Reservation,
        View,
        memstream.Histogram,
        memstream.Metrics,
        memstream.Serializer,
        memstream.MemoizedFunction,
        memstream.Semaphore,
        memstream.Tags,
        memstream.Watch,
    }
    for name in set(memstream.__all__) - {"__version__"}:
        member = getattr(memstream, name)
        is_result = isinstance(member, type) and issubclass(member, (tuple, BaseException, memstream.Status))
        assert is_result or name in listed or member in made_by_the_cache
