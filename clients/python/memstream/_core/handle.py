"""The C handle of an open cache."""

from __future__ import annotations

import gc
from ctypes import c_void_p
from typing import Any, List, Set, Tuple

from memstream._core.library import Library


class Handle(c_void_p):
    """A `memstream_t *` that is closed when nobody refers to it any more.

    Calls under way and views refer to it, so that closing a cache never takes the memory away beneath them.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.library = library
        # Who has memory of this handle: ids, since references would be a circle.
        self.holders: Set[int] = set()

    def __del__(self) -> None:
        if not self.value:
            return
        if self.holders:
            # The garbage collector has found this handle and its views in one circle, and it finalizes them in any
            # order: until it is done, the views' finalizers and the user's own may still need the memory.
            _close_after_collection(self.library, self.value)
        else:
            self.library.c.memstream_close(self.value)


_to_close: List[Tuple[Library, int]] = []


def _close_after_collection(library: Library, address: int) -> None:
    _to_close.append((library, address))
    if _on_collection not in gc.callbacks:
        gc.callbacks.append(_on_collection)


def _on_collection(phase: str, _: Any) -> None:
    while phase == "stop" and _to_close:
        library, address = _to_close.pop()
        library.c.memstream_close(address)
