"""Which road the calls of a cache take: the methods of the package, or built-in functions in their place."""

from __future__ import annotations

from typing import Optional

from memstream import _fast
from memstream.batches import Batches
from memstream.connection import Handle
from memstream.in_place import InPlace

# What the methods of the package call and the fast road does not: bytes are stored and returned as they are.
_HOOKS = {"set": ("_pack",), "put": ("_pack",), "set_many": ("_pack",), "get_many": ("_unpack",)}


class _Plain(Batches, InPlace):
    """The plain road for a fast one to turn to: the methods, and the same handle.

    It is not the Cache itself: that would refer to itself by way of its functions, and close only when the garbage is
    collected.
    """

    def __init__(self, cache: "Roads", handle: Handle) -> None:
        self._library = cache._library
        self._raw_get, self._raw_set = self._library.raw_get, self._library.raw_set
        self._handle: Optional[Handle] = handle


class Roads(Batches, InPlace):
    """The calls of a cache, on the fast road where there is one."""

    def _take_road(self, handle: Handle) -> None:
        functions = _fast.functions_for(self._library, handle, _Plain(self, handle))
        if functions is None:
            return
        self._close_road = functions["close"]
        if self._options["read_only"]:
            # Its views are copies, which the plain road makes with the interpreter's lock free.
            del functions["view"]
        # What a subclass has redefined stays redefined.
        for name in functions.keys() & _fast.METHODS:
            if all(getattr(type(self), each) is getattr(Roads, each) for each in (name, *_HOOKS.get(name, ()))):
                setattr(self, name, functions[name])

    def _leave_road(self) -> None:
        if self._close_road is not None:
            self._close_road()
