"""Finding and loading libcache.so.

Looked for in this order: the argument, the environment variable MEMSTREAM_LIBRARY, the directory of this package,
build/ of the source tree that the package lies in, the system's own loader (LD_LIBRARY_PATH, ldconfig). The import
makes a relative path in MEMSTREAM_LIBRARY absolute.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Optional

from memstream._core import abi
from memstream._core.arguments import shown
from memstream._core.errors import LibraryError, error_of

FILE_NAME = "libcache.so"
SONAME = "libcache.so.1"
VARIABLE = "MEMSTREAM_LIBRARY"

_MOST_SHOWN = 1000

_ENDS = (
    "memstream_release",
    "memstream_abort",
    "memstream_lease_release",
    "memstream_semaphore_release",
    "memstream_watch_end",
)


class Library:
    """libcache.so with typed functions, and two of them once more without types.

    Attributes:
        c: the loaded library; its functions have the prototypes of `abi.PROTOTYPES`.
        path: what was loaded, as the loader was asked for it.
        version: what the library says it is, "MAJOR.MINOR.PATCH".
        raw_get: `memstream_get` without prototype, for the one caller that passes ready-made ctypes objects.
        raw_set, raw_view: the same.
        ends: the functions that give something back, by name, each with one more argument that counts for nothing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.c = _load(path)
        self.version = _version_of(path, self.c)
        try:
            abi.declare(self.c)
        except AttributeError as error:
            raise LibraryError(
                f"{path} is version {self.version} and lacks a function that the package, version {abi.VERSION}, "
                f"calls: {error}. Install the package and the library from one release"
            ) from None
        # ctypes spends 40 to 60 ns on every argument that it converts by a prototype, and none on objects that are of
        # their C type already. Indexing a library makes a function object of its own, apart from the typed one.
        self.raw_get: Any = self.c["memstream_get"]
        self.raw_set: Any = self.c["memstream_set"]
        self.raw_view: Any = self.c["memstream_view"]
        self.ends: Dict[str, Any] = {name: _taking_one_more(self.c, name) for name in _ENDS}

    def last_error(self) -> str:
        """Returns what the calling thread's last failing call said.

        Source: cache_last_error.
        """
        return _text(self.c.cache_last_error())

    def check(self, status: int) -> None:
        """Raises the exception of a status other than 0, with the message of the call that has just failed.

        Args:
            status: what a function returned, in this thread, as the last call into the library.

        Source: cache_last_error, cache_strerror.
        """
        if status != abi.Status.OK:
            # Expected outcomes (above 0) leave no message behind: the last one would belong to an older failure.
            message = self.last_error() if status < 0 else ""
            raise error_of(status, message or _text(self.c.cache_strerror(status)))


def _taking_one_more(library: ctypes.CDLL, name: str) -> Any:
    """Returns a function that a weak reference can call: it passes itself, behind what the function looks at."""
    function = library[name]
    function.restype, arguments = abi.PROTOTYPES[name]
    function.argtypes = (*arguments, ctypes.py_object)
    return function


def load(path: Optional[str] = None) -> Library:
    """Finds and loads libcache.so, once per file and process.

    Args:
        path: the file, or a name for the system's loader; None looks in the places that the module describes.

    Returns:
        The library, shared by all callers that ask for the same file. Safe from any thread; a forked child keeps it.

    Raises:
        LibraryError: nothing was found, or it cannot be loaded, or its version does not fit.
    """
    return _load_once(_find(path))


@lru_cache(maxsize=None)
def _load_once(path: str) -> Library:
    return Library(path)


def _absolute(path: str) -> str:
    """Returns a file's path from the root. A name without a slash is one for the system's loader, and stays."""
    return os.path.abspath(path) if os.sep in path else path


# A process may change its directory after it has imported the package, and so may the processes that it starts.
if os.environ.get(VARIABLE):
    os.environ[VARIABLE] = _absolute(os.environ[VARIABLE])


def _shown_path(path: str) -> str:
    """Returns a path for a message: as it is, if it is printable and not too long."""
    return path if path.isprintable() and len(path) <= _MOST_SHOWN else shown(path)


def _find(path: Optional[str]) -> str:
    """Picks what to load: a place that is named must be right; the others are tried."""
    chosen = path or os.environ.get(VARIABLE)
    if chosen:
        return _absolute(os.fspath(chosen))
    package = Path(__file__).resolve().parent.parent
    places = [package]
    if package.parts[-3:] == ("clients", "python", "memstream"):
        places.append(package.parents[2] / "build")
    return next((str(place / FILE_NAME) for place in places if (place / FILE_NAME).exists()), SONAME)


def _load(path: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        if path == SONAME:
            remedy = (
                f"Name the file in MEMSTREAM_LIBRARY, or put it beside the package in {Path(__file__).parent.parent}"
            )
        else:
            chosen = os.environ.get(VARIABLE)
            remedy = (
                f"Set {VARIABLE} to the {FILE_NAME} that was built for this machine"
                if chosen and _absolute(chosen) == path
                else f"Is this the {FILE_NAME} that was built for this machine?"
            )
        # The loader's text repeats the path as it is.
        name = _shown_path(path)
        raise LibraryError(f"cannot load {name}: {str(error).replace(path, name)}. {remedy}") from None


def same_release(version: str) -> bool:
    """Returns whether what has that version goes with this package: MAJOR and MINOR are the same, PATCH is free."""
    return version.split(".")[:2] == abi.VERSION.split(".")[:2]


def _version_of(path: str, library: ctypes.CDLL) -> str:
    """Returns the version of a library that goes with this package.

    Looked at before anything else: a library of another version may lack functions, or take other arguments.
    """
    try:
        library.cache_version.restype = ctypes.c_char_p
    except AttributeError as error:
        raise LibraryError(f"{path} is not a libcache.so, or one of before version 0.1: {error}") from None
    version: str = (library.cache_version() or b"").decode("utf-8", "replace")
    if not same_release(version):
        raise LibraryError(
            f"{path} is version {version} and the package is version {abi.VERSION}: "
            "install the package and the library from one release"
        )
    return version


def _text(text: bytes) -> str:
    return text.decode("utf-8", "replace")
