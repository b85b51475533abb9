"""The accelerator: native code that serves the common calls of the methods that are called most.

When a process opens its first accelerated cache, native methods take the place of the Python functions in their
classes. Each keeps its Python function, which answers everything that is asked of the method itself, and serves
whatever is not common. For a cache that is not accelerated it serves every call.
"""

from __future__ import annotations

import ctypes
from types import FunctionType
from typing import Dict, List, Optional, Tuple

from memstream import _native
from memstream.batches import Batches
from memstream.connection import Handle
from memstream.in_place import InPlace

METHODS = ("get", "set", "delete", "exists", "touch", "incr", "view", "get_many", "set_many", "delete_many")

# What these Python functions call and native code does not: it stores and returns bytes as they are.
_HOOKS = {"set": "_pack", "set_many": "_pack", "get_many": "_unpack"}


class Accelerated(Batches, InPlace):
    """A cache whose common calls native code serves, where there is any."""

    def _accelerate(self, handle: Handle) -> None:
        native = _native.native_for(self._library)
        if native is None:
            if _in_place is not None:
                # It would find what another Cache had, should that be kept longer than the Cache itself.
                _in_place.memstream_python_forget(self)
            return
        _take_place(native)
        accelerator = native.memstream_python_open(_native.addresses_of(self._library), handle, handle, self)
        left = [name for name, hook in _HOOKS.items() if getattr(type(self), hook) is not getattr(Accelerated, hook)]
        if self._options["read_only"]:
            left.append("view")  # Its views are copies, which Python makes with the interpreter's lock free.
        for name in left:
            native.memstream_python_leave(accelerator, name)
        self._end_acceleration = native.memstream_python_close
        self._accelerator = accelerator


# The Python functions, with the classes that they are defined in and their names there: "put" is "set" once more.
_FUNCTIONS: List[Tuple[type, str, FunctionType]] = [
    (owner, name, function)
    for owner in Accelerated.__mro__
    for name, function in vars(owner).items()
    if isinstance(function, FunctionType) and function.__name__ in METHODS
]
_in_place: Optional[ctypes.PyDLL] = None


def _take_place(native: ctypes.PyDLL) -> None:
    """Puts native methods into the classes, once for each library."""
    global _in_place
    if _in_place is native:
        return
    methods: Dict[FunctionType, object] = {}
    for owner, name, function in _FUNCTIONS:
        if function not in methods:
            methods[function] = native.memstream_python_method(function, function.__name__)
        setattr(owner, name, methods[function])
    _in_place = native
