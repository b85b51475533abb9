#!/usr/bin/env python3
"""What scripts/demo_near.sh shows: rates beside redis-py, then a cluster that loses agents, masters and slots."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "clients" / "python"))

import oracle  # noqa: E402
from rates import PROCESSES, Rate, measure  # noqa: E402
from redis_servers import CLIENT, SERVER, new_folder  # noqa: E402


def say(text: str) -> None:
    print(text, flush=True)


def show_rates(rates: dict[str, Rate]) -> None:
    plain = rates["redis-py"].gets_per_second
    say(f"{PROCESSES} processes, gets a second, Redis on a Unix socket:")
    for name, rate in rates.items():
        say(f"  {name:<24} {rate.gets_per_second:>12,.0f}   {rate.gets_per_second / plain:6.1f} times")


def show_verdict(result: dict[str, Any]) -> None:
    faults = ", ".join(f"{name} {count}" for name, count in sorted(result["faults"].items()))
    say(f"  done to it: {faults}")
    reads, writes, failed = result["reads"], result["writes"], result["failed_reads"]
    say(f"  {reads:,} reads and {writes:,} writes; {failed:,} reads failed meanwhile")
    say(f"  connections that track, of each master: {result['tracking']} (two nodes)")
    say(f"  the oldest value was overwritten {result['worst_age_ms']:.0f} ms before it was read")
    for line in result["examples"] + result["failures"]:
        say(f"  {line}")
    say("verdict: clean" if result["clean"] else f"verdict: NOT CLEAN: {result['violations'] or 'a process failed'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds for each part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and the verdict there")
    options = parser.parse_args()
    if SERVER is None or CLIENT is None:
        print(
            "there is no redis-server or redis-cli: install them (Debian: redis-server, redis-tools)", file=sys.stderr
        )
        return 77
    folder = new_folder("near-demo-")
    try:
        rates = measure(folder, 0.5 if options.quick else 3.0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show_rates(rates)
    arguments = ["--cluster", "--fault", "kill-agent", "--fault", "kill-master", "--fault", "move-slot=2"]
    if options.quick:
        arguments += ["--seconds", "6", "--readers", "2"]
    else:
        more = [
            "kill-agent=2",
            "move-slot=4",
            "failover=2",
            "client-kill=2",
            "stop-agent=2",
            "kill-reader=5",
            "flushall",
        ]
        arguments += ["--seconds", "40", "--readers", "6", *(word for name in more for word in ("--fault", name))]
    parsed = oracle.parse(arguments)
    say(f"a cluster of three masters with replicas, two nodes with {parsed.readers + 2} processes each:")
    result = oracle.execute(parsed)
    show_verdict(result)
    if options.json is not None:
        figures = {name: rate._asdict() for name, rate in rates.items()}
        options.json.write_text(
            json.dumps({"clean": result["clean"], "rates": figures, "oracle": result}, indent=2) + "\n"
        )
    return 0 if result["clean"] else 1


if __name__ == "__main__":
    sys.exit(main())
