"""Running the memstream command, which makes the page and the metrics."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from memstream._core import library
from memstream.cli.common import UsageError

_NAME = "memstream"


def find_command() -> str:
    """Returns the path of the command.

    It is looked for beside libcache.so, in bin/ beside the folder of libcache.so, and in PATH.

    Raises:
        UsageError: it is in none of these places.
    """
    folder = Path(library.load().path).resolve().parent
    for place in (folder / _NAME, folder.parent / "bin" / _NAME):
        if place.is_file() and os.access(place, os.X_OK):
            return str(place)
    found = shutil.which(_NAME)
    if found is None:
        raise UsageError(
            f"The command {_NAME} is neither beside {library.load().path} nor in PATH. "
            "Build it with scripts/build.sh of the repository, and name its libcache.so in MEMSTREAM_LIBRARY"
        )
    return found


def become(*words: str) -> NoReturn:
    """Replaces this process by the command: it gets the signals, and its exit code is this one's.

    Args:
        words: the arguments of the command.

    Raises:
        UsageError: the command is in none of the places where it is looked for.
        OSError: the system does not run it.
    """
    path = find_command()
    os.execv(path, [_NAME, *words])


def run_and_wait(*words: str) -> int:
    """Runs the command to its end.

    Args:
        words: the arguments of the command.

    Returns:
        Its exit code, which means the same as one of these programs.

    Raises:
        UsageError: the command is in none of the places where it is looked for.
    """
    return subprocess.run([find_command(), *words], check=False).returncode
