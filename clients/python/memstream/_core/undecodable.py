"""Leaves out the values that this cache cannot decode, so that the caller still gets the others."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import Iterator, List, Optional

from memstream._core.callers import depth_of_user
from memstream._core.errors import SerializerError, UndecodableWarning

_collecting = threading.local()


@contextmanager
def collect_undecodable() -> Iterator[List[bytes]]:
    """Collects the keys of values that this thread leaves out in the block, instead of warnings."""
    keys: List[bytes] = []
    _collecting.keys = keys
    try:
        yield keys
    finally:
        _collecting.keys = None


def warn_of_undecodable(error: Exception, key: bytes) -> None:
    """Warns that a value is left out. To be called where `error`, which names the key, is being handled.

    The text has no key: Python keeps the text of each warning that it has shown, and there may be any number of keys.
    """
    collected: Optional[List[bytes]] = getattr(_collecting, "keys", None)
    if collected is not None:
        collected.append(key)
        return
    reason = error.message if isinstance(error, SerializerError) else f"raises {type(error).__name__}: {error}"
    text = f"Left out a value that cannot be decoded: it {reason}"
    warnings.warn(text, UndecodableWarning, stacklevel=depth_of_user())
