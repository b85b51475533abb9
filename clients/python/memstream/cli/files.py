"""The files that a user names, and the key of each: the one rule that writing and verifying go by.

The key of a file is its path below the folder that holds the named path, so it begins with the last component of that:
under `/usr/include`, `/usr/include/net/if.h` has the key `include/net/if.h`. A prefix is put in front as it is.
"""

from __future__ import annotations

import hashlib
import os
from typing import Dict, Iterator, List, NamedTuple, Sequence

from memstream.cli.common import UsageError

_CHUNK_SIZE = 1024 * 1024


class SourceFile(NamedTuple):
    """A regular file, or a symbolic link to one."""

    key: bytes
    path: str


class Tree:
    """Every file under some paths, in the order of their names. Walked over once.

    Symbolic links to files are followed, those to folders are not: a tree may be linked into itself.

    Attributes:
        skipped: how many things were met that are no files: dangling links, sockets, FIFOs, devices.
        unreadable: the folders that could not be read.
    """

    def __init__(self, paths: Sequence[str], prefix: str = "") -> None:
        """Looks at the paths, not yet below them.

        Args:
            paths: files or folders.
            prefix: put in front of each key.

        Raises:
            UsageError: one does not exist; or two would give equal keys to different files.
        """
        self.skipped = 0
        self.unreadable: List[OSError] = []
        self._prefix = os.fsencode(prefix)
        roots: Dict[str, str] = {}
        for path in [os.path.abspath(path) for path in paths]:
            if not os.path.exists(path):
                raise UsageError(f"{path}: no such file or folder")
            name = os.path.basename(path)
            if roots.setdefault(name, path) != path:
                raise UsageError(
                    f"{roots[name]} and {path} would share keys. Load them one by one, each with a --prefix of its own."
                )
        self._roots = list(roots.values())

    def __iter__(self) -> Iterator[SourceFile]:
        for root in self._roots:
            parent = os.path.dirname(root)
            cut = len(parent) if parent.endswith("/") else len(parent) + 1
            for path in self._walk(root):
                if os.path.isfile(path):
                    yield SourceFile(self._prefix + os.fsencode(path[cut:]), path)
                else:
                    self.skipped += 1

    def _walk(self, root: str) -> Iterator[str]:
        if not os.path.isdir(root):
            yield root
            return
        for folder, folders, names in os.walk(root, onerror=self.unreadable.append):
            folders.sort()
            for name in sorted(names):
                yield os.path.join(folder, name)


def digest_of_file(path: str) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK_SIZE), b""):
            digest.update(chunk)
    return digest.hexdigest()
