"""analytics: shows what is in a cache and how it does, without changing it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Iterator, Optional, Sequence

from memstream.cache import Cache
from memstream.cli.common import ExitCode, UsageError, add_segment_options, make_parser, natural, run, seconds
from memstream.cli.report import as_json, render, sample, take_report

_EXAMPLES = """\
  analytics.py
  analytics.py --top 20 --watch 2
  analytics.py --json | jq .hit_ratio
  analytics.py --log samples.jsonl --every 10 --count 360
"""

_DESCRIPTION = """\
Shows hit ratio, entries, memory, evictions and expirations of a MemStream cache, and its top keys by accesses, size and
recency. Looking counts no access and changes nothing; it never makes a cache.
"""

_CLEAR_SCREEN = "\x1b[H\x1b[2J"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the program.

    Args:
        argv: the arguments; None: the process's own.

    Returns:
        The exit code.
    """
    return run(_make_parser(), argv)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument("--top", metavar="N", type=natural, default=10, help="how many keys of each ranking (10)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a screen")
    parser.add_argument("--watch", metavar="SECONDS", type=seconds, help="look again and again, until Ctrl-C")
    parser.add_argument("--log", metavar="FILE", help="append the figures, without the top keys, as JSON lines to FILE")
    parser.add_argument("--every", metavar="SECONDS", type=seconds, help="with --log: between two lines")
    parser.add_argument("--count", metavar="N", type=natural, help="with --watch or --log: end after N looks")
    parser.set_defaults(action=_analyse)
    add_segment_options(parser, creates=False)
    return parser


def _analyse(arguments: argparse.Namespace) -> int:
    if (arguments.log is None) != (arguments.every is None):
        raise UsageError("--log FILE and --every SECONDS go together. Give both, or none.")
    if arguments.log is not None and (arguments.watch is not None or arguments.json):
        raise UsageError("--log writes to its file only. Leave out --watch and --json.")
    if arguments.count is not None and arguments.log is None and arguments.watch is None:
        raise UsageError("--count ends a series of looks. Give --watch or --log with it.")
    try:
        with Cache(create=False, read_only=arguments.read_only, owner=arguments.owner) as cache:
            if arguments.log is not None:
                _log(cache, arguments)
            else:
                _show(cache, arguments)
    except KeyboardInterrupt:
        if arguments.watch is None and arguments.log is None:
            raise
    return ExitCode.DONE


def _show(cache: Cache, arguments: argparse.Namespace) -> None:
    clears = arguments.watch is not None and not arguments.json and sys.stdout.isatty()
    for _ in _looks(arguments.watch, arguments.count):
        report = take_report(cache, arguments.top)
        text = json.dumps(as_json(report)) if arguments.json else render(report)
        print(_CLEAR_SCREEN + text if clears else text, flush=True)


def _log(cache: Cache, arguments: argparse.Namespace) -> None:
    # Opened for each line: a log that is rotated away meanwhile begins anew.
    for _ in _looks(arguments.every, arguments.count):
        with open(arguments.log, "a", encoding="utf-8") as file:
            print(json.dumps(sample(cache.info(), cache.stats())), file=file)


def _looks(interval: Optional[float], count: Optional[int]) -> Iterator[int]:
    """Yields 0, 1, 2, ... at an interval that does not drift; without an interval once, without a count for ever."""
    started = time.monotonic()
    number = 0
    while True:
        yield number
        number += 1
        if interval is None or number == count:
            return
        time.sleep(max(0.0, started + number * interval - time.monotonic()))
