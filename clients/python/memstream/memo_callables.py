"""What a callable carries with it: its code and file, the variables of its closure, arguments that are bound to it.

Two callables that carry different things give different results for the same arguments, so all of it goes into the
keys.
"""

from __future__ import annotations

import functools
import os
import sys
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any, Callable, Dict, Iterator, NamedTuple, Tuple

# Of the function that `memoize` makes: the KeyMaker of the function within.
MEMOIZED = "__memstream_keys__"

_EMPTY_CELL = "an empty cell"


class Unfolded(NamedTuple):
    """A function, and what is passed to it before the caller's own arguments."""

    function: Callable[..., Any]
    arguments: Tuple[Any, ...]
    options: Dict[str, Any]


def unfold(function: Callable[..., Any]) -> Unfolded:
    """Takes partials, bound methods and objects with `__call__` apart, down to a function without bound arguments."""
    arguments: Tuple[Any, ...] = ()
    options: Dict[str, Any] = {}
    while True:
        if isinstance(function, functools.partial):
            arguments = function.args + arguments
            options = {**function.keywords, **options}
            function = function.func
        elif isinstance(function, MethodType):
            arguments = (function.__self__, *arguments)
            function = function.__func__
        elif has_python_call(function):
            arguments = (function, *arguments)
            function = type(function).__call__
        else:
            return Unfolded(function, arguments, options)


def has_python_call(value: object) -> bool:
    """Returns whether this is an object with a `__call__` of its class."""
    return not isinstance(value, type) and isinstance(getattr(type(value), "__call__", None), FunctionType)


def closure_of(function: Callable[..., Any]) -> Iterator[Tuple[str, Any]]:
    """Gives the variables of a function's closure, each with its cell."""
    if isinstance(function, FunctionType):
        yield from zip(function.__code__.co_freevars, function.__closure__ or ())


def held_by(cell: Any) -> Any:
    """Returns what a variable of a closure holds now."""
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY_CELL


def receiver_of(function: BuiltinFunctionType) -> Any:
    """Returns the object that a built-in method is bound to; None for a function of a module."""
    receiver = function.__self__
    return None if receiver is None or hasattr(receiver, "__spec__") else receiver


def function_name(function: Any) -> str:
    """Returns a name that is the same in every process: module and qualified name.

    The module that a program was started with is always called `__main__`, so its file stands for it.
    """
    module = getattr(function, "__module__", None) or ""
    if module in ("__main__", "__mp_main__"):
        main = sys.modules.get(module)
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None and spec.name not in ("__main__", "__mp_main__"):
            module = spec.name
        elif file and os.path.exists(file):
            module = os.path.realpath(file)
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def file_of(value: Any) -> str:
    """Returns the file of a function or class; nothing for what was typed in or made by a program."""
    code = getattr(value, "__code__", None)
    if isinstance(code, CodeType):
        return _existing(code.co_filename)
    return _existing(getattr(sys.modules.get(getattr(value, "__module__", "")), "__file__", None) or "")


@functools.lru_cache(maxsize=1024)
def _existing(file: str) -> str:
    return os.path.realpath(file) if os.path.exists(file) else ""


def code_parts(code: CodeType) -> Tuple[Any, ...]:
    """Returns what a function does, without where it stands: a comment above it changes nothing."""
    return (
        code.co_code,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        getattr(code, "co_exceptiontable", b""),
    )


def parts_of_class(cls: type) -> Dict[str, Any]:
    """Returns what a class is made of, if it has no name by which it could be found."""
    own = {name: value for name, value in vars(cls).items() if name not in _NOT_OWN}
    for name, value in own.items():
        if isinstance(value, (staticmethod, classmethod)):
            own[name] = (type(value).__name__, value.__func__)
        elif isinstance(value, property):
            own[name] = ("property", value.fget, value.fset, value.fdel)
    return {**own, "bases": cls.__bases__}


_NOT_OWN = ("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__abstractmethods__", "_abc_impl")
