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
from ctypes import byref
from types import TracebackType
from typing import Any, Callable, Dict, Optional, Type
from weakref import ref

from memstream._abi import Status
from memstream.connection import Handle
from memstream.errors import BadHandle


class _Window(ctypes.Array):  # type: ignore[type-arg]
    """Memory at an address, as something that exports a buffer. Lives as long as any memoryview of it.

    One type for all sizes, because ctypes makes a class for each length: the memoryview is cut to size instead.
    """

    _type_ = ctypes.c_ubyte
    _length_ = sys.maxsize

    pin: "Pin"

    def __del__(self) -> None:
        self.pin.unmap()


# The memoryviews that this process has made and not dropped, by the id of their pins: a forked child lets go of them.
_live: Dict[int, "ref[memoryview]"] = {}

# Asking the system costs as much as pinning does.
_pid = os.getpid()


def _map(pin: "Pin") -> memoryview:
    """Returns a writable memoryview of a block; the pin is told when nothing refers to it any more."""
    window = _Window.from_address(pin.raw.data or 0)
    window.pin = pin
    return memoryview(window).cast("B")[: pin.raw.size]


class Pin:
    """A block that the library keeps for this process, and how that ends."""

    def __init__(self, handle: Handle, end: Callable[..., int], raw: Any) -> None:
        self.raw = raw
        self.handle = handle  # Keeps the segment mapped.
        self.is_mapped = True
        self.ends_when_unmapped = True
        self._end = end
        self._pid = _pid
        handle.holders.add(id(self))

    @property
    def is_ours(self) -> bool:
        """False in a forked child: the block belongs to the parent, and only the parent may end it."""
        return self._pid == _pid

    def unmap(self) -> None:
        """Notes that nothing in this process refers to the block any more."""
        self.is_mapped = False
        if self.ends_when_unmapped:
            self.end()
        _live.pop(id(self), None)
        self.handle.holders.discard(id(self))

    def end(self) -> None:
        """Gives the block back."""
        if self._pid == _pid:
            self.handle.end(self._end, self.raw)


class _InPlace:
    """A context manager over one block: what views and reservations have in common."""

    def __init__(self, pin: Pin, memory: memoryview) -> None:
        self._pin = pin
        self._memory = memory
        _live[id(pin)] = ref(memory)

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
        pin = self._pin
        if pin.is_mapped and pin.is_ours:
            raise BufferError("a slice of this memoryview is still in use: release or delete it first")


class View(_InPlace, metaclass=ABCMeta):
    """The value of one entry where it stands in the segment: nothing is copied.

    The bytes stay as they are, through replace, delete and eviction by anyone, until the view ends. Made by
    `Cache.view`; belongs to the process that made it. In a forked child its memoryview is released; slices and arrays
    of it that were made before the fork are not protected there, and the child must not read them.

    An accelerated view is of a type of its own, which has the same attributes, all of them read-only, and is a
    View to `isinstance`.

    Attributes:
        token: for `Cache.cas`.
        flags: the caller's 32 bits.
        created_at: when the value was stored, Unix time in seconds.
        expires_at: the same; None: never.
    """

    def __init__(self, pin: Pin) -> None:
        meta = pin.raw.meta
        self.token: int = meta.cas
        self.flags: int = meta.flags
        self.created_at: float = meta.created_at_ms / 1000
        self.expires_at: Optional[float] = meta.expires_at_ms / 1000 if meta.expires_at_ms else None
        super().__init__(pin, _map(pin).toreadonly())

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
    """Room for a value in the segment, to be filled in place. Nobody sees it before the commit.

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
        self._is_open = True
        super().__init__(pin, _map(pin))

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
        if not self._is_open or not pin.is_ours:
            raise BadHandle(Status.BAD_HANDLE, "this reservation was committed or aborted, or is of the parent process")
        pin.ends_when_unmapped = False
        try:
            self._release_memory()
        except BufferError:
            pin.ends_when_unmapped = True
            raise
        self._is_open = False
        status = self._commit(pin.handle, byref(pin.raw), self._ttl_ms, self._flags)
        if status:
            try:
                self._check(status)
            finally:
                pin.end()

    def abort(self) -> None:
        """Gives the room back; at once, or when the last slice of it is gone. Nothing is stored.

        Source: memstream_abort.
        """
        self._is_open = False
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
        elif self._is_open:
            self.commit()


def _let_go_in_child() -> None:
    """Makes the parent's memoryviews raise in a forked child, where nothing keeps their bytes in place."""
    global _pid
    _pid = os.getpid()
    for reference in list(_live.values()):
        memory = reference()
        if memory is not None:
            with suppress(BufferError):
                memory.release()


os.register_at_fork(after_in_child=_let_go_in_child)
