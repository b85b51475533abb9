"""The C handle of an open cache, and how it is closed whatever happens.

A destructor is bytecode, and an exception from a signal handler (Ctrl-C, a timeout) can end it before it has done
anything. So each handle has an `end`, an iterator whose only step is the C function that closes it: a step runs no
bytecode, and there is no second one. A weak reference notes the end of a handle that is gone, also without bytecode.
The next garbage collection takes the step, should the destructor not have taken it.
"""

from __future__ import annotations

import gc
from ctypes import byref, c_void_p
from operator import attrgetter
from typing import Any, Dict, Iterator, List, Optional, Set
from weakref import ref

from memstream._core import abi
from memstream._core.library import Library

_address_of = attrgetter("value")


class _Guard(ref):  # type: ignore[type-arg]
    """A weak reference to a handle, which knows how the handle is closed."""

    __slots__ = ("end",)

    end: Iterator[Any]


# Of the handles that there are, by id; and of those that are gone, since the last garbage collection.
_guards: Dict[int, _Guard] = {}
_gone: List[_Guard] = []

# What is to be closed when the garbage collection is over that has found it.
_ends: List[Iterator[Any]] = []


class Handle(c_void_p):
    """A `memstream_t *` that is closed when nothing refers to it any more.

    Calls under way and views refer to it, so that closing a cache never takes the memory away beneath them.
    """

    def __init__(self, library: Library) -> None:
        """Prepares the end. Nothing is open yet."""
        super().__init__()
        self.library = library
        # Who has memory of this handle: ids, since references would be a circle.
        self.holders: Set[int] = set()
        self._opened = c_void_p()
        # The first pop gives the address, the second one None, which ends the iterator.
        self._end = map(library.c.memstream_close, map(_address_of, iter([None, self._opened].pop, None)))
        guard = _Guard(self, _gone.append)  # type: ignore[arg-type]
        guard.end = self._end
        _guards[id(self)] = guard
        if _on_collection not in gc.callbacks:
            gc.callbacks.append(_on_collection)

    def open(self, options: abi.Options) -> int:
        """Opens the cache. Returns the status.

        Source: memstream_open.
        """
        status: int = self.library.c.memstream_open(byref(options), byref(self._opened))
        self.value: Optional[int] = self._opened.value
        return status

    def __del__(self) -> None:
        if self.holders:
            # The garbage collector has found this handle and its views in one circle, and it finalizes them in any
            # order: until it is done, the views' finalizers and the user's own may still need the memory.
            _ends.append(self._end)
        else:
            next(self._end, None)
            _guards.pop(id(self), None)


def _on_collection(phase: str, _: Any) -> None:
    while phase == "stop" and (_gone or _ends):
        end = _gone[-1].end if _gone else _ends[-1]
        next(end, None)
        (_gone or _ends).pop()
