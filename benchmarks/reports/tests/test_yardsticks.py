"""The report has every figure where it belongs, knows which bar counts, and refuses what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yardsticks

MACHINE: dict[str, Any] = {
    "processor": "P",
    "cores": 2,
    "kernel": "K",
    "compiler": "C",
    "load_before": "0.10 0 0 1/2 3",
}


def contender(name: str, rate: float, share: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "median": rate, "ratio_to_limit": share, **more}


def cell(contenders: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    usual = {"keys": 100_000, "value_size": 64, "distribution": "zipf", "get_percent": 100, "processes": 1}
    return {**usual, "contenders": contenders, **more}


def report(**parts: Any) -> dict[str, Any]:
    return {"machine": MACHINE, **parts}


BESIDE = [
    contender("limit", 12e6, 1.0),
    contender("fenced", 6e6, 0.63),
    contender("seqlock", 12e6, 1.01),
    contender("tdb", 5e6, 0.46),
    contender("memstream-posix-cache", 11e6, 0.97),
    contender("memstream-sysv-cache", 6e6, 0.5),
]


def run(tmp_path: Path, *reports: dict[str, Any], more: tuple[str, ...] = ()) -> int:
    files = []
    for number, one in enumerate(reports):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(one), encoding="utf-8")
    return yardsticks.main([*map(str, files), "--date", "2026-01-02", *more])


def test_a_row_has_measured_and_quoted_figures_and_the_bar_of_the_best_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, report(cells=[cell(BESIDE)])) == 0
    line = "| 64 B, 100,000 keys, Zipf, gets, 1 | 12.0 | 0.63 | 1.01 | 0.66 | 0.94 | 0.46 | **0.97** | 0.50 | 0.96 |"
    out = capsys.readouterr().out
    assert line in out
    assert out.startswith("# Yardsticks, 2026-01-02\n")
    assert "others used" not in out


@pytest.mark.parametrize(
    ("more", "shares", "bar"),
    [
        ({"keys": 7}, {}, 0.70),
        ({"keys": 7}, {"tdb": 0.8}, 0.816),
        ({"keys": 7}, {"fenced": 0.9}, 0.99),
        ({"keys": 7, "processes": 2}, {"fenced": 0.9}, 0.70),
        ({}, {}, 1.02 * 0.94),
        ({"get_percent": 95, "processes": 2}, {"tdb": 0.9}, 0.65),
        ({"get_percent": 50, "processes": 2}, {}, 0.55),
        ({"get_percent": 0, "processes": 2}, {}, 0.50),
        ({"value_size": 65_536}, {"tdb": 0.99}, 0.92),
    ],
)
def test_the_bar_is_the_largest_of_its_rules(more: dict[str, Any], shares: dict[str, float], bar: float) -> None:
    assert yardsticks.bar_of(yardsticks.Row(cell([], **more), 1, shares)) == pytest.approx(bar)


def test_batches_crowds_full_caches_and_scale_have_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = cell([contender("limit-batches", 4e7, 1.0), contender("memstream-batches", 3e7, 0.75)], keys=9)
    crowded = [
        {**one, "ratio_to_two_processes": 0.91, "get_ns": {"p999": 1234}} for one in BESIDE if one["name"] != "tdb"
    ]
    full = [
        {"name": name, "ns_of_a_process": 100.0, "ratio_to_limit": 0.5, "hit_ratio": 0.25}
        for name in ("limit", "memstream-posix", "memstream-sysv")
    ]
    point: dict[str, Any] = {
        "store": "memstream-posix",
        "entries": 1000,
        "processes": 1,
        "segment_bytes": 64 << 20,
        "value_size": 64,
    }
    point |= {"shards": 4, "get_ns": 50.4, "put_ns": 99, "connect_ns": 141_000, "scan_ns_by_entry": 80}
    reports = [
        report(cells=[batches, cell(crowded, processes=16, get_percent=95)]),
        report(evicting=[{"access": "get or put", "value_size": 1024, "processes": 2, "contenders": full}]),
        report(scale=[{**point, "recovery_ns": 2.5e6}], left_out=["segment: 1 entries, 16384 MiB"]),
    ]
    assert run(tmp_path, *reports) == 0
    out = capsys.readouterr().out
    assert "| 64 B, 9 keys, Zipf, gets, 1 | 40.0 | 0.75 | 0.80 |" in out
    assert "| 64 B, 100,000 keys, Zipf, 95 % gets, 16 | 0.91 | 0.91 | 0.91 | 0.90 | 1,234; 1,234 |" in out
    assert "| get or put, 1 KiB, 2 | 100 | 100 | 0.50 | 100 | 0.50 | 0.25; 0.25; 0.25 |" in out
    assert "| 1,000 | 1 | 64 MiB | 64 B | 4 | 50 ns | 99 ns | 141 µs | 80 ns | 2.5 ms |" in out
    assert "Left out, because memory was too scarce: segment: 1 entries, 16384 MiB." in out


def test_a_busy_machine_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = {**MACHINE, "load_before": "9.50 0 0 1/2 3"}
    assert run(tmp_path, {"machine": busy, "cells": [cell(BESIDE)], "by_processor_time": True}) == 0
    out = capsys.readouterr().out
    assert "load before the run 9.5, so **others used the machine**" in out
    assert "| 0.97 | 0.50 | 0.96 |" in out and "do not say whether" in out


def test_the_table_goes_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{yardsticks.BEGIN}\nold\n{yardsticks.END}\nafter\n", encoding="utf-8")
    output = tmp_path / "report.md"
    for _ in range(2):
        assert run(tmp_path, report(cells=[cell(BESIDE)]), more=("--page", str(page), "--output", str(output))) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "\nold\n" not in text and text.count("| 12.0 |") == 1
    assert "2026-01-02-yardsticks.md" in text and "(plots/throughput.svg)" in text
    assert "| 12.0 |" in output.read_text(encoding="utf-8")


def test_what_cannot_be_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n", encoding="utf-8")
    assert run(tmp_path, report(cells=[cell(BESIDE)]), more=("--page", str(page))) == 1
    assert "lacks the lines" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "no marks\n"
    assert run(tmp_path, report()) == 1
    assert "no cells, evicting or scale" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    assert yardsticks.main([str(tmp_path / "bad.json")]) == 1
    assert yardsticks.main([str(tmp_path / "none.json")]) == 1
