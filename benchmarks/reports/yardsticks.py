#!/usr/bin/env python3
"""Writes what was measured beside the yardsticks as Markdown, from the JSON that the benchmarks write.

    yardsticks.py JSON...                     print the report
    yardsticks.py JSON... --output FILE       write it to FILE
    yardsticks.py JSON... --page FILE         put rows of two processes, and the plots, between that page's marks

The JSON comes from `scripts/bench.sh yardstick` (its parts "c", "evicting") and `scripts/bench.sh scale`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional

Json = dict[str, Any]

BEGIN, END = "<!-- yardsticks: begin -->", "<!-- yardsticks: end -->"
OURS = (("memstream-posix-cache", "MemStream, POSIX"), ("memstream-sysv-cache", "System V"))

# shm_container and libshmcache are not in Debian, so no command here measures them. Quoted from an earlier run:
# parts of the same limit in the same rounds, on two quiet cores. By keys, size, distribution, gets, processes.
QUOTED: dict[tuple[int, int, str, int, int], tuple[float, float]] = {
    (100_000, 64, "zipf", 100, 1): (0.66, 0.94),
    (100_000, 64, "zipf", 100, 2): (0.65, 0.50),
    (100_000, 64, "zipf", 95, 2): (0.47, 0.14),
    (100_000, 64, "zipf", 50, 2): (0.12, 0.04),
    (100_000, 64, "zipf", 0, 2): (0.07, 0.02),
    (100_000, 64, "uniform", 100, 1): (0.70, 0.73),
    (100_000, 64, "uniform", 100, 2): (0.68, 0.53),
    (100_000, 1024, "zipf", 100, 1): (0.68, 0.77),
    (100_000, 1024, "zipf", 100, 2): (0.66, 0.54),
    (100_000, 1024, "zipf", 0, 2): (0.08, 0.01),
    (1_000_000, 64, "zipf", 100, 1): (0.67, 0.79),
    (1_000_000, 64, "zipf", 100, 2): (0.71, 0.53),
    (1_000_000, 64, "uniform", 100, 1): (0.71, 0.82),
    (1_000, 64, "zipf", 100, 1): (0.90, 0.97),
}
BARS = {95: 0.65, 50: 0.55, 0: 0.50}  # By share of gets, two processes. Of gets alone: get_bar().
LEAST_GETS, AHEAD, AHEAD_OF_FENCED = 0.70, 1.02, 1.1
LARGE, LARGE_BAR, BATCHES_BAR, CROWD_BAR = 65_536, 0.92, 0.8, 0.9


class BadInput(Exception):
    """The JSON is not what the benchmarks write, or the page has no marks."""


class Row(NamedTuple):
    cell: Json
    limit: float
    shares: dict[str, float]

    @property
    def key(self) -> tuple[int, int, str, int, int]:
        cell = self.cell
        return cell["keys"], cell["value_size"], cell["distribution"], cell["get_percent"], cell["processes"]


def size_text(size: int) -> str:
    return f"{size >> 10} KiB" if size >= 1024 else f"{size} B"


def is_shared(reports: list[Json]) -> bool:
    """Whether others used the machine of one of the runs."""
    return any(float(r["machine"]["load_before"].split()[0]) > int(r["machine"]["cores"]) / 4 for r in reports)


def row_of(cell: Json, limit: str) -> Optional[Row]:
    """The shares of the limit that takes part under that name; None if it did not."""
    by_name = {one["name"]: one for one in cell["contenders"]}
    if limit not in by_name:
        return None
    shares = {name: one["ratio_to_limit"] for name, one in by_name.items() if "ratio_to_limit" in one}
    return Row(cell, by_name[limit]["median"] / 1e6, shares)


def share(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.2f}"


def bar_of(row: Row) -> float:
    """What MemStream is to reach: a share of the limit, and ahead of the best other library."""
    gets = row.cell["get_percent"]
    if gets != 100:
        return BARS[gets]
    if row.cell["value_size"] == LARGE:
        return LARGE_BAR
    others = [row.shares[name] for name in ("tdb",) if name in row.shares]
    others += QUOTED.get(row.key, ())
    bars = [LEAST_GETS, *(AHEAD * other for other in others)]
    if row.cell["processes"] == 1 and "fenced" in row.shares:
        bars.append(AHEAD_OF_FENCED * row.shares["fenced"])
    return max(bars)


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|---" + "|---:" * (len(heads) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def name_of(cell: Json) -> str:
    gets = {100: "gets", 0: "puts"}.get(cell["get_percent"], f"{cell['get_percent']} % gets")
    dist = "Zipf" if cell["distribution"] == "zipf" else "uniform"
    return f"{size_text(cell['value_size'])}, {cell['keys']:,} keys, {dist}, {gets}, {cell['processes']}"


def cells_of(reports: list[Json]) -> list[Json]:
    return [cell for report in reports for cell in report.get("cells", [])]


def main_rows(reports: list[Json]) -> list[Row]:
    rows = [row_of(cell, "limit") for cell in cells_of(reports) if cell["processes"] <= 2]
    kept = [row for row in rows if row is not None and any(name in row.shares for name, _ in OURS)]
    return sorted(kept, key=lambda row: (row.key[1], row.key[0], row.key[2] == "uniform", -row.key[3], row.key[4]))


def main_table(reports: list[Json]) -> list[str]:
    heads = ["values, keys, access, processes", "limit, million/s", "fenced", "seqlock", "shm_container*"]
    heads += ["libshmcache*", "TDB", *(head for _, head in OURS), "bar"]
    lines = []
    for row in main_rows(reports):
        quoted: tuple[Optional[float], Optional[float]] = QUOTED.get(row.key, (None, None))
        figures = [row.shares.get("fenced"), row.shares.get("seqlock"), *quoted, row.shares.get("tdb")]
        bar = bar_of(row)
        line = [name_of(row.cell), f"{row.limit:.1f}" if row.limit >= 1 else f"{row.limit:.2f}"]
        line += [share(figure) for figure in figures]
        for name, _ in OURS:
            ours = row.shares.get(name)
            is_reached = ours is not None and round(ours, 2) >= round(bar, 2) and not is_shared(reports)
            line.append(f"**{share(ours)}**" if is_reached else share(ours))
        lines.append([*line, share(bar)])
    return table(heads, lines)


def page_table(reports: list[Json]) -> list[str]:
    """The part of the main table that a page has room for."""
    lines = []
    for row in main_rows(reports):
        if row.cell["processes"] == 2 and row.cell["distribution"] == "zipf":
            shares = [row.shares.get("tdb"), *(row.shares.get(name) for name, _ in OURS), bar_of(row)]
            lines.append([name_of(row.cell).replace(", Zipf", "").removesuffix(", 2"), *map(share, shares)])
    return table(["Zipf, two processes", "TDB", *(head for _, head in OURS), "bar"], lines)


def batches_table(reports: list[Json]) -> list[str]:
    lines = []
    for cell in cells_of(reports):
        row = row_of(cell, "limit-batches")
        if row is not None and "memstream-batches" in row.shares:
            lines.append(
                [name_of(cell), f"{row.limit:.1f}", share(row.shares["memstream-batches"]), share(BATCHES_BAR)]
            )
    return table(["16 keys in a call", "limit, million/s", "MemStream, POSIX", "bar"], lines) if lines else []


def crowd_table(reports: list[Json]) -> list[str]:
    lines = []
    for cell in cells_of(reports):
        by_name = {one["name"]: one for one in cell["contenders"]}
        totals = [
            by_name.get(name, {}).get("ratio_to_two_processes") for name in ("limit", *(ours for ours, _ in OURS))
        ]
        if cell["processes"] > 2 and any(total is not None for total in totals):
            tails = [by_name[name]["get_ns"]["p999"] for name, _ in OURS if by_name.get(name, {}).get("get_ns")]
            lines.append(
                [name_of(cell), *map(share, totals), share(CROWD_BAR), "; ".join(f"{tail:,}" for tail in tails)]
            )
    heads = ["total as part of that of two processes", "limit", *(head for _, head in OURS), "bar", "gets: p99.9, ns"]
    return table(heads, lines) if lines else []


def evicting_table(reports: list[Json]) -> list[str]:
    lines = []
    for report in reports:
        for cell in report.get("evicting", []):
            by_name = {one["name"]: one for one in cell["contenders"]}
            line = [f"{cell['access']}, {size_text(cell['value_size'])}, {cell['processes']}"]
            for name in ("limit", "memstream-posix", "memstream-sysv"):
                one = by_name[name]
                line.append(f"{one['ns_of_a_process']:,.0f}")
                if name != "limit":
                    line.append(share(one["ratio_to_limit"]))
            line.append(
                "; ".join(share(one["hit_ratio"]) for one in by_name.values()) if "get" in cell["access"] else ""
            )
            lines.append(line)
    heads = ["access, values, processes", "limit, ns", "POSIX, ns", "share", "System V, ns", "share", "hit ratios"]
    return table(heads, lines) if lines else []


def short(nanoseconds: float) -> str:
    for least, unit in ((1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= least:
            return f"{nanoseconds / least:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def scale_table(reports: list[Json]) -> list[str]:
    heads = [
        "entries",
        "processes",
        "segment",
        "values",
        "shards",
        "get",
        "put",
        "connect",
        "scan, an entry",
        "recovery",
    ]
    lines: list[str] = []
    stores = sorted({point["store"] for report in reports for point in report.get("scale", [])})
    for store in stores:
        rows = []
        for point in (point for report in reports for point in report.get("scale", []) if point["store"] == store):
            segment = point["segment_bytes"] / (1 << 20)
            costs = ("get_ns", "put_ns", "connect_ns", "scan_ns_by_entry", "recovery_ns")
            row = [f"{point['entries']:,}", str(point["processes"]), f"{segment:,.0f} MiB"]
            rows.append([*row, size_text(point["value_size"]), str(point["shards"]), *(short(point[c]) for c in costs)])
        lines += [f"`{store}`:", "", *table(heads, rows)]
    for report in reports:
        for words in report.get("left_out", []):
            lines += [f"Left out, because memory was too scarce: {words}.", ""]
    return lines


def conditions(reports: list[Json]) -> list[str]:
    lines = []
    for report in reports:
        parts = [name for name in ("cells", "evicting", "scale") if name in report]
        if not parts:
            raise BadInput("a JSON file has no cells, evicting or scale: it is not of scripts/bench.sh")
        machine = report["machine"]
        cores = int(machine["cores"])
        words = f"{', '.join(parts)}: {machine['processor']}, {cores} cores, {machine['kernel']}, {machine['compiler']}"
        if "rounds" in report:
            words += f"; {report['fills']} fillings, {report['rounds']} rounds of {report['round_ms']} ms each"
        if report.get("by_processor_time"):
            words += ", by time of the processor"
        load = float(machine["load_before"].split()[0])
        words += f"; load before the run {load:.1f}"
        if load > cores / 4:
            words += ", so **others used the machine**"
        lines.append(f"- {words}.")
    return [*lines, ""]


def report_on(reports: list[Json], date: str) -> str:
    lines = [f"# Yardsticks, {date}", "", "`benchmarks/reports/yardsticks.py` wrote this file from what the benchmarks"]
    lines += ["measured. All rounds are interleaved; a share is the median of the ratios within a round.", ""]
    lines += conditions(reports)
    if main_rows(reports):
        lines += ["## Beside the limit", "", *main_table(reports), *footnotes(reports)]
    for head, part in (
        ("Many keys in a call", batches_table(reports)),
        ("More processes than cores", crowd_table(reports)),
        ("A cache that is being filled, or full", evicting_table(reports)),
        ("Scale", scale_table(reports)),
    ):
        if part:
            lines += [f"## {head}", "", *part]
    return "\n".join(lines).rstrip() + "\n"


def footnotes(reports: list[Json]) -> list[str]:
    lines = [
        "Shares of the limit, which has no locks and no checks. *Fenced* has a fence before each operation, *seqlock* a"
    ]
    lines += ["sequence counter in each entry.", ""]
    if is_shared(reports):
        lines += ["**Others used the machine during these runs**, and its caches. So shares are nearer to 1 than on a"]
        lines += ["quiet machine. These figures do not say whether MemStream reaches a bar.", ""]
    else:
        lines += ["Bold: MemStream reaches the bar.", ""]
    lines += [
        "\\* Quoted from an earlier run on two quiet cores: these libraries are not in Debian.",
        "",
    ]
    return lines


def update_page(page: Path, reports: list[Json], date: str) -> None:
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BadInput(f"{page} lacks the lines {BEGIN} and {END}, in this order")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    source = f"Shares of the limit; [all cells and their conditions](../benchmarks/results/{date}-yardsticks.md)."
    if is_shared(reports):
        source += "\nOthers used the machine, so they are nearer to 1 than on a quiet one."
    source += "\n\n![Throughput by processes](plots/throughput.svg)"
    source += "\n\n![Part of the gets of 64 bytes that take longer](plots/latency.svg)"
    middle = "\n".join([*page_table(reports), source])
    page.write_text(f"{before}{BEGIN}\n\n{middle}\n\n{END}{after}", encoding="utf-8")


def main(arguments: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(description="Markdown of what was measured beside the yardsticks.")
    parser.add_argument("json", type=Path, nargs="+", help="JSON of the benchmarks")
    parser.add_argument("--output", type=Path, help="write the report to this file")
    parser.add_argument("--page", type=Path, help="put the main table between the marks of this page")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="of the runs (today)")
    options = parser.parse_args(arguments)
    try:
        reports = [json.loads(file.read_text(encoding="utf-8")) for file in options.json]
        text = report_on(reports, options.date)
        if options.output:
            options.output.write_text(text, encoding="utf-8")
        else:
            print(text, end="")
        if options.page:
            update_page(options.page, reports, options.date)
    except (BadInput, OSError, KeyError, json.JSONDecodeError) as error:
        print(f"yardsticks.py: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
