"""Waiting until the entry of a key changes."""

from __future__ import annotations

from typing import Optional

from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, check_range, encode_key, milliseconds, seconds
from memstream._core.connection import Connection
from memstream._core.waiting import LONGEST_SLICE, cooperative_sleep, pauses


def wait_for_change(connection: Connection, key: Key, token: Optional[int], timeout: Optional[Duration]) -> bool:
    """Waits until the entry of a key is not the one of `token`: see `Cache.wait`."""
    name = encode_key(key)
    cas = 0 if token is None else check_range("token", token, 1, 2**64 - 1)
    milliseconds(timeout, "timeout")  # Refuses what is no time.
    sleep = cooperative_sleep()
    for pause in pauses(seconds(timeout, "timeout"), LONGEST_SLICE if sleep is None else None):
        if _has_changed(connection, name, cas, 0 if sleep is not None else pause):
            return True
        if sleep is not None:
            sleep(pause)
    return _has_changed(connection, name, cas, 0)


def _has_changed(connection: Connection, name: bytes, cas: int, wait: float) -> bool:
    """Waits in the library, for a slice at most. Returns whether the entry is another one, or has gone."""
    status = connection.library.c.memstream_wait(connection.handle, name, len(name), cas, int(wait * 1000))
    if status not in (Status.OK, Status.MISS, Status.EXISTS):
        connection.fail(status)
    return bool(status == Status.OK or (status == Status.MISS and cas != 0))
