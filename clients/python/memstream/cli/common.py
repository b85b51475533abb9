"""What the programs share: options, exit codes, errors in one line."""

from __future__ import annotations

import argparse
import io
import os
import sys
from enum import IntEnum
from typing import Callable, Optional, Sequence

from memstream import __version__
from memstream._core.arguments import invalid
from memstream.errors import CacheGone, CacheMiss, ConfigurationError, MemStreamError, NoSegment

EXIT_CODES = """\
exit codes:
  0  done
  1  a key is missing, or a value differs
  2  wrong usage
  3  there is no such segment
  4  refused, or something is corrupt
  130, 141  interrupted; the reader of the output went away
"""


class ExitCode(IntEnum):
    """What a program tells its caller; EXIT_CODES has the words."""

    DONE = 0
    DIFFERENCE = 1
    USAGE = 2
    NO_SEGMENT = 3
    REFUSED = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class UsageError(Exception):
    """The arguments contradict each other or what is on the disk."""


# Option, environment variable that it stands for, name of its value, help.
_SEGMENT_OPTIONS = (
    ("--name", "MEMSTREAM_NAME", "NAME", "which cache"),
    ("--backend", "MEMSTREAM_BACKEND", "BACKEND", "posix or sysv"),
    ("--library", "MEMSTREAM_LIBRARY", "PATH", "the libcache.so to load"),
    ("--timeout-ms", "MEMSTREAM_TIMEOUT_MS", "MS", "longest wait for other processes"),
    ("--hugepages", "MEMSTREAM_HUGEPAGES", "WHETHER", "off, try or require huge pages"),
    ("--prefault", "MEMSTREAM_PREFAULT", "WHETHER", "off or on: take and map memory before it is needed"),
)
_CREATION_OPTIONS = (
    ("--size", "MEMSTREAM_SIZE", "SIZE", "of a new segment, such as 64M or 2G"),
    ("--shards", "MEMSTREAM_SHARDS", "N", "of a new segment"),
    ("--max-value", "MEMSTREAM_MAX_VALUE", "SIZE", "largest value that a new segment must accept"),
    ("--mode", "MEMSTREAM_MODE", "MODE", "permission bits of a new segment, such as 0660"),
    ("--group", "MEMSTREAM_GROUP", "GROUP", "of a new segment: the name or number of a group"),
)


def make_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Returns a parser whose --help ends with examples and exit codes."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def add_segment_options(parser: argparse.ArgumentParser, *, creates: bool) -> None:
    """Adds the options that say which segment; and how to make it, for a program that does.

    Args:
        parser: of the program or of one of its commands.
        creates: whether the program makes an absent segment. One that does not gets --read-only instead.
    """
    group = parser.add_argument_group("segment", "each overrides the environment variable that it names")
    for option, variable, metavar, text in _SEGMENT_OPTIONS + (_CREATION_OPTIONS if creates else ()):
        group.add_argument(option, dest=variable, metavar=metavar, help=f"{text} ({variable})")
    if not creates:
        group.add_argument("--read-only", action="store_true", help="map it for reading only; takes no lock")
        group.add_argument("--owner", metavar="USER", help="whose segment, for root: a user id or name; reads only")


def apply_segment_options(arguments: argparse.Namespace) -> None:
    """Turns the options into the environment that they stand for, so that the library alone parses and refuses."""
    for _, variable, _, _ in _SEGMENT_OPTIONS + _CREATION_OPTIONS:
        value: Optional[str] = getattr(arguments, variable, None)
        if value is not None:
            os.environ[variable] = value


def _refuse_nul(argv: Sequence[str]) -> None:
    """Refuses text that the system would end at its first NUL. A shell passes none, but a caller of `main` may."""
    for argument in argv:
        if "\0" in argument:
            raise UsageError(invalid("argument", argument, "text without a NUL character", "Remove the NUL character"))


def seconds(text: str) -> float:
    """Parses a number of seconds above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(invalid("SECONDS", text, "a number above 0"))
    return number


def natural(text: str) -> int:
    """Parses a whole number above 0, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(invalid("N", text, "a whole number above 0"))
    return number


def port(text: str) -> int:
    """Parses the number of a port, 0 to 65535, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(invalid("PORT", text, "a number from 0 to 65535"))
    return int(text)


def run(parser: argparse.ArgumentParser, argv: Optional[Sequence[str]]) -> int:
    """Runs a program: parses, does what `arguments.action` says, turns every failure into one line and an exit code.

    Args:
        parser: its commands set `action`, a function from the parsed arguments to an exit code.
        argv: the arguments; None: the process's own.

    Returns:
        The exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Keys may hold characters that the terminal cannot show.
    arguments = parser.parse_args(argv)
    action: Callable[[argparse.Namespace], int] = arguments.action
    try:
        _refuse_nul(argv or ())
        apply_segment_options(arguments)
        code = action(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Nothing more can be written, not even what the interpreter would flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        return _fail(parser, "interrupted", ExitCode.INTERRUPTED)
    except (UsageError, ConfigurationError) as error:
        return _fail(parser, str(error), ExitCode.USAGE)
    except (NoSegment, CacheGone) as error:
        return _fail(parser, str(error), ExitCode.NO_SEGMENT)
    except CacheMiss as error:
        return _fail(parser, str(error), ExitCode.DIFFERENCE)
    except (MemStreamError, OSError) as error:
        return _fail(parser, describe(error), ExitCode.REFUSED)


def describe(error: Exception) -> str:
    """Says what an exception is about, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return " ".join(str(error).split())


def _fail(parser: argparse.ArgumentParser, message: str, code: ExitCode) -> int:
    print(f"{parser.prog}: {' '.join(message.split())}", file=sys.stderr)
    return code
