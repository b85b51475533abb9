"""The accelerator of a Cache: native code that serves the common calls of the methods that are called most.

When a process opens its first accelerated cache, native methods take the place of the functions that are marked
`@accelerated` in the class. Each keeps its Python function, which answers everything that is asked of the method
itself, and serves whatever is not common. For a cache that is not accelerated it serves every call.

This is the one place where the package replaces methods at run time, and the reason is time. A get of 100 bytes takes
67 ns on CPython 3.11. A Python method that calls a native one takes 90 ns, for the interpreter's frame; a native
function bound to each object takes 72 ns, for the interpreter's shortcut for methods does not serve those.
"""

from __future__ import annotations

import ctypes
from types import FunctionType
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar, cast

from memstream._core import native
from memstream._core.codec import Codec
from memstream._core.connection import Connection
from memstream._core.library import Library
from memstream._core.near import NearHandle

_Function = TypeVar("_Function", bound=Callable[..., Any])

# What is marked, in the order of the definitions.
_marked: List[FunctionType] = []

# The names of the marked functions, for each class that had them replaced: "put" names "set" again.
_places: Dict[type, List[Tuple[str, FunctionType]]] = {}

# The library whose methods are in the classes now.
_in_place: Optional[ctypes.PyDLL] = None


def accelerated(function: _Function) -> _Function:
    """Marks a method of Cache for which there is a native one, of the same name. Returns the function as it is."""
    _marked.append(cast(FunctionType, function))
    return function


def accelerated_names() -> List[str]:
    """Returns the names of the marked methods."""
    return [function.__name__ for function in _marked]


class Accelerator:
    """What serves the calls of one open cache natively. Native code finds it by the address of its Cache.

    Attributes:
        state: the native object.
    """

    def __init__(self, library: ctypes.PyDLL, owner: object, connection: Connection, codec: Codec) -> None:
        """Serves the calls of `owner` from now on.

        Args:
            library: libmemstream_python.so.
            owner: the Cache.
            connection: what it has opened.
            codec: what turns its values into bytes and back.
        """
        handle, addresses = connection.handle, native.addresses_of(connection.library)
        self._library = library
        self.state = library.memstream_python_open(addresses, handle, handle, owner)
        if codec.stores_objects:
            library.memstream_python_objects(self.state)
        for name in _left_to_python(connection, codec):
            library.memstream_python_leave(self.state, name)

    def end(self) -> None:
        """Leaves every call to the Python functions, which say that the cache was closed. Doing so twice is fine."""
        self._library.memstream_python_close(self.state)


def _left_to_python(connection: Connection, codec: Codec) -> List[str]:
    """Returns the methods that native code must not serve for this cache."""
    left: List[str] = []
    if codec.stores_objects:
        left.append("get_many")  # It warns of each value that cannot be decoded.
    if not codec.keeps_bytes:
        left += ["set", "set_many"]
    if connection.options.read_only:
        left.append("view")  # Its views are copies, which Python makes with the interpreter's lock free.
    return left


def attach(cache_class: type, owner: object, connection: Connection, codec: Codec) -> Optional[Accelerator]:
    """Lets native code serve the calls of a cache, where there is any and the environment allows it.

    Args:
        cache_class: the class with the marked functions.
        owner, connection, codec: as for `Accelerator`.

    Returns:
        The accelerator, to be kept for as long as the owner is there; None if the calls go through ctypes.

    Raises:
        BadAccelerator, LibraryError: as `native_for` does.
    """
    library = native.native_for(connection.library)
    if library is None:
        if _in_place is not None:
            # Otherwise a new Cache at the address of an old one would find the state of the old one.
            _in_place.memstream_python_forget(owner)
        return None
    _take_place(cache_class, library)
    return Accelerator(library, owner, connection, codec)


def _take_place(cache_class: type, library: ctypes.PyDLL) -> None:
    """Puts native methods into the class, once for each library."""
    global _in_place
    if _in_place is library:
        return
    if cache_class not in _places:
        found = [(name, value) for name, value in vars(cache_class).items() if isinstance(value, FunctionType)]
        _places[cache_class] = [(name, function) for name, function in found if function in _marked]
    methods = {function: library.memstream_python_method(function, function.__name__) for function in _marked}
    for name, function in _places[cache_class]:
        setattr(cache_class, name, methods[function])
    _in_place = library


class NearAccelerator:
    """What answers natively, of an open near cache, what the segment has."""

    def __init__(self, library: ctypes.PyDLL, owner: object, near: NearHandle) -> None:
        """Serves the method of `owner` that `serve_near` has replaced."""
        peek = ctypes.cast(near.c.peek, ctypes.c_void_p)
        self._library = library
        self.state = library.memstream_python_near_open(peek, near.pointer, near.pointer, owner)

    def end(self) -> None:
        """Leaves every call to the Python function. Doing so twice is fine."""
        self._library.memstream_python_close(self.state)


def attach_near(near_class: type, method: str, owner: object, library: Library, near: NearHandle) -> Any:
    """Lets native code serve a method of a near cache, where there is any and the environment allows it.

    Args:
        near_class: the class, of `owner` or above it, that has the method.
        method: its name. It takes a key, and what to return for a key that Redis does not have.
        owner: the near cache.
        library: libcache.so, as the cache beneath has loaded it.
        near: the open handle.

    Returns:
        The `NearAccelerator`, to be kept for as long as the owner is there; None if the calls go through ctypes.

    Raises:
        BadAccelerator, LibraryError: as `native_for` does.
    """
    native_library = native.native_for(library)
    if native_library is None:
        if _in_place is not None:
            _in_place.memstream_python_forget(owner)
        return None
    function = vars(near_class)[method]
    if isinstance(function, FunctionType):
        setattr(near_class, method, native_library.memstream_python_method(function, "near_get"))
    return NearAccelerator(native_library, owner, near)
