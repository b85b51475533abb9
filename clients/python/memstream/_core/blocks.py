"""With blocks."""

from __future__ import annotations

from typing import TypeVar

_Self = TypeVar("_Self", bound="EndedByBlock")


class EndedByBlock:
    """A context manager that gives itself, and ends with its block, however the block ends."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_block()

    def _end_block(self) -> None:
        raise NotImplementedError
