"""What was measured: rates by cell and contender, and ratios of them."""

from __future__ import annotations

import statistics
from typing import NamedTuple, Optional

from loops import Rate


class Cell(NamedTuple):
    """What was done: with values of so many bytes, by so many processes."""

    size: int
    operation: str
    processes: int


class Place(NamedTuple):
    """A contender in a cell."""

    contender: str
    cell: Cell


class Results:
    """The rates of every round. All cells have equally many rounds, and a round goes over all cells of one size."""

    def __init__(self) -> None:
        self._rates: dict[Place, list[Rate]] = {}

    def add(self, place: Place, rate: Rate) -> None:
        """Adds the next round of a contender in a cell."""
        self._rates.setdefault(place, []).append(rate)

    def rates(self, place: Place) -> list[Rate]:
        """The rounds; empty if it was not measured."""
        return self._rates.get(place, [])

    def places(self) -> list[Place]:
        """Everything that was measured, in that order."""
        return list(self._rates)

    def rate(self, place: Place) -> float:
        """Keys a second: the median of the rounds."""
        return statistics.median(each.rate for each in self._rates[place])

    def spread(self, place: Place) -> float:
        """What lies between the slowest and the fastest round, as a part of the median."""
        rates = [each.rate for each in self._rates[place]]
        return (max(rates) - min(rates)) / statistics.median(rates)

    def ratio(self, over: Place, under: Place) -> Optional[float]:
        """How many times as fast one is as the other: the median of the ratios of each round. None: not measured."""
        pairs = list(zip(self.rates(over), self.rates(under)))
        return statistics.median(one.rate / other.rate for one, other in pairs) if pairs else None
