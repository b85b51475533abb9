"""The fast road: the functions that are called most, as built-in functions instead of through ctypes.

libmemstream_python.so stands beside libcache.so. It is written against the part of CPython's interface that does not
change between versions, so that nothing is compiled when the package is installed. Where it cannot serve, the plain
road does, which is the Python code of this package; both do the same.

The environment variable MEMSTREAM_PYTHON_ACCELERATOR chooses, when a cache is opened: "auto" (or nothing) accelerates
where that is possible and warns once where it should be, "require" accelerates or raises, "off" does not accelerate.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Optional

from memstream import _abi
from memstream._abi import Status
from memstream._library import SONAME, Library, same_release
from memstream.errors import BadAccelerator, LibraryError
from memstream.views import View

FILE_NAME = "libmemstream_python.so"
VARIABLE = "MEMSTREAM_PYTHON_ACCELERATOR"
_CHOICES = ("auto", "require", "off")

# Until the next release: the old name of the variable, and what its values mean.
_OLD_VARIABLE = "MEMSTREAM_PYTHON_ROAD"
_OLD_CHOICES = {"auto": "auto", "fast": "require", "plain": "off"}

# In the order of `memstream_python_calls_t`.
_CALLS = ("get", "set", "delete", "exists", "touch", "incr", "get_many", "set_many", "delete_many", "view", "release")
# The methods that the library has; also "close", which is none.
METHODS = (*(name for name in _CALLS if name != "release"), "put")

Functions = Dict[str, Callable[..., Any]]


class AcceleratorWarning(RuntimeWarning):
    """Calls are slower than they could be in this interpreter."""


class _Unfit(Exception):
    """Why calls cannot be accelerated.

    Attributes:
        remedy: what the user can do; None if nothing helps in this interpreter.
    """

    def __init__(self, reason: str, remedy: Optional[str] = None) -> None:
        super().__init__(reason)
        self.remedy = remedy


def _choice() -> str:
    """Returns what the environment asks for: one of _CHOICES."""
    variable, allowed = VARIABLE, {choice: choice for choice in _CHOICES}
    if not os.environ.get(VARIABLE) and os.environ.get(_OLD_VARIABLE):
        variable, allowed = _OLD_VARIABLE, _OLD_CHOICES
        text = f"{_OLD_VARIABLE} is deprecated: set {VARIABLE} to {_or(_CHOICES)}"
        warnings.warn(text, DeprecationWarning, _depth_of_user())
    value = os.environ.get(variable) or "auto"
    if value not in allowed:
        text = f"Invalid {variable} {value!r}: expected {_or(allowed)}. Set one of these, or unset it"
        raise BadAccelerator(Status.INVALID, text)
    return allowed[value]


def _or(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}"


def functions_for(library: Library, handle: Any, plain: Any) -> Optional[Functions]:
    """Makes the built-in functions for an open cache.

    Args:
        library: the libcache.so that opened it.
        handle: what keeps the cache open; the functions refer to it until "close" of them is called.
        plain: an object with the methods of the same names, for what the fast road leaves to the plain one. Its
            `_handle` becomes None by "close".

    Returns:
        The functions by name; None if the plain road is to be taken.

    Raises:
        BadAccelerator: the environment variable has an unknown value.
        LibraryError: it says "require", and calls cannot be accelerated here; the text says why.
    """
    choice = _choice()
    if choice == "off":
        return None
    try:
        native = _load(library.path)
    except _Unfit as error:
        if choice == "require":
            remedy = error.remedy or f"Set {VARIABLE} to auto, or use another interpreter"
            raise LibraryError(f"MemStream cannot accelerate calls: {error}. {remedy}") from None
        if error.remedy is not None:
            _warn_once(error)
        return None
    addresses = [ctypes.cast(getattr(library.c, f"memstream_{name}"), ctypes.c_void_p) for name in _CALLS]
    calls = (ctypes.c_void_p * len(addresses))(*(address.value for address in addresses))
    functions: Functions = native.memstream_python_bind(calls, handle, handle, plain)
    return functions


_has_warned = False


def _warn_once(error: _Unfit) -> None:
    """Warns that this interpreter could be faster, the first time that the process gets here."""
    global _has_warned
    if _has_warned:
        return
    _has_warned = True
    text = f"MemStream calls are not accelerated, and several times slower: {error}. {error.remedy}"
    warnings.warn(f"{text}. Set {VARIABLE}=off to accept this without a warning", AcceleratorWarning, _depth_of_user())


def _depth_of_user() -> int:
    """Returns how far above the caller the code of the user is, for warnings.warn."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "memstream":
        depth, frame = depth + 1, frame.f_back
    return depth


@lru_cache(maxsize=None)
def _load(cache_path: str) -> ctypes.PyDLL:
    """Loads the library that stands beside that libcache.so, and makes its views known."""
    reason = unfit_interpreter()
    if reason is not None:
        raise _Unfit(reason)
    path = FILE_NAME if cache_path == SONAME else str(Path(cache_path).with_name(FILE_NAME))
    try:
        native = ctypes.PyDLL(path)
        native.memstream_python_version.restype = ctypes.c_char_p
        native.memstream_python_fits.argtypes = (ctypes.py_object,)
        native.memstream_python_bind.argtypes = (
            ctypes.POINTER(ctypes.c_void_p),
            ctypes.c_void_p,
            ctypes.py_object,
            ctypes.py_object,
        )
        native.memstream_python_bind.restype = ctypes.py_object
        native.memstream_python_view_type.restype = ctypes.py_object
        native.memstream_python_after_fork.restype = None
    except (OSError, AttributeError) as error:
        remedy = f"Run scripts/build.sh, and keep {FILE_NAME} beside {Path(cache_path).name}"
        raise _Unfit(f"{path} cannot be loaded: {error}", remedy) from None
    version = native.memstream_python_version().decode()
    if not same_release(version):
        remedy = "Install the package and its libraries from one release"
        raise _Unfit(f"{path} is version {version} and the package is version {_abi.VERSION}", remedy)
    if not native.memstream_python_fits(b"bytes"):
        raise _Unfit("this is a subinterpreter, or one whose objects are laid out in its own way")
    View.register(native.memstream_python_view_type())
    os.register_at_fork(after_in_child=native.memstream_python_after_fork)
    return native


def unfit_interpreter() -> Optional[str]:
    """Returns why an interpreter like this one cannot take the fast road; None if it can."""
    if sys.implementation.name != "cpython":
        return f"the interpreter is {sys.implementation.name}, not CPython"
    if sys.version_info < (3, 9):
        return "it needs Python 3.9 or newer"
    if "t" in getattr(sys, "abiflags", ""):
        return "this CPython has no interpreter lock (free threading)"
    if hasattr(sys, "getobjects"):
        return "this CPython traces references, which lays objects out in another way"
    return None
