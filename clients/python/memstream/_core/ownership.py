"""What the library holds for this process, and how it is given back whatever happens.

A Python destructor is bytecode, and an exception from a signal handler (Ctrl-C, a timeout) can end it before it has
done anything. So each owner gives back in a second way: a weak reference calls the C function itself when the owner is
gone, without any bytecode. The owner exists before the library is asked for something, so that no instant is left
between.
"""

from __future__ import annotations

import gc
import os
from functools import partial
from typing import Any, Callable, Dict, Iterator
from weakref import ref

# By the id of the owner.
_guards: Dict[int, "ref[Owned]"] = {}

# Another number in a forked child: what the parent owns, the parent gives back. Asking the system for the process would
# cost as much as pinning does.
_generation = 0


class Owned:
    """Something that the library holds for this process until it is given back."""

    def __init__(self, give_back: Callable[..., int], *arguments: Any) -> None:
        """Prepares the end. Nothing is held yet.

        Args:
            give_back: a function of `Library.ends`.
            arguments: for it, as ctypes objects where the library fills them later.
        """
        self._generation = _generation
        # To be called with one more argument, which counts for nothing: the one that a weak reference passes.
        self.give_back: Callable[[object], int] = partial(give_back, *arguments)
        _guards[id(self)] = ref(self, self.give_back)

    @property
    def is_ours(self) -> bool:
        """False in a forked child: the parent has it, and only the parent may give it back."""
        return self._generation == _generation

    def _let_go(self, give_back: Callable[[object], int]) -> None:
        """Forgets what it has given back; `give_back` is called from now on."""
        drop_guard(self)
        self.give_back = give_back

    def __del__(self) -> None:
        if self._generation == _generation:
            self.give_back(None)
            drop_guard(self)


def drop_guard(owned: Owned) -> None:
    """Says that an owner has nothing to give back."""
    _guards.pop(id(owned), None)


def all_owned() -> Iterator[Owned]:
    """What this process owns now. Forgets what an interrupted destructor has left."""
    for key in list(_guards):  # Not of the items: each pair is an allocation, which may set off a collection.
        guard = _guards.get(key)
        owned = guard() if guard is not None else None
        if owned is not None:
            yield owned
        else:
            _guards.pop(key, None)


def _on_collection(phase: str, info: Dict[str, int]) -> None:
    """Forgets the guards whose owners an interrupted destructor has left in `_guards`.

    A guard keeps the handle that its callback needs, so the cache would stay mapped. Only a full collection looks at
    all of them: it has looked at every other object too.
    """
    if phase == "stop" and info["generation"] == 2:
        for _ in all_owned():
            pass


def _leave_to_parent() -> None:
    global _generation
    _generation += 1
    _guards.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
gc.callbacks.append(_on_collection)
