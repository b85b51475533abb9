"""What functions carry counts: two that would give different results never share one."""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from conftest import Segment

from memstream import Cache
from memstream.memo_keys import KeyMaker


def key_of(function: Callable[..., Any], *arguments: Any, **options: Any) -> bytes:
    return KeyMaker(function, **options).key_of(arguments, {})


def defined(text: str, **variables: Any) -> Any:
    """Returns the function `f` of a text."""
    exec(text, variables)
    return variables["f"]


def scaler(factor: Any) -> Callable[[int], int]:
    def scale(number: int) -> int:
        return int(number * factor)

    return scale


class Scaler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return number * self.factor

    def scale(self, number: int) -> int:
        return number * self.factor

    @classmethod
    def name(cls, number: int) -> str:
        return cls.__name__ * number


class Other(Scaler):
    pass


def product(factor: int, number: int = 1, more: int = 1) -> int:
    return factor * number * more


@functools.lru_cache(maxsize=None)
def cached(number: int) -> int:
    return number


def test_tenants_of_one_factory_do_not_share(cache: Cache) -> None:
    def loader_for(tenant: str) -> Callable[[int], str]:
        table = {"a": {"owner": "ann"}, "b": {"owner": "bob"}}[tenant]

        @cache.memoize()
        def load(number: int) -> str:
            return table["owner"]

        return load

    assert [loader_for(tenant)(1) for tenant in "abab"] == ["ann", "bob", "ann", "bob"]
    assert len(cache) == 2


DIFFERENT: List[List[Callable[..., Any]]] = [
    [scaler(2), scaler(3)],
    [scaler(scaler(2)), scaler(scaler(3))],
    [scaler(Scaler(2)), scaler(Scaler(3))],
    [scaler({1: [2]}), scaler({1: [3]})],
    [functools.partial(product, 2), functools.partial(product, 3)],
    [functools.partial(product, 2, more=2), functools.partial(product, 2, more=3)],
    [functools.partial(functools.partial(product, 2)), functools.partial(scaler(2))],
    [Scaler(2), Scaler(3), Other(2)],
    [Scaler(2).scale, Scaler(3).scale, Other(2).scale, Scaler(2)],
    [Scaler.name, Other.name],
    ["a b".split, "c d".split],
    [defined("def f(x): return x"), defined("def f(x): return -x")],
    [defined("def f(x): return 1"), defined("def f(x): return 1.0"), defined("def f(x): return True")],
    [defined("def f(x): return x.a"), defined("def f(x): return x.b")],
    [defined("def f(x): return lambda: x"), defined("def f(x): return lambda: -x")],
    [defined("def f(x): return x in {1, 2}"), defined("def f(x): return x in {1, 3}")],
    [cached, cached.__wrapped__],
    [scaler(os), scaler(threading)],
]


@pytest.mark.parametrize("functions", DIFFERENT, ids=lambda functions: str(DIFFERENT.index(functions)))
def test_what_a_function_carries_counts(functions: List[Callable[..., Any]]) -> None:
    assert len({key_of(function, 7) for function in functions}) == len(functions)
    assert len({key_of(product, function) for function in functions}) == len(functions)
    with_key: Dict[str, Any] = {"key": lambda *arguments: 1}
    assert len({key_of(function, 7, **with_key) for function in functions}) == len(functions)


def test_functions_that_carry_the_same_share() -> None:
    for one, other in [
        (scaler(2), scaler(2)),
        (functools.partial(product, 2), functools.partial(product, 2)),
        (Scaler(2), Scaler(2)),
        (Scaler(2).scale, Scaler(2).scale),
        (defined("def f(x): return x"), defined("\n\n# moved\ndef f(x): return x")),
    ]:
        assert key_of(one, 7) == key_of(other, 7)
        assert key_of(product, one) == key_of(product, other)
    # A bound argument is an argument.
    assert key_of(functools.partial(product, 2), 3) == key_of(product, 2, 3)
    assert key_of(Scaler(2).scale, 3) == key_of(Scaler.scale, Scaler(2), 3)


def test_the_state_of_a_bound_object_counts_at_each_call(cache: Cache) -> None:
    counter = Scaler(2)
    by_method, by_object = cache.memoize()(counter.scale), cache.memoize()(counter)
    assert (by_method(5), by_object(5)) == (10, 10)
    counter.factor = 3
    assert (by_method(5), by_object(5)) == (15, 15)


