"""Accelerated or not, a cache is the same to its user: each test goes over every public method, both ways."""

from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import os
import pickle
import weakref
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, Dict, List, Tuple
from unittest import mock

import pytest
from conftest import Segment

from memstream import Cache, ObjectCache
from memstream._core.accelerator import accelerated_names

PUBLIC = [name for name in dir(Cache) if not name.startswith("_") and callable(getattr(Cache, name))]


@pytest.fixture(params=["require", "off"])
def accelerator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, segment: Segment) -> str:
    """Caches opened from here on are accelerated, or not."""
    choice = str(request.param)
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", choice)
    return choice


@pytest.fixture(params=[Cache, ObjectCache])
def either(request: pytest.FixtureRequest, accelerator: str) -> Any:
    """An open cache of bytes, or of objects."""
    with request.param() as opened:
        assert opened.accelerated is (accelerator == "require")
        opened["key"] = b"value"
        yield opened


def test_the_public_methods_are_those_that_users_call() -> None:
    assert {*accelerated_names(), "put", "add", "gets", "lease", "memoize", "scan", "close", "put_array", "pop"} <= set(
        PUBLIC
    )


# Prints what each public method says of itself, unbound and bound.
DESCRIBE = """
import inspect, json, re, sys
from memstream import Cache, ObjectCache

ATTRIBUTES = "__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__"
QUESTIONS = (
    inspect.signature, inspect.getdoc, inspect.getfile, callable, lambda method: method.__code__.co_firstlineno,
    inspect.isfunction, inspect.ismethod, inspect.isbuiltin, inspect.isroutine, inspect.iscoroutinefunction,
    lambda method: repr(method).replace("not accelerated", "accelerated"),
    lambda method: inspect.unwrap(method) == method, lambda method: method.__class__.__name__,
)
described = {}
for kind in (Cache, ObjectCache):
    with kind() as cache:
        for name in json.loads(sys.argv[1]):
            for owner in (kind, cache):
                method = getattr(owner, name)
                attributes = [str(getattr(method, attribute)) for attribute in ATTRIBUTES]
                answers = [str(question(method)) for question in QUESTIONS]
                said = [re.sub(" at 0x[0-9a-f]+", "", text) for text in attributes + answers]
                described[f"{kind.__name__} {type(owner).__name__} {name}"] = said
print(json.dumps([cache.accelerated, described]))
"""


def test_methods_describe_themselves_alike(segment: Segment) -> None:
    described: Dict[str, Any] = {}
    for choice in ("require", "off"):
        segment.environment["MEMSTREAM_PYTHON_ACCELERATOR"] = choice
        accelerated, described[choice] = json.loads(segment.code(DESCRIBE, json.dumps(PUBLIC)))
        assert accelerated is (choice == "require")
    assert described["require"] == described["off"]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_method_has_signature_documentation_and_cache(either: Any, name: str) -> None:
    method = getattr(either, name)
    assert method.__self__ is either and inspect.ismethod(method)
    assert "self" not in inspect.signature(method).parameters
    assert "self" in inspect.signature(getattr(type(either), name)).parameters
    assert method.__doc__ or name in ("keys", "popitem", "update")
    assert method == getattr(either, name) and hash(method) == hash(getattr(either, name))
    assert weakref.WeakMethod(method)() == method
    assert copy.copy(getattr(type(either), name)) is getattr(type(either), name)
    assert pickle.loads(pickle.dumps(getattr(type(either), name))) is getattr(type(either), name)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_method_travels_with_its_cache(either: Any, name: str) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        method = pickle.loads(pickle.dumps(getattr(either, name), protocol))
        assert method.__name__ == getattr(either, name).__name__
        with method.__self__ as other:
            assert type(other) is type(either) and other.get("key") == b"value"
            assert other.accelerated is either.accelerated


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_pool_of_processes_calls_methods(either: Any, start: str) -> None:
    calls: List[Tuple[Callable[..., Any], Tuple[Any, ...], Any]] = [
        (either.get, ("key",), b"value"),
        (either.set, ("other", b"1"), None),
        (either.get_many, (["key", "other"],), {"key": b"value", "other": b"1"}),
        (either.exists, ("other",), True),
        (either.touch, ("other", 60), True),
        (either.delete, ("other",), True),
        (either.set_many, ({"a": b"1"},), None),
        (either.delete_many, (["a"],), 1),
        (either.incr, ("number", 1, 5), 6),
        (either.add, ("key", b""), False),
        (either.pop, ("key",), b"value"),
    ]
    with ProcessPoolExecutor(1, multiprocessing.get_context(start)) as pool:
        for call, arguments, result in calls:
            assert pool.submit(call, *arguments).result(60) == result


@pytest.mark.parametrize("name", PUBLIC)
def test_a_method_can_be_patched(either: Any, name: str) -> None:
    before = getattr(either, name)
    with mock.patch.object(either, name, return_value="patched") as patched:
        assert getattr(either, name)("argument") == "patched"
        patched.assert_called_once_with("argument")
    assert getattr(either, name) == before and name not in vars(either)
    # In the class it counts for caches that are open already.
    for owner in (type(either), Cache):
        inherits = inspect.getattr_static(type(either), name) is inspect.getattr_static(owner, name)
        with mock.patch.object(owner, name, return_value="patched") as patched:
            assert (getattr(either, name) is patched) is inherits
            with type(either)() as opened_meanwhile:
                assert (getattr(opened_meanwhile, name) is patched) is inherits
        assert getattr(either, name) == before
    with mock.patch.object(Cache, name, autospec=True, side_effect=RuntimeError) as patched:
        with pytest.raises(TypeError):
            patched(either, *range(100), no_such_argument=1)
    assert getattr(either, name) == before and either.get("key") == b"value"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_subclass_redefines_a_method_and_calls_the_one_above(either: Any, name: str) -> None:
    seen: List[Any] = []

    def redefined(self: Any, *arguments: Any, **options: Any) -> Any:
        above = getattr(super(derived, self), name)
        seen.append((arguments, options, above.__self__ is self))
        return above(*arguments, **options)

    derived = type("Derived", (type(either),), {name: redefined})
    arguments: Dict[str, Tuple[Any, ...]] = {"get": ("key",), "view": ("key",), "exists": ("key",), "entry": ("key",)}
    with derived() as cache:
        assert cache.accelerated is either.accelerated
        method = getattr(cache, name)
        assert method.__func__ is redefined
        if name in arguments:
            result = method(*arguments[name])
            assert seen.pop() == (arguments[name], {}, True) and result
        if name == "get":
            assert cache["key"] == b"value" and seen.pop()[0][0] == "key"  # The mapping goes through it.
        with mock.patch.object(derived, name, return_value="patched"):
            assert getattr(cache, name)() == "patched"


@pytest.mark.parametrize("name", accelerated_names())
def test_a_method_refuses_what_is_no_cache(either: Any, name: str) -> None:
    method = getattr(Cache, name)
    for strangers in ((), (None, "key"), ("text", "key"), (42, "key")):
        with pytest.raises((TypeError, AttributeError)):
            method(*strangers)
    with pytest.raises((TypeError, AttributeError)):
        method.__get__(object())("key")


def test_a_cache_that_is_opened_again_goes_on_with_the_new_one(accelerator: str, segment: Segment) -> None:
    with Cache() as cache:
        cache["key"] = b"value"
        get = cache.get
        cache.__init__(segment.name)  # type: ignore[misc]
        assert cache.get("key") == get("key") == b"value"
        assert len(cache.processes()) == 1 and os.getpid() == cache.processes()[0].pid
