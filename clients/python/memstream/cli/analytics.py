"""analytics: shows what is in a cache and how it does, without changing it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Iterator, List, Optional, Sequence

from memstream.cache import Cache
from memstream.cli.command import become, run_and_wait
from memstream.cli.common import ExitCode, UsageError, add_segment_options, make_parser, natural, port, run, seconds
from memstream.cli.report import Report, as_json, render, sample, take_report

_EXAMPLES = """\
  analytics.py
  analytics.py --top 20 --watch 2
  analytics.py --json | jq .hit_ratio
  analytics.py --log samples.jsonl --every 10 --count 360
  analytics.py --serve --port 8080
  analytics.py --html cache.html
  analytics.py --prometheus --port 9300
"""

_DESCRIPTION = """\
Shows hit ratio, entries, memory, evictions and expirations of a MemStream cache, and its top keys by accesses, size and
recency; with --watch also the rates of each interval. Looking counts no access and changes nothing; it never makes a
cache. The page and the metrics come from the memstream command, which lies beside libcache.so or in PATH.
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
    pages = parser.add_argument_group("pages", "instead of a screen; docs/cli.md describes them")
    which = pages.add_mutually_exclusive_group()
    which.add_argument("--serve", action="store_true", help="show the cache in a browser, until Ctrl-C")
    which.add_argument("--html", metavar="FILE", help="write the page, with what it shows now, into one file")
    which.add_argument("--prometheus", action="store_true", help="serve metrics to Prometheus, until Ctrl-C")
    pages.add_argument("--port", metavar="PORT", type=port, help="to serve at (8080; 9300 with --prometheus)")
    pages.add_argument("--host", metavar="ADDRESS", help="to serve at (127.0.0.1)")
    pages.add_argument("--allow-host", metavar="NAME", action="append", help="a name by which clients call the server")
    pages.add_argument("--show-values", action="store_true", help="with --serve: values to those who have the token")
    pages.add_argument(
        "--allow-writes", action="store_true", help="with --serve: delete and touch keys, with the token"
    )
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
    for option in ("port", "host", "allow_host", "show_values", "allow_writes"):
        is_given = getattr(arguments, option) not in (None, False)
        if is_given and not arguments.serve and not arguments.prometheus:
            raise UsageError(f"--{option.replace('_', '-')} belongs to a server. Give --serve or --prometheus with it.")
    if arguments.serve or arguments.prometheus or arguments.html is not None:
        return _show_page(arguments)
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


def _show_page(arguments: argparse.Namespace) -> int:
    """Has the memstream command do what it is asked for. The environment says which cache."""
    if arguments.json or arguments.watch is not None or arguments.log is not None:
        raise UsageError(
            "--serve, --html and --prometheus go without --json, --watch and --log. Leave out one of them."
        )
    if arguments.owner is not None:
        raise UsageError("--owner is for the screen only. Run the command as that user instead.")
    words: List[str] = ["--read-only"] if arguments.read_only else []
    if arguments.html is not None:
        return run_and_wait("report", arguments.html, *words)
    if arguments.prometheus:
        if arguments.show_values or arguments.allow_writes:
            raise UsageError("--show-values and --allow-writes need a page. Give --serve instead of --prometheus.")
        words.append("--metrics-only")
    default_port = 9300 if arguments.prometheus else 8080
    words += ["--port", str(default_port if arguments.port is None else arguments.port)]
    if arguments.host is not None:
        words += ["--host", arguments.host]
    for name in arguments.allow_host or ():
        words += ["--allow-host", name]
    words += [
        f"--{option}" for option in ("show-values", "allow-writes") if getattr(arguments, option.replace("-", "_"))
    ]
    become("serve", *words)


def _show(cache: Cache, arguments: argparse.Namespace) -> None:
    clears = arguments.watch is not None and not arguments.json and sys.stdout.isatty()
    before: Optional[Report] = None
    for _ in _looks(arguments.watch, arguments.count):
        report = take_report(cache, arguments.top)
        text = json.dumps(as_json(report)) if arguments.json else render(report, before)
        before = report
        print(_CLEAR_SCREEN + text if clears else text, flush=True)


def _log(cache: Cache, arguments: argparse.Namespace) -> None:
    # Opened for each line: a log that is rotated away meanwhile begins anew.
    for _ in _looks(arguments.every, arguments.count):
        with open(arguments.log, "a", encoding="utf-8") as file:
            print(json.dumps(sample(cache.info(), cache.stats(), cache.usage(), cache.invalidations())), file=file)


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
