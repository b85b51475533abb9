"""Tags: names of groups of entries, which one call makes misses."""

from __future__ import annotations

from ctypes import byref
from typing import Iterable, Optional, Union

from memstream._core import abi
from memstream._core.arguments import Key, encode_key, invalid
from memstream._core.connection import Connection

_NAMES = "an iterable of str or bytes, or what Cache.tags returned"


class Tags:
    """Tags as they were when `Cache.tags` was called. Entries that are stored with them later end by every
    invalidation since that call.
    """

    __slots__ = ("_struct",)

    def __init__(self, struct: abi.Tags) -> None:
        self._struct = struct


# What functions that store take as `tags`.
Tagged = Union[None, Tags, Iterable[Key]]


def take(connection: Connection, names: Iterable[Key]) -> Tags:
    """Returns tags as they are now: see `Cache.tags`."""
    if isinstance(names, (str, bytes)):
        raise TypeError(invalid("tags", names, _NAMES, "Put a single one into a list"))
    try:
        listed = list(names)
    except TypeError as error:
        raise TypeError(invalid("tags", names, _NAMES)) from error
    encoded = [encode_key(name, "tag") for name in listed]
    struct = abi.Tags()
    for name in encoded:
        connection.check(connection.library.c.memstream_tag(connection.handle, name, len(name), byref(struct)))
    return Tags(struct)


def struct_of(connection: Connection, tags: Tagged) -> Optional[abi.Tags]:
    """Returns what the library takes for the `tags` of `Cache.set`; None if there are none."""
    if tags is None:
        return None
    struct = (tags if isinstance(tags, Tags) else take(connection, tags))._struct
    return struct if any(struct.words) else None


def invalidate(connection: Connection, tag: Key) -> None:
    """Ends all entries with a tag: see `Cache.invalidate`."""
    name = encode_key(tag, "tag")
    connection.check(connection.library.c.memstream_invalidate(connection.handle, name, len(name)))
