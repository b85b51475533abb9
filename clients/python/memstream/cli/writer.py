"""writer: puts values, files and JSON lines into the cache."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from typing import BinaryIO, Optional, Sequence

from memstream.cache import Cache
from memstream.cli.acknowledgements import AcknowledgementLog
from memstream.cli.common import ExitCode, UsageError, add_segment_options, describe, make_parser, run, seconds
from memstream.cli.files import SourceFile, Tree
from memstream.cli.loading import Loader, store_file
from memstream.cli.progress import Progress
from memstream.cli.text import format_size, printable

_EXAMPLES = """\
  writer.py put greeting 'hello, world'
  tar c notes | writer.py put notes.tar --file -
  writer.py load /usr/include --ttl 3600
  writer.py load --jsonl users.jsonl --key id --prefix user:
"""

_LOAD_DESCRIPTION = """\
Stores every file under the paths. The key of a file is its path below the folder that holds PATH, so it begins with the
last component of PATH: `load /usr/include` stores include/stdio.h and so on. Links to files are followed, links to
folders are not.

With --jsonl, every line of FILE is a value, stored without its line end; its key is the field that --key names, a
string or a whole number.
"""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the program.

    Args:
        argv: the arguments; None: the process's own.

    Returns:
        The exit code.
    """
    return run(_make_parser(), argv)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "Puts values, files and JSON lines into a MemStream cache; makes it if it is absent.", _EXAMPLES
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    put = commands.add_parser("put", help="store one value", description="Stores one value.")
    put.add_argument("key", metavar="KEY")
    put.add_argument("value", metavar="VALUE", nargs="?", help="the value itself")
    put.add_argument("--file", metavar="PATH", help="or the bytes of this file; - is standard input")
    put.set_defaults(action=_put)

    load = commands.add_parser(
        "load",
        help="store files, or the lines of a JSON lines file",
        description=_LOAD_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    load.add_argument("paths", metavar="PATH", nargs="*", help="a file or a folder")
    load.add_argument("--jsonl", metavar="FILE", help="instead of paths: a file of JSON lines; - is standard input")
    load.add_argument("--key", dest="field", metavar="FIELD", help="with --jsonl: the field that holds the key")
    load.add_argument("--prefix", metavar="P", default="", help="put in front of every key")
    load.add_argument(
        "--log",
        metavar="FILE",
        help="append a JSON line (key, size, sha256) for each key as soon as the cache has accepted it; "
        "`reader.py verify --log FILE` checks them",
    )
    load.set_defaults(action=_load)

    for command in (put, load):
        command.add_argument("--ttl", metavar="SECONDS", type=seconds, help="time to live; without it, for ever")
        add_segment_options(command, creates=True)
    return parser


def _put(arguments: argparse.Namespace) -> int:
    if (arguments.value is None) == (arguments.file is None):
        raise UsageError("put expects one of VALUE and --file PATH. Give exactly one.")
    key = os.fsencode(arguments.key)
    with Cache() as cache:
        if arguments.file is not None and arguments.file != "-":
            size, _ = store_file(cache, SourceFile(key, arguments.file), arguments.ttl, wants_digest=False)
        else:
            value = os.fsencode(arguments.value) if arguments.file is None else sys.stdin.buffer.read()
            cache.set(key, value, arguments.ttl)
            size = len(value)
    print(f"stored {printable(key)}: {format_size(size)}")
    return ExitCode.DONE


def _load(arguments: argparse.Namespace) -> int:
    if bool(arguments.paths) == (arguments.jsonl is not None):
        raise UsageError("load expects one of PATH... and --jsonl FILE. Give exactly one.")
    if (arguments.jsonl is None) != (arguments.field is None):
        raise UsageError("--jsonl FILE and --key FIELD go together. Give both, or none.")
    return _load_files(arguments) if arguments.paths else _load_lines(arguments)


def _load_files(arguments: argparse.Namespace) -> int:
    tree = Tree(arguments.paths, arguments.prefix)
    files = list(tree)
    with ExitStack() as stack:
        progress = Progress("files", len(files))
        loader = _start_loading(arguments, progress, stack)
        loader.skipped = tree.skipped
        for error in tree.unreadable:
            loader.refuse(f"folder {error.filename}", error.strerror or "unreadable", describe(error))
        for file in files:
            loader.store_file(file)
    return ExitCode.REFUSED if loader.refusals else ExitCode.DONE


def _load_lines(arguments: argparse.Namespace) -> int:
    with ExitStack() as stack:
        file: BinaryIO = (
            sys.stdin.buffer if arguments.jsonl == "-" else stack.enter_context(open(arguments.jsonl, "rb"))
        )
        loader = _start_loading(arguments, Progress("lines"), stack)
        loader.store_lines(file, arguments.field, os.fsencode(arguments.prefix))
    return ExitCode.REFUSED if loader.refusals else ExitCode.DONE


def _start_loading(arguments: argparse.Namespace, progress: Progress, stack: ExitStack) -> Loader:
    """Opens cache and log; at the end of `stack`, however that comes, the summary is printed and both are closed."""
    cache = stack.enter_context(Cache())
    log = None
    if arguments.log is not None:
        log = AcknowledgementLog(arguments.log)
        stack.callback(log.close)
    loader = Loader(cache, progress, arguments.ttl, log)
    stack.callback(lambda: print(loader.summary()))
    stack.callback(progress.finish)
    return loader
