#!/usr/bin/env python3
"""Draws what was measured, as SVG (and PNG with --png), from the JSON that the benchmarks write.

    plots.py --throughput c.json --hit-ratio hit.json --scale scale.json --output docs/plots

Throughput and latency come from `scripts/bench.sh c --json`, hit ratios from `scripts/bench.sh hit-ratio --json`, scale
from `scripts/bench.sh scale --json`.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  The backend has to be chosen first: there is no screen.

# One colour for each contender and policy in every plot.
COLOURS = {
    "limit": "#888888",
    "fenced": "#aaaaaa",
    "seqlock": "#555555",
    "limit-batches": "#888888",
    "classic-unlocked": "#e07a83",
    "memstream-posix": "#0b6e4f",
    "memstream-sysv": "#6bbf59",
    "memstream-posix-cache": "#0b6e4f",
    "memstream-sysv-cache": "#6bbf59",
    "memstream-views": "#08415c",
    "memstream-batches": "#4a9cc2",
    "memstream": "#0b6e4f",
    "classic": "#cc2936",
    "boost": "#eb7a34",
    "lmdb": "#8e44ad",
    "tdb": "#c39bd3",
    "redis": "#b8860b",
    "redis-pipelined": "#e0c068",
    "memcached": "#1f77b4",
    "memcached-pipelined": "#8fc1e3",
    "belady": "#888888",
    "lru": "#eb7a34",
    "fifo": "#cc2936",
    "clock": "#b8860b",
    "sieve": "#c39bd3",
    "s3-fifo": "#8e44ad",
    "w-tinylfu": "#1f77b4",
    "arc": "#8fc1e3",
    "lirs": "#222222",
    "stay-fifo": "#e84393",
    "stay-fifo-fixed": "#f7a1c4",
}
MAX_PANELS = 12


def style(name: str) -> dict[str, Any]:
    ours = name.startswith(("memstream", "stay-fifo"))
    dashed = name in ("limit", "limit-batches", "fenced", "seqlock", "belady")
    look: dict[str, Any] = {"linewidth": 2.2 if ours else 1.2, "linestyle": "--" if dashed else "-"}
    if name in COLOURS:
        look["color"] = COLOURS[name]
    return look


def panels(count: int) -> tuple[Any, list[Any]]:
    """A figure with so many panels, at most three beside each other."""
    columns = min(3, count)
    rows = (count + columns - 1) // columns
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3.6 * rows), squeeze=False)
    flat = [axis for row in axes for axis in row]
    for axis in flat[count:]:
        axis.set_visible(False)
    return figure, flat[:count]


def size_text(size: int) -> str:
    for unit, text in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {text}"
    return f"{size} B"


def grouped(cells: list[dict[str, Any]], names: tuple[str, ...]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell[name] for name in names), []).append(cell)
    return groups


def draw_throughput(report: dict[str, Any]) -> Any:
    """Operations per second by number of processes: a panel for each kind of access."""
    groups = grouped(report["cells"], ("value_size", "keys", "distribution", "get_percent"))
    chosen = sorted(groups.items(), key=lambda item: -len(item[1]))[:MAX_PANELS]
    figure, axes = panels(len(chosen))
    for axis, ((size, keys, distribution, gets), cells) in zip(axes, chosen):
        series: dict[str, list[tuple[int, float]]] = {}
        for cell in sorted(cells, key=lambda cell: int(cell["processes"])):
            for one in cell["contenders"]:
                series.setdefault(one["name"], []).append((cell["processes"], one["median"] / 1e6))
        for name, points in series.items():
            axis.plot(*zip(*points), marker="o", markersize=3, label=name, **style(name))
        counts = sorted({cell["processes"] for cell in cells})
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set_yscale("log")
        axis.set_title(f"{size_text(size)}, {keys:,} keys, {distribution}, {gets} % gets", fontsize=9)
        axis.set_xlabel("processes")
        axis.set_ylabel("million operations/s")
        axis.grid(True, which="major", alpha=0.3)
    finish(figure, axes)
    return figure


def draw_latency(report: dict[str, Any]) -> Any:
    """Which part of the gets takes longer than so long; a panel for each cell with gets, the small values first."""
    with_gets = [cell for cell in report["cells"] if any(one["get_distribution"] for one in cell["contenders"])]
    chosen = sorted(with_gets, key=lambda cell: (int(cell["value_size"]), -int(cell["get_percent"])))[:MAX_PANELS]
    figure, axes = panels(len(chosen))
    for axis, cell in zip(axes, chosen):
        for one in cell["contenders"]:
            longer = [(ns, 1 - part) for ns, part in one["get_distribution"] if ns > 0 and part < 1]
            if longer:
                axis.plot(*zip(*longer), drawstyle="steps-post", label=one["name"], **style(one["name"]))
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(
            f"{size_text(cell['value_size'])}, {cell['distribution']}, {cell['get_percent']} % gets, "
            f"{cell['processes']} process{'es' if cell['processes'] > 1 else ''}",
            fontsize=9,
        )
        axis.set_xlabel("ns")
        axis.set_ylabel("part of the gets that take longer")
        axis.grid(True, which="major", alpha=0.3)
    finish(figure, axes)
    return figure


def draw_hit_ratio(report: dict[str, Any]) -> Any:
    """Hit ratio by size of the cache: a panel for each trace."""
    figure, axes = panels(len(report["traces"]))
    for axis, trace in zip(axes, report["traces"]):
        for name, row in trace["policies"].items():
            points = [(percent, cell["objects"] * 100) for percent, cell in zip(trace["percents"], row) if cell]
            if points:
                axis.plot(*zip(*points), marker="o", markersize=3, label=name, **style(name))
        axis.set_xscale("log")
        axis.set_xticks(trace["percents"], [f"{percent:g}" for percent in trace["percents"]])
        axis.set_title(trace["trace"], fontsize=9)
        axis.set_xlabel("size of the cache, % of all objects")
        axis.set_ylabel("hits, % of the requests")
        axis.grid(True, alpha=0.3)
    finish(figure, axes)
    return figure


# What the points of a series differ in, and how its axis is called.
SERIES = (
    ("entries", "entries", "entries"),
    ("processes", "processes", "processes"),
    ("segment", "segment_bytes", "GiB"),
)
COSTS = (
    ("get_ns", "get", "#0b6e4f"),
    ("put_ns", "put", "#1f77b4"),
    ("connect_ns", "connect", "#b8860b"),
    ("scan_ns_by_entry", "scan, by entry", "#8e44ad"),
    ("recovery_ns", "recovery of a shard", "#cc2936"),
)


def draw_scale(report: dict[str, Any]) -> Any:
    """What each operation costs by entries, processes and size of the segment; dashed: the second backend."""
    figure, axes = panels(len(SERIES))
    stores = sorted({point["store"] for point in report["scale"]})
    for axis, (series, field, label) in zip(axes, SERIES):
        for store, dashes in zip(stores, ("-", ":")):
            points = [point for point in report["scale"] if point["series"] == series and point["store"] == store]
            places = [point[field] / (1 << 30) if field == "segment_bytes" else point[field] for point in points]
            for cost, name, colour in COSTS:
                values = [point[cost] for point in points]
                axis.plot(places, values, dashes, marker="o", markersize=3, color=colour, label=f"{name}, {store}")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(label)
        axis.set_ylabel("ns of the processor")
        axis.grid(True, which="major", alpha=0.3)
    finish(figure, axes)
    return figure


def finish(figure: Any, axes: list[Any]) -> None:
    """One legend for all panels, below them."""
    labels: dict[str, Any] = {}
    for axis in axes:
        for line, label in zip(*axis.get_legend_handles_labels()):
            labels.setdefault(label, line)
    rows = (len(labels) + 5) // 6
    height = figure.get_size_inches()[1]
    figure.tight_layout(rect=(0, 0.28 * (rows + 0.5) / height, 1, 1))
    figure.legend(list(labels.values()), list(labels), loc="lower center", ncols=6, fontsize=8, frameon=False)


def shorten(file: Path) -> None:
    """Cuts coordinates to hundredths of a point, which halves the file."""
    file.write_text(re.sub(r"(\d\.\d\d)\d+", r"\1", file.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Plots of throughput, latency and hit ratios.")
    parser.add_argument("--throughput", type=Path, help='JSON of "bench.sh c"')
    parser.add_argument("--hit-ratio", type=Path, help='JSON of "bench.sh hit-ratio"')
    parser.add_argument("--scale", type=Path, help='JSON of "bench.sh scale"')
    parser.add_argument("--output", type=Path, default=Path("build/plots"), help="folder of the plots")
    parser.add_argument("--png", action="store_true", help="PNG files beside the SVG files")
    arguments = parser.parse_args()
    if not arguments.throughput and not arguments.hit_ratio and not arguments.scale:
        parser.error("nothing to draw: name --throughput, --hit-ratio or --scale")
    # The same input gives the same file, byte for byte.
    plt.rcParams["svg.hashsalt"] = "memstream"
    plt.rcParams["font.size"] = 8
    drawings = {}
    if arguments.throughput:
        report = json.loads(arguments.throughput.read_text(encoding="utf-8"))
        drawings["throughput"] = draw_throughput(report)
        drawings["latency"] = draw_latency(report)
    if arguments.hit_ratio:
        drawings["hit_ratio"] = draw_hit_ratio(json.loads(arguments.hit_ratio.read_text(encoding="utf-8")))
    if arguments.scale:
        drawings["scale"] = draw_scale(json.loads(arguments.scale.read_text(encoding="utf-8")))
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, figure in drawings.items():
        for kind in ("svg", "png") if arguments.png else ("svg",):
            file = arguments.output / f"{name}.{kind}"
            figure.savefig(file, metadata={"Date": None} if kind == "svg" else None)
            if kind == "svg":
                shorten(file)
            print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
