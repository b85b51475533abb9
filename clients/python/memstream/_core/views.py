"""Reading and writing in place: memoryviews of the segment's own bytes.

A memoryview can have children that Python does not tell it of: slices, numpy arrays. The bytes must stay where they are
until the last of them is gone, so the library is told from the destructor of the object that they all keep alive.
"""

from __future__ import annotations

import ctypes
import os
import sys
from abc import ABCMeta
from contextlib import suppress
from ctypes import byref, c_int
from types import TracebackType
from typing import Any, Callable, Dict, Optional, Type
from weakref import ref

from memstream._core.abi import Status
from memstream._core.errors import BadHandle
from memstream._core.handle import Handle
from memstream._core.naming import present_as
from memstream._core.ownership import Owned, drop_guard


class _Window(ctypes.Array):  # type: ignore[type-arg]
    """Memory at an address, as something that exports a buffer. Lives as long as any memoryview of it.

    One type for all sizes, because ctypes makes a class for each length: the memoryview is cut to size instead.
    """

    _type_ = ctypes.c_ubyte
    _length_ = sys.maxsize

    pin: "Pin"


# The memoryviews that this process has made and not dropped, by the id of their pins: a forked child lets go of them.
_live: Dict[int, "ref[memoryview]"] = {}


class Pin(Owned):
    """A block that the library keeps for this process, until nothing refers to the pin any more.

    The window refers to it; so does a reservation, which has to outlive its window to be committed.
    """

    def __init__(self, handle: Handle, give_back: Callable[..., int], raw: Any) -> None:
        self.raw = raw
        self.handle = handle  # Keeps the segment mapped.
        super().__init__(give_back, handle, byref(raw))
        handle.holders.add(id(self))

    def is_in_place(self) -> bool:
        """Whether the block is the segment's own and not a copy. Source: memstream_view_in_place."""
        in_place = c_int()
        library = self.handle.library
        library.check(library.c.memstream_view_in_place(self.handle, byref(self.raw), byref(in_place)))
        return bool(in_place.value)

    def __del__(self) -> None:
        if self.raw.token:
            super().__del__()
        else:  # The library gave nothing, or has it back.
            drop_guard(self)
        _live.pop(id(self), None)
        self.handle.holders.discard(id(self))


class _InPlace:
    """A context manager over one block: the common part of views and reservations."""

    def __init__(self, pin: Pin, is_writable: bool) -> None:
        window = _Window.from_address(pin.raw.data or 0)
        window.pin = pin
        self._window = ref(window)
        memory = memoryview(window).cast("B")[: pin.raw.size]
        self._memory = memory if is_writable else memory.toreadonly()
        _live[id(pin)] = ref(self._memory)

    @property
    def memory(self) -> memoryview:
        """The bytes, in place. Using it after the end raises ValueError."""
        return self._memory

    def __enter__(self) -> memoryview:
        return self._memory

    def _release_memory(self) -> None:
        """Ends the memoryview.

        Raises:
            BufferError: slices or arrays made of it are still in use.
        """
        self._memory.release()  # Raises BufferError by itself for what exports it, such as a numpy array.
        window = self._window()
        if window is not None and window.pin.is_ours:
            raise BufferError("a slice of this memoryview is still in use: release or delete it first")


class View(_InPlace, metaclass=ABCMeta):
    """The value of one entry, in place in the segment: nothing is copied.

    The bytes stay as they are, through replace, delete and eviction by anyone, until the view ends. Made by
    `Cache.view`; belongs to the process that made it. In a forked child its memoryview is released; slices and arrays
    of it that were made before the fork are not protected there, and the child must not read them.

    An accelerated view is of a type of its own, which has the same attributes, all of them read-only, and is a
    View to `isinstance`.

    Attributes:
        token: for `Cache.cas`.
        flags: the caller's 32 bits.
        in_place: whether the bytes are those in the segment. False: the library has copied them, because the cache is
            open for reading only, or has no place for one more view; `Stats.view_copies` counts the latter.
        created_at: when the value was stored, Unix time in seconds.
        expires_at: the same; None: never.
    """

    def __init__(self, pin: Pin) -> None:
        meta = pin.raw.meta
        self.in_place: bool = pin.is_in_place()
        self.token: int = meta.cas
        self.flags: int = meta.flags
        self.created_at: float = meta.created_at_ms / 1000
        self.expires_at: Optional[float] = meta.expires_at_ms / 1000 if meta.expires_at_ms else None
        super().__init__(pin, is_writable=False)

    def release(self) -> None:
        """Ends the view. Ending it twice is fine.

        Raises:
            BufferError: a slice or an array of it is still in use. The bytes stay where they are until that is gone;
                the view ends then by itself.

        Source: memstream_release.
        """
        self._release_memory()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        # The frames of an exception that is on its way may hold slices; it is worth more than ours.
        try:
            self.release()
        except BufferError:
            if error is None:
                raise


class Reservation(_InPlace):
    """Room for a value in the segment, to be filled in place. No reader sees it before the commit.

    Made by `Cache.reserve`; belongs to the process that made it. The end of the with block commits; an exception
    aborts.
    """

    def __init__(
        self, pin: Pin, commit: Callable[..., int], check: Callable[[int], None], ttl_ms: int, flags: int
    ) -> None:
        self._commit = commit
        self._check = check
        self._ttl_ms = ttl_ms
        self._flags = flags
        self._pin: Optional[Pin] = pin  # None: committed, or given back with the last slice of the room.
        super().__init__(pin, is_writable=True)

    def commit(self) -> None:
        """Makes the filled room the value of its key.

        Raises:
            BufferError: a slice or an array of the room is still in use, through which a committed value could change.
                Nothing is stored; the room is given back when that is gone.
            BadHandle: it was committed or aborted before, or by the parent of this process.
            UnavailableError: busy, destroyed, or no memory. Nothing is stored.

        Source: memstream_commit.
        """
        pin = self._pin
        if pin is None or not pin.is_ours:
            raise BadHandle(Status.BAD_HANDLE, "this reservation was committed or aborted, or is of the parent process")
        try:
            self._release_memory()
            self._check(self._commit(pin.handle, byref(pin.raw), self._ttl_ms, self._flags))
        except BufferError:
            raise  # The slice keeps the room until it is gone.
        except BaseException:
            pin.give_back(None)
            raise
        finally:
            self._pin = None

    def abort(self) -> None:
        """Gives the room back, immediately or when its last slice is gone. Nothing is stored.

        Source: memstream_abort.
        """
        self._pin = None
        with suppress(BufferError):
            self._release_memory()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if error is not None:
            self.abort()
        elif self._pin is not None:
            self.commit()


def _let_go_in_child() -> None:
    """Makes the parent's memoryviews raise in a forked child, where nothing keeps their bytes in place."""
    for reference in list(_live.values()):
        memory = reference()
        if memory is not None:
            with suppress(BufferError):
                memory.release()


os.register_at_fork(after_in_child=_let_go_in_child)

present_as("memstream.views", View, Reservation)
