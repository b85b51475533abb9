"""What the package is meant to reach, each as the least ratio of two rates of one round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from data import size_name
from results import Cell, Place, Results

FAST, PLAIN, VIEWS, LIMIT = "memstream-fast", "memstream-plain", "memstream-views", "limit"
# How many times as fast as them, for (get, set).
_ALTERNATIVES = {
    LIMIT: (0.85, 0.85),
    PLAIN: (2.2, 2.2),
    "lmdb": (2.5, 4),
    "tdb": (1.5, 1.5),
    "memcached": (60, 60),
    "manager-dict": (60, 60),
    "redis": (80, 80),
    "diskcache": (20, 120),
}
_SMALL = (64, 1024)
_LARGE = 4 * 1024 * 1024


class Goal(NamedTuple):
    """`over` is at least `least` times as fast as `under`."""

    over: Place
    under: Place
    least: float

    def text(self) -> str:
        """What it says, without the figure."""
        return f"{_text(self.over)} / {_text(self.under)}"

    def figure(self, results: Results) -> Optional[float]:
        """What was measured; None: nothing was."""
        return results.ratio(self.over, self.under)


def _text(place: Place) -> str:
    size, operation, processes = place.cell
    return f"{place.contender} {operation} {size_name(size)} x{processes}"


def goals() -> Iterator[Goal]:
    """All of them."""
    for size in _SMALL:
        for index, operation in enumerate(("get", "set")):
            cell = Cell(size, operation, 1)
            for other, least in _ALTERNATIVES.items():
                yield Goal(Place(FAST, cell), Place(other, cell), least[index])
            yield Goal(Place(PLAIN, cell), Place("lmdb", cell), 1)
            yield Goal(Place(PLAIN, cell), Place("plain-ctypes", cell), 0.9)
    for size in _SMALL:
        many = Place(FAST, Cell(size, "get_many", 1))
        yield Goal(many, Place(FAST, Cell(size, "get", 1)), 1.4)
        yield Goal(many, Place(PLAIN, Cell(size, "get", 1)), 4)
    large = Cell(_LARGE, "get", 1)
    yield Goal(Place(VIEWS, large), Place(FAST, large), 100)
    yield Goal(Place(FAST, large), Place("bytes(memoryview)", large), 0.8)
    for size in _SMALL:
        for operation, times in (("get", 1.7), ("mix", 1.5)):
            yield Goal(Place(FAST, Cell(size, operation, 2)), Place(FAST, Cell(size, operation, 1)), times)
