"""What is printed and written of the results."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, Optional

from data import BATCH, size_name
from goals import FAST, goals
from results import Cell, Place, Results

_TITLES = {
    "get": "get",
    "set": "set",
    "get_many": f"get_many of {BATCH}",
    "mix": "95 % get, 5 % set",
}


def _cells(results: Results) -> list[Cell]:
    return list(dict.fromkeys(place.cell for place in results.places()))


def _figure(number: Optional[float], pattern: str = "{:.2f}") -> str:
    return "-" if number is None else pattern.format(number)


def table(results: Results) -> str:
    """A block for each size and operation: thousand keys a second, by contender, for one process and two."""
    blocks = []
    for cell in _cells(results):
        if cell.processes != 1:
            continue
        two = cell._replace(processes=2)
        title = f"{_TITLES[cell.operation]}, {size_name(cell.size)}"
        lines = [f"{title:<26} {'kkeys/s':>10} {'ns':>10} {'spread':>7} {'fast is x':>10} {'2 procs':>10} {'x':>6}"]
        for place in results.places():
            if place.cell != cell:
                continue
            rate, pair = results.rate(place), place._replace(cell=two)
            both = results.rate(pair) if results.rates(pair) else None
            lines.append(
                f"  {place.contender:<24} {rate / 1e3:>10.1f} {1e9 / rate:>10.0f} {results.spread(place):>7.0%} "
                f"{_figure(results.ratio(Place(FAST, cell), place)):>10} "
                f"{_figure(both and both / 1e3, '{:.1f}'):>10} {_figure(results.ratio(pair, place)):>6}"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def goal_list(results: Results) -> str:
    """A line for each goal that was measured: figure, least, met or missed."""
    lines = [f"{'goal':<62} {'figure':>8} {'least':>7}"]
    for goal in goals():
        figure = goal.figure(results)
        if figure is not None:
            verdict = "met" if figure >= goal.least else "MISSED"
            lines.append(f"{goal.text():<62} {figure:>8.2f} {goal.least:>7.2f}  {verdict}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """On what it was measured. A load above 0 before the run means that others were at work."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].partition(": ")[2] if model else "",
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "load_before": os.getloadavg()[0],
    }


def as_json(results: Results, about: dict[str, Any]) -> dict[str, Any]:
    """Everything, for a file."""
    cells = []
    for cell in _cells(results):
        contenders = [
            {
                "name": place.contender,
                "keys_per_second": [each.rate for each in results.rates(place)],
                "mean_keys_per_second": [each.mean_rate for each in results.rates(place)],
                "median": results.rate(place),
                "fast_is_times": results.ratio(Place(FAST, cell), place),
            }
            for place in results.places()
            if place.cell == cell
        ]
        cells.append({**cell._asdict(), "contenders": contenders})
    reached = [
        {"goal": goal.text(), "least": goal.least, "figure": goal.figure(results)}
        for goal in goals()
        if goal.figure(results) is not None
    ]
    return {**about, "cells": cells, "goals": reached}
