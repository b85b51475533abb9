"""The fast road: the functions that are called most, as built-in functions instead of through ctypes.

libmemstream_python.so stands beside libcache.so. It is written against the part of CPython's interface that does not
change between versions, so that nothing is compiled when the package is installed. Where it cannot serve, the plain
road does, which is the Python code of this package; both do the same.

The environment variable MEMSTREAM_PYTHON_ROAD chooses, when a cache is opened: "auto" (or nothing) the fast road where
there is one, "fast" that or an error, "plain" never.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from memstream import _abi
from memstream._abi import Status
from memstream._library import SONAME, Library
from memstream.errors import BadRoad, LibraryError
from memstream.views import View

FILE_NAME = "libmemstream_python.so"
VARIABLE = "MEMSTREAM_PYTHON_ROAD"

# In the order of `memstream_python_calls_t`.
_CALLS = ("get", "set", "delete", "exists", "touch", "incr", "get_many", "set_many", "delete_many", "view", "release")
# The methods that the library has; also "close", which is none.
METHODS = (*(name for name in _CALLS if name != "release"), "put")

Functions = Dict[str, Callable[..., Any]]


class _Unfit(Exception):
    """Why the fast road cannot serve."""


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
        BadRoad: the environment variable has an unknown value.
        LibraryError: it says "fast", and there is no fast road here; the text says why.
    """
    choice = os.environ.get(VARIABLE) or "auto"
    if choice not in ("auto", "fast", "plain"):
        raise BadRoad(Status.INVALID, f"{VARIABLE} is {choice!r}: give auto, fast or plain")
    if choice == "plain":
        return None
    try:
        native = _load(library.path)
    except _Unfit as error:
        if choice == "fast":
            raise LibraryError(f"{VARIABLE} is fast, and there is no fast road here: {error}") from None
        return None
    addresses = [ctypes.cast(getattr(library.c, f"memstream_{name}"), ctypes.c_void_p) for name in _CALLS]
    calls = (ctypes.c_void_p * len(addresses))(*(address.value for address in addresses))
    functions: Functions = native.memstream_python_bind(calls, handle, handle, plain)
    return functions


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
        raise _Unfit(f"{path} cannot be loaded: {error}") from None
    version = native.memstream_python_version().decode()
    if version != _abi.VERSION:
        raise _Unfit(f"{path} is of version {version}, and the package of version {_abi.VERSION}")
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
