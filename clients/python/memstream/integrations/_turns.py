"""One of all processes computes what is missing; the others wait for it, but not for ever.

For frameworks that look for a value, make it and store it in separate calls. The turn is a lease of a key of its own.
It ends with its process, so that another one takes over from one that was killed.

If the value could not be stored, the turn's key says so for a while: those that wait, and those that come, then compute
side by side instead of one after the other.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import Any, Callable, Dict, Optional, Tuple

from memstream._core.arguments import shown
from memstream._core.blocks import EndedByBlock
from memstream._shared import SharedCache, is_over
from memstream.errors import ConfigurationError, MemStreamError
from memstream.leases import Lease

_PREFIX = b"memstream-turn:"

_LONGEST_WAIT = 3600.0
_ABSENT = object()

# Which thread of which process holds a turn, and until when at most: it must never wait for itself.
_held: Dict[Tuple[Any, bytes], Tuple[int, int, float]] = {}


def check_wait(wait: float) -> float:
    """Returns seconds to wait for others; raises ConfigurationError if they are none."""
    if not isinstance(wait, (int, float)) or not 0 <= wait <= _LONGEST_WAIT:
        raise ConfigurationError(
            None, f"Invalid wait {shown(wait)}: expected 0 to 3600 seconds. Give 0 to wait for nobody"
        )
    return wait


class Turn(EndedByBlock):
    """The right to compute a value, or the wait for its holder.

    turn = Turn(shared, b"key", wait=30, absent=None)
    while not turn.is_decided(look):
        turn.wait()
    if turn.value is None:
        with turn:
            turn.value = compute()
            turn.is_stored = store(turn.value)
    return turn.value
    """

    def __init__(self, shared: SharedCache, name: bytes, wait: float, absent: Any, remember: float = 1) -> None:
        """Makes a turn; takes nothing yet.

        Args:
            shared: where the value belongs.
            name: its key.
            wait: seconds to wait for others at most; as long they may wait for this one. 0: nobody waits.
            absent: what `look` returns if the value is not there.
            remember: seconds for which others need not wait after a value could not be stored.
        """
        self.value = absent
        self.is_stored = False
        self._absent = absent
        self._shared = shared
        self._key = _PREFIX + hashlib.sha256(name).digest()
        self._wait = check_wait(wait)
        self._remember = remember
        self._deadline = time.monotonic() + wait
        self._lease: Optional[Lease] = None

    def is_decided(self, look: Callable[[], Any]) -> bool:
        """Returns whether there is nothing to wait for: `value` is there by now, or the caller has to compute it.

        Args:
            look: returns the value, or `absent`.

        Source: memstream_lease.
        """
        if self._wait <= 0 or self._is_held_here():
            return True
        try:
            self._take()
            if self._lease is None and (self._remaining() <= 0 or self._shared.call("exists", self._key)):
                return True
        except MemStreamError as error:
            if not self._shared.ignores(error, "lease"):
                raise
            return True
        # It may have been stored since the caller found nothing.
        try:
            self.value = look()
        except BaseException:
            self.end()
            raise
        if self.value is not self._absent:
            self.is_stored = True
            self.end()
        return self._lease is not None or self.is_stored

    def _take(self) -> None:
        self._lease = self._shared.call("lease", self._key, None, self._wait)
        if self._lease is not None:
            _held[self._identity()] = (os.getpid(), threading.get_ident(), time.monotonic() + self._wait)

    def _identity(self) -> Tuple[Any, bytes]:
        return self._shared.identity, self._key

    def _is_held_here(self) -> bool:
        pid, thread, until = _held.get(self._identity(), (0, 0, 0.0))
        return (pid, thread) == (os.getpid(), threading.get_ident()) and time.monotonic() < until

    def _remaining(self) -> float:
        return self._deadline - time.monotonic()

    def wait(self) -> None:
        """Waits until the holder of the turn is done, or has died; not beyond the time that the turn was given.

        Source: memstream_lease_wait.
        """
        remaining = self._remaining()
        if remaining <= 0 or self._is_held_here():
            return
        try:
            self._shared.wait_for_lease(self._key, remaining)
        except MemStreamError as error:
            if not self._shared.ignores(error, "wait_for_lease"):
                raise
            self._deadline = 0

    def end(self) -> None:
        """Gives the turn back, if it was had. Ending it twice is fine.

        Source: memstream_lease_release; memstream_lease_fulfil if nothing was stored.
        """
        lease, self._lease = self._lease, None
        if lease is None:
            return
        _held.pop(self._identity(), None)
        try:
            if self.is_stored:
                lease.release()
            else:
                lease.fulfil(b"", ttl=self._remember)
        except MemStreamError as error:
            # The caller has its value; the lease ends by itself after `wait` seconds.
            self._shared.logger.warning("a lease could not be given back: %s", str(error))

    def _end_block(self) -> None:
        self.end()


class Addition:
    """A value that is to be found, or made and stored by one of all processes.

    while not addition.is_decided():
        addition.turn.wait()
    return addition.finish()
    """

    def __init__(self, shared: SharedCache, name: bytes, default: Any, seconds: Optional[float], wait: float) -> None:
        """Begins; looks for nothing yet.

        Args:
            shared, name, wait: as for `Turn`.
            default: the value, or a function that makes it.
            seconds: to live, as for `SharedCache.add`.
        """
        self._shared = shared
        self._name = name
        self._default = default
        self._seconds = seconds
        # What takes no time, and what nobody can find afterwards, is not waited for.
        is_awaited = callable(default) and not is_over(seconds)
        self.turn = Turn(shared, name, wait if is_awaited else 0, _ABSENT)

    def _look(self) -> Any:
        return self._shared.get(self._name, _ABSENT)

    def is_decided(self) -> bool:
        """Returns whether the value is there, or has to be made here and now."""
        self.turn.value = self._look()
        return self.turn.value is not _ABSENT or self.turn.is_decided(self._look)

    def finish(self) -> Any:
        """Returns the value; makes and stores it if need be."""
        with self.turn as turn:
            if turn.value is _ABSENT:
                turn.value = self._default() if callable(self._default) else self._default
                turn.is_stored = self._store()
        return turn.value

    def _store(self) -> bool:
        """Stores the value unless another one is there by now, which then counts; returns whether one is there."""
        if self._shared.add(self._name, self.turn.value, self._seconds):
            return True
        found = self._look()
        if found is not _ABSENT:
            self.turn.value = found
        return found is not _ABSENT
