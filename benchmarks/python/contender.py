"""What every contender has to offer."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from data import DataSet

Get = Callable[[bytes], Any]
Set = Callable[[bytes, bytes], Any]


def itself(value: Any) -> Any:
    """Returns what it is given."""
    return value


def pairs_itself(result: Mapping[bytes, Any], keys: list[bytes]) -> Mapping[bytes, Any]:
    """Returns what it is given: a dict from the keys to the values."""
    return result


@dataclass(frozen=True)
class Session:
    """The calls that are timed, in one worker, and what is needed to look at what they return.

    Attributes:
        get: returns the value, None if it is not there.
        set: None if that is not what the contender is about.
        get_many: takes a list of keys; None: it has no such call.
        bytes_of: what `get` returned, as something that compares with bytes. Not timed.
        pairs: what `get_many` returned, as a mapping. Not timed.
        release: ends what `get` returned. Timed as part of it.
    """

    get: Get
    set: Optional[Set] = None
    get_many: Optional[Callable[[list[bytes]], Any]] = None
    bytes_of: Callable[[Any], Any] = itself
    pairs: Callable[[Any, list[bytes]], Mapping[bytes, Any]] = pairs_itself
    release: Optional[Callable[[Any], Any]] = None


class Contender(abc.ABC):
    """One way to keep values. Made and filled by the benchmark's own process, opened by each of its workers.

    Attributes:
        name: in tables and JSON.
        shared: whether several processes can use it.
    """

    name: str
    shared = True

    def __init__(self, scratch: Path) -> None:
        """Makes it, empty.

        Args:
            scratch: a folder for its files and sockets; it is removed with everything in it.
        """
        self.scratch = scratch

    @abc.abstractmethod
    def fill(self, data: DataSet) -> None:
        """Stores the first variant of all values. Everything that was opened for that is closed again."""

    @abc.abstractmethod
    def open(self) -> Session:
        """Opens it in a worker, which was forked after `fill`."""

    def close(self) -> None:
        """Ends it, with all that it has outside of the scratch folder. Called in the benchmark's own process."""
