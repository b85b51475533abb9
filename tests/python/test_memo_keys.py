"""Keys of calls: equal for equal arguments, in every process and run."""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import pickle
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, List, Tuple

import pytest
from conftest import Segment

from memstream.memo_callables import function_name
from memstream.memo_keys import KeyMaker


class Colour(enum.Enum):
    RED = 1


class Point:
    def __init__(self, x: int) -> None:
        self.x, self.names = x, {"a", "b", "c"}


def target(*values: Any, **options: Any) -> None:
    pass


DISTINCT: List[Any] = [
    None,
    0,
    1,
    -1,
    2**70,
    1.5,
    float("inf"),
    1j,
    "",
    "1",
    "a",
    b"a",
    bytearray(b"a"),
    (),
    (1,),
    [1],
    [[1], 2],
    [1, [2]],
    ("a", "b"),
    ("ab", ""),
    {},
    {"a": 1},
    {"a": 2},
    {1: "a"},
    set(),
    {1},
    {1, 2},
    ...,
    Colour.RED,
    Point(1),
    Point(2),
    Point,
    len,
    os,
    datetime.datetime(2024, 1, 1),
    datetime.date(2024, 1, 1),
    decimal.Decimal("1.5"),
    Path("/a"),
    range(3),
    OrderedDict(a=1, b=2),
    OrderedDict(b=2, a=1),
    "é",
    "\ud800",
]


def test_different_arguments_have_different_keys() -> None:
    keys = [KeyMaker(target).key_of((value,), {}) for value in DISTINCT]
    assert len(set(keys)) == len(DISTINCT)
    assert KeyMaker(target).key_of((), {"a": 1}) not in keys


def test_equal_arguments_have_equal_keys() -> None:
    key_of = KeyMaker(target).key_of
    pairs: List[Tuple[Any, Any]] = [
        (1, 1.0),
        (1, True),
        (2, 2 + 0j),
        (0, -0.0),
        ([1, (2.0,)], [1.0, (2,)]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2, 3}, frozenset([3, 2, 1])),
        (Point(1), Point(1)),
    ]
    for one, other in pairs:
        assert key_of((one,), {}) == key_of((other,), {})
    typed = KeyMaker(target, typed=True).key_of
    for one, other in pairs[:3]:
        assert typed((one,), {}) != typed((other,), {})


def test_what_has_no_stable_key_is_refused_with_a_remedy() -> None:
    circle: List[Any] = []
    circle.append(circle)
    for value in (threading.Lock(), circle, memoryview(b"a")):
        with pytest.raises(TypeError, match="give key= or ignore="):
            KeyMaker(target).key_of((value,), {})


def test_keys_are_the_same_in_every_process(segment: Segment) -> None:
    code = (
        "import pathlib, decimal; from memstream.memo_keys import KeyMaker\n"
        "key_of = KeyMaker(pathlib.Path).key_of\n"
        "print(key_of(({'x', 'y', 'z'}, {'b': 1, 'a': decimal.Decimal(1)}, 'text', pathlib.Path('/a')), {}))"
    )
    keys = set()
    for seed in ("0", "1", "2"):
        segment.environment["PYTHONHASHSEED"] = seed
        keys.add(segment.code(code))
    assert len(keys) == 1


def test_arguments_count_however_they_are_passed() -> None:
    def function(a: int, b: int = 2, *, c: int = 3) -> None:
        pass

    key_of = KeyMaker(function).key_of
    calls: List[Tuple[Any, Any]] = [((1,), {}), ((1, 2), {}), ((), {"a": 1, "c": 3}), ((1,), {"b": 2})]
    assert len({key_of(arguments, options) for arguments, options in calls}) == 1
    wrong: List[Tuple[Any, Any]] = [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"z": 1})]
    for arguments, options in wrong:
        with pytest.raises(TypeError):
            key_of(arguments, options)
    ignoring = KeyMaker(function, ignore=("b", "c")).key_of
    assert ignoring((1, 5), {"c": 6}) == ignoring((1,), {}) != ignoring((2,), {})
    assert KeyMaker(target, ignore="options").key_of((1,), {"a": 1}) == KeyMaker(target, ignore="options").key_of(
        (1,), {}
    )
    own = KeyMaker(function, key=lambda a, **options: a % 2).key_of
    assert own((1,), {}) == own((3,), {"c": 9}) != own((2,), {})
    assert KeyMaker(print).key_of((1,), {}) != KeyMaker(print).key_of((2,), {})
    assert KeyMaker(dict.fromkeys).key_of(("ab",), {}) == KeyMaker(dict.fromkeys).key_of(("ab",), {})


def test_a_function_of_the_main_program_is_known_by_its_file(segment: Segment, tmp_path: Path) -> None:
    code = "from memstream.memo_callables import function_name\ndef f(): pass\nprint(function_name(f))"
    script = tmp_path / "script.py"
    script.write_text(code)
    assert segment.run(str(script)).stdout.decode() == f"{script.resolve()}.f\n"
    assert segment.run("-m", "script", cwd=tmp_path).stdout == b"script.f\n"
    assert segment.code(code) == b"__main__.f\n"
    assert function_name(target) == "test_memo_keys.target"


def test_a_very_long_name_still_makes_a_key() -> None:
    def function() -> None:
        pass

    function.__qualname__ = "f" * 5000
    other: Any = pickle.loads  # Anything with another name.
    key = KeyMaker(function).key_of((), {})
    assert len(key) <= 1024 and key != KeyMaker(other).key_of((b"",), {})


class Watched:
    """Calls a function whenever it is written out for a key."""

    written: Callable[[], None] = staticmethod(lambda: None)

    def __reduce__(self) -> Tuple[Any, ...]:
        Watched.written()
        return (Watched, ())


def test_a_thread_gets_no_old_key_while_another_one_follows_a_change_of_the_closure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rate: Any = 1

    def price(amount: int) -> Any:
        return amount, rate

    keys = KeyMaker(price)
    old = keys.key_of((1,), {})
    seen: List[bytes] = []

    def ask_in_a_thread() -> None:
        monkeypatch.undo()
        thread = threading.Thread(target=lambda: seen.append(keys.key_of((1,), {})))
        thread.start()
        thread.join()

    monkeypatch.setattr(Watched, "written", staticmethod(ask_in_a_thread))
    rate = Watched()
    new = keys.key_of((1,), {})
    assert new != old and seen == [new]


def test_a_closure_that_has_no_key_any_more_is_refused_each_time() -> None:
    rate: Any = 1

    def price(amount: int) -> Any:
        return amount, rate

    keys = KeyMaker(price)
    old = keys.key_of((1,), {})
    rate = threading.Lock()
    for _ in range(2):
        with pytest.raises(TypeError, match="'rate' in the closure of .*price"):
            keys.key_of((1,), {})
    rate = 1
    assert keys.key_of((1,), {}) == old
