"""reader: gets values out of the cache, lists keys, compares files with it, watches keys."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import BinaryIO, Optional, Sequence

from memstream.cache import Cache
from memstream.cli.acknowledgements import read_log
from memstream.cli.common import ExitCode, UsageError, add_segment_options, make_parser, natural, run, seconds
from memstream.cli.files import Tree
from memstream.cli.text import format_instant, format_size, printable
from memstream.cli.verification import Verification

_EXAMPLES = """\
  reader.py get greeting
  reader.py get notes.tar --out notes.tar
  reader.py keys --prefix include/net/
  reader.py verify /usr/include
  reader.py watch greeting --interval 0.2
  reader.py watch --prefix include/net/
"""

_VERIFY_DESCRIPTION = """\
Compares every file under the paths with the cache, by SHA-256. Files have the keys that `writer.py load` gives them.
With --log, compares what a writer's log says was accepted instead: the files need not be there, or unchanged.
Names every key that differs or is missing; exit code 1 if there is one.
"""

_WATCH_DESCRIPTION = """\
Prints a line now and at every change of KEY. With --prefix, prints a line for each key under it that changes, as soon
as it has changed. "look again" says that any of them may have changed, more than can be named.
"""

_PREVIEW_SIZE = 60


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the program.

    Args:
        argv: the arguments; None: the process's own.

    Returns:
        The exit code.
    """
    return run(_make_parser(), argv)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("Gets values out of a MemStream cache; never makes one.", _EXAMPLES)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    get = commands.add_parser(
        "get", help="write a value to standard output", description="Writes the bytes of a value."
    )
    get.add_argument("key", metavar="KEY")
    get.add_argument("--out", metavar="PATH", help="to this file instead of standard output")
    get.set_defaults(action=_get)

    keys = commands.add_parser("keys", help="list the keys", description="Writes every key, as it is, with a newline.")
    keys.add_argument("--prefix", metavar="P", default="", help="only those that begin with this")
    keys.set_defaults(action=_keys)

    verify = commands.add_parser(
        "verify",
        help="compare files with the cache",
        description=_VERIFY_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("paths", metavar="PATH", nargs="*", help="a file or a folder")
    verify.add_argument("--prefix", metavar="P", default="", help="what the writer put in front of every key")
    verify.add_argument("--log", metavar="FILE", help="instead of paths: the log of `writer.py load --log FILE`")
    verify.set_defaults(action=_verify)

    watch = commands.add_parser(
        "watch",
        help="print a line whenever a value changes",
        description=_WATCH_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    watch.add_argument("key", metavar="KEY", nargs="?")
    watch.add_argument("--prefix", metavar="P", help="instead of KEY: all keys that begin with this")
    watch.add_argument("--interval", metavar="SECONDS", type=seconds, default=0.5, help="between looks at KEY (0.5)")
    watch.add_argument("--count", metavar="N", type=natural, help="end after N lines; without it, at Ctrl-C")
    watch.set_defaults(action=_watch)

    for command in (get, keys, verify, watch):
        add_segment_options(command, creates=False)
    return parser


def _open(arguments: argparse.Namespace) -> Cache:
    return Cache(create=False, read_only=arguments.read_only, owner=arguments.owner)


def _standard_output() -> BinaryIO:
    """Opens standard output for bytes. Under `python -u`, `sys.stdout.buffer` would not write large values whole."""
    return open(sys.stdout.fileno(), "wb", closefd=False)


def _get(arguments: argparse.Namespace) -> int:
    with _open(arguments) as cache, cache.view(os.fsencode(arguments.key)) as memory:
        # Opened after the view: a miss must leave the file as it was.
        with open(arguments.out, "wb") if arguments.out else _standard_output() as out:
            out.write(memory)
    return ExitCode.DONE


def _keys(arguments: argparse.Namespace) -> int:
    with _open(arguments) as cache, _standard_output() as out:
        for entry in cache.scan(os.fsencode(arguments.prefix)):
            out.write(entry.key + b"\n")
    return ExitCode.DONE


def _verify(arguments: argparse.Namespace) -> int:
    if bool(arguments.paths) == (arguments.log is not None):
        raise UsageError("verify expects one of PATH... and --log FILE. Give exactly one.")
    with _open(arguments) as cache:
        verification = Verification(cache)
        if arguments.log is not None:
            acknowledged = read_log(arguments.log)
            for key, sha256 in acknowledged.digests.items():
                verification.compare(key, sha256)
            if acknowledged.unfinished:
                print(f"passed over {acknowledged.unfinished} unfinished lines of the log")
            return verification.finish("keys")
        tree = Tree(arguments.paths, arguments.prefix)
        for file in tree:
            verification.compare_file(file)
        for error in tree.unreadable:
            verification.fail(error)
        return verification.finish("files")


def _watch(arguments: argparse.Namespace) -> int:
    if (arguments.key is None) == (arguments.prefix is None):
        raise UsageError("watch expects one of KEY and --prefix P. Give exactly one.")
    try:
        return _watch_key(arguments) if arguments.prefix is None else _watch_prefix(arguments)
    except KeyboardInterrupt:
        return ExitCode.DONE


def _watch_prefix(arguments: argparse.Namespace) -> int:
    prefix = os.fsencode(arguments.prefix)
    with _open(arguments) as cache, cache.watch(prefix or None) as watch:
        print(f"watching {printable(prefix) or 'all keys'}", flush=True)
        for line, key in enumerate(watch, 1):
            what = "look again" if key is None else f"{printable(key)} {_state_of(cache, key)}"
            print(f"{format_instant(time.time())} {what}", flush=True)
            if line == arguments.count:
                break
    return ExitCode.DONE


def _watch_key(arguments: argparse.Namespace) -> int:
    key = os.fsencode(arguments.key)
    lines = 0
    seen: Optional[int] = -1  # No token is negative: the first look is a change.
    with _open(arguments) as cache:
        while True:
            # The token alone tells of a change, and looking at it counts no access.
            entry = cache.entry(key)
            token = entry.token if entry else None
            if token != seen:
                seen = token
                print(f"{format_instant(time.time())} {_state_of(cache, key)}", flush=True)
                lines += 1
                if lines == arguments.count:
                    return ExitCode.DONE
            time.sleep(arguments.interval)


def _state_of(cache: Cache, key: bytes) -> str:
    value = cache.get(key)
    if value is None:
        return "absent"
    preview = printable(value[:_PREVIEW_SIZE])
    return f"{format_size(len(value))}: {preview}" + ("…" if len(value) > _PREVIEW_SIZE else "")
