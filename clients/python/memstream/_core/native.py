"""Finding and loading libmemstream_python.so: native code that serves the frequent calls of a Cache.

It stands beside libcache.so, or in the package where the system's loader finds libcache.so. It is written against the
part of CPython's interface that does not change between versions, so nothing is compiled when the package is installed.
Where it cannot serve, the methods of Cache call libcache.so through ctypes.

The environment variable MEMSTREAM_PYTHON_ACCELERATOR chooses, when a cache is opened: "auto" (or nothing) accelerates
where that is possible and warns once where it should be, "require" accelerates or raises, "off" does not accelerate.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from pathlib import Path
from typing import Iterable, Optional

from memstream._core import abi
from memstream._core.abi import Status
from memstream._core.arguments import shown
from memstream._core.callers import depth_of_user
from memstream._core.errors import AcceleratorWarning, BadAccelerator, LibraryError
from memstream._core.library import SONAME, Library, same_release
from memstream._core.views import View

FILE_NAME = "libmemstream_python.so"
VARIABLE = "MEMSTREAM_PYTHON_ACCELERATOR"
_CHOICES = ("auto", "require", "off")

# Until the next release: the old name of the variable, and what its values mean.
_OLD_VARIABLE = "MEMSTREAM_PYTHON_ROAD"
_OLD_CHOICES = {"auto": "auto", "fast": "require", "plain": "off"}

# The functions of libcache.so that it calls, in the order of `memstream_python_calls_t`.
_CALLS = (
    "get",
    "set",
    "delete",
    "exists",
    "touch",
    "incr",
    "get_many",
    "set_many",
    "delete_many",
    "view",
    "release",
    "view_in_place",
)


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
        warnings.warn(text, DeprecationWarning, depth_of_user())
    value = os.environ.get(variable) or "auto"
    if value not in allowed:
        text = f"Invalid {variable} {shown(value)}: expected {_or(allowed)}. Set one of these, or unset it"
        raise BadAccelerator(Status.INVALID, text)
    return allowed[value]


def _or(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}"


def native_for(library: Library) -> Optional[ctypes.PyDLL]:
    """Returns the accelerator for a cache that is opened with this libcache.so; None if it is to use ctypes.

    Raises:
        BadAccelerator: the environment variable has an unknown value.
        LibraryError: it says "require", and calls cannot be accelerated here; the text says why.
    """
    choice = _choice()
    if choice == "off":
        return None
    try:
        return _load(library.path)
    except _Unfit as error:
        if choice == "require":
            remedy = error.remedy or f"Set {VARIABLE} to auto, or use another interpreter"
            raise LibraryError(f"MemStream cannot accelerate calls: {error}. {remedy}") from None
        if error.remedy is not None:
            _warn_once(error)
        return None


def addresses_of(library: Library) -> "ctypes.Array[ctypes.c_void_p]":
    """Returns a `memstream_python_calls_t` with the functions of this libcache.so."""
    addresses = [ctypes.cast(getattr(library.c, f"memstream_{name}"), ctypes.c_void_p) for name in _CALLS]
    return (ctypes.c_void_p * len(addresses))(*(address.value for address in addresses))


_has_warned = False


def _warn_once(error: _Unfit) -> None:
    """Warns that this interpreter could be faster, the first time that the process gets here."""
    global _has_warned
    if _has_warned:
        return
    _has_warned = True
    text = f"MemStream calls are not accelerated, and several times slower: {error}. {error.remedy}"
    warnings.warn(f"{text}. Set {VARIABLE}=off to accept this without a warning", AcceleratorWarning, depth_of_user())


# One for the whole process: it gets the functions of libcache.so with each cache.
_loaded: Optional[ctypes.PyDLL] = None


def _load(cache_path: str) -> ctypes.PyDLL:
    """Loads the library that stands beside that libcache.so, unless one is loaded, and makes its views known."""
    global _loaded
    if _loaded is not None:
        return _loaded
    reason = unfit_interpreter()
    if reason is not None:
        raise _Unfit(reason)
    path = _place(cache_path)
    try:
        native = _declare(ctypes.PyDLL(path))
    except (OSError, AttributeError) as error:
        place = f"{FILE_NAME} belongs beside {Path(cache_path).name}"
        remedy = f"Run scripts/build.sh, or install the package again: {place}"
        raise _Unfit(f"{FILE_NAME} cannot be loaded ({error})", remedy) from None
    version = native.memstream_python_version().decode()
    if not same_release(version):
        remedy = "Install the package and its libraries from one release"
        raise _Unfit(f"{path} is version {version} and the package is version {abi.VERSION}", remedy)
    if not native.memstream_python_fits(b"bytes"):
        raise _Unfit("this is a subinterpreter, or one whose objects are laid out in its own way")
    View.register(native.memstream_python_prepare())
    os.register_at_fork(after_in_child=native.memstream_python_after_fork)
    _loaded = native
    return native


def _place(cache_path: str) -> str:
    """Returns the file that belongs to that libcache.so, as the loader is asked for it."""
    if cache_path != SONAME:
        return str(Path(cache_path).with_name(FILE_NAME))
    packed = Path(__file__).resolve().parent.parent / FILE_NAME
    return str(packed) if packed.exists() else FILE_NAME


def _declare(native: ctypes.PyDLL) -> ctypes.PyDLL:
    """Gives the functions their prototypes; AttributeError if one of them is not there."""
    some = ctypes.py_object
    calls = ctypes.POINTER(ctypes.c_void_p)
    for name, result, arguments in (
        ("version", ctypes.c_char_p, ()),
        ("fits", ctypes.c_int, (some,)),
        ("prepare", some, ()),
        ("after_fork", None, ()),
        ("method", some, (some, some)),
        ("open", some, (calls, ctypes.c_void_p, some, some)),
        ("near_open", some, (ctypes.c_void_p, ctypes.c_void_p, some, some)),
        ("objects", None, (some,)),
        ("forget", None, (some,)),
        ("leave", some, (some, some)),
        ("close", None, (some,)),
    ):
        function = getattr(native, f"memstream_python_{name}")
        function.restype, function.argtypes = result, arguments
    return native


def unfit_interpreter() -> Optional[str]:
    """Returns why an interpreter like this one cannot use the accelerator; None if it can."""
    if sys.implementation.name != "cpython":
        return f"the interpreter is {sys.implementation.name}, not CPython"
    if sys.version_info < (3, 9):
        return "it needs Python 3.9 or newer"
    if "t" in getattr(sys, "abiflags", ""):
        return "this CPython has no interpreter lock (free threading)"
    if hasattr(sys, "getobjects"):
        return "this CPython traces references, which lays objects out in another way"
    return None