def test_a_variable_that_is_assigned_later_counts(cache: Cache) -> None:
    factor = 2

    @cache.memoize()
    def scale(number: int) -> int:
        return number * factor

    assert scale(5) == 10
    factor = 3
    assert scale(5) == 15 and scale.cache_info().currsize == 1
    factor = 2
    assert scale(5) == 10 and scale.cache_info().misses == 2


def test_recursive_functions_have_keys(cache: Cache) -> None:
    @cache.memoize()
    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    assert fibonacci(30) == 832040 and fibonacci.cache_info().misses == 31

    def even(number: int) -> bool:
        return number == 0 or odd(number - 1)

    def odd(number: int) -> bool:
        return number != 0 and even(number - 1)

    assert cache.memoize()(even)(4) is True and key_of(even, 1) != key_of(odd, 1)

    class Local:
        def method(self) -> Any:
            return super().__init__

    assert key_of(Local.method, 1) == key_of(Local.method, 1)


def test_what_cannot_be_expressed_is_refused_by_name(cache: Cache) -> None:
    lock = threading.Lock()

    def locked(number: int) -> int:
        with lock:
            return number

    with pytest.raises(TypeError, match="cannot memoize .*locked: the variable 'lock'.*name it in ignore="):
        cache.memoize()(locked)
    assert cache.memoize(ignore="lock")(locked)(5) == 5
    with pytest.raises(TypeError, match="the variable 'lock'"):
        key_of(product, locked)
    with pytest.raises(ValueError, match="no parameter 'locks', and its closure no such variable"):
        cache.memoize(ignore="locks")(locked)

    class Holder:
        def __init__(self) -> None:
            self.lock = lock

        def get(self, number: int) -> int:
            return number

    bound = cache.memoize()(Holder().get)
    with pytest.raises(TypeError, match="give key= or ignore="):
        bound(1)
    assert cache.memoize(ignore="self")(Holder().get)(1) == 1
    with pytest.raises(TypeError, match="give key= or ignore="):
        cache.memoize(key=lambda number: number)(Holder().get)(1)
    assert cache.memoize(key=lambda number: number, ignore="self")(Holder().get)(1) == 1


def test_name_and_version_steer_what_is_shared(cache: Cache) -> None:
    one, other = defined("def f(x): return 1"), defined("def f(x): return 2")
    assert cache.memoize(name="same")(one)(0) == cache.memoize(name="same")(other)(0) == 1
    assert cache.memoize(name="same", version=2)(other)(0) == 2
    assert cache.memoize(version="a")(one)(0) == 1 and len(cache) == 3
    assert key_of(scaler(2), 1, name="n") != key_of(scaler(3), 1, name="n")
    for name in ("", b"n"):
        with pytest.raises((TypeError, ValueError), match="Invalid name"):
            cache.memoize(name=name)  # type: ignore[arg-type]
    inner = cache.memoize(version=1)(one)
    assert key_of(product, inner) != key_of(product, cache.memoize(version=2)(one)) != key_of(product, one)


PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
from memstream import Cache
import application
print(Cache().memoize()(application.price)(1), Cache().memoize()(application.Shop().price)(1))
"""
MODULE = """
def price(number): return number * RATE
class Shop:
    def price(self, number): return number * RATE
RATE = {}
"""


def test_modules_of_one_name_in_two_programs_do_not_share(cache: Cache, segment: Segment, tmp_path: Path) -> None:
    for rate in ("2", "3"):
        (tmp_path / rate).mkdir()
        (tmp_path / rate / "application.py").write_text(MODULE.format(rate))
        assert segment.code(PROGRAM, tmp_path / rate) == f"{rate} {rate}\n".encode()
    assert len(cache) == 4


STABLE = """
import functools, sys
sys.path.insert(0, {tests!r})
from test_memo_callables import DIFFERENT, key_of, product, scaler
for functions in DIFFERENT:
    for function in functions:
        print(key_of(function, 1), key_of(product, function))
print(key_of(scaler({{"a", "b", "c"}}), 1))
"""


def test_keys_of_callables_are_the_same_in_every_process(segment: Segment) -> None:
    answers = set()
    for seed in ("0", "1", "2"):
        segment.environment["PYTHONHASHSEED"] = seed
        answers.add(segment.code(STABLE.format(tests=str(Path(__file__).parent))))
    assert len(answers) == 1 and len(answers.pop().splitlines()) > 30
