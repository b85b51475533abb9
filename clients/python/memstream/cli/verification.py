"""Comparing what the cache holds with what it should hold, by SHA-256."""

from __future__ import annotations

import hashlib
import time

from memstream.cache import Cache
from memstream.cli.common import ExitCode, describe
from memstream.cli.files import SourceFile, digest_of_file
from memstream.cli.text import format_size, printable
from memstream.errors import CacheMiss


class Verification:
    """Looks at one key after the other, names what is not as it should be, and counts."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._started = time.monotonic()
        self._size_bytes = 0
        self._same = self._different = self._missing = self._unreadable = 0

    def compare_file(self, file: SourceFile) -> None:
        """Compares a file with the value of its key."""
        try:
            sha256 = digest_of_file(file.path)
        except OSError as error:
            self.fail(error)
        else:
            self.compare(file.key, sha256)

    def compare(self, key: bytes, sha256: str) -> None:
        """Compares the digest of a value, made over a view so that no value is copied, with what it should be."""
        try:
            with self._cache.view(key) as memory:
                self._size_bytes += len(memory)
                found = hashlib.sha256(memory).hexdigest()
        except CacheMiss:
            self._missing += 1
            print(f"missing {printable(key)}")
            return
        if found == sha256:
            self._same += 1
        else:
            self._different += 1
            print(f"different {printable(key)}")

    def fail(self, error: OSError) -> None:
        """Counts and names a file or a folder that cannot be read."""
        self._unreadable += 1
        print(f"unreadable {describe(error)}")

    def finish(self, noun: str) -> ExitCode:
        """Prints the summary.

        Args:
            noun: what was compared, in the plural.

        Returns:
            What the program ends with.
        """
        took = max(time.monotonic() - self._started, 1e-9)
        print(
            f"verified {self._same + self._different + self._missing} {noun}, "
            f"{format_size(self._size_bytes)} ({self._size_bytes} bytes) in {took:.2f} s, "
            f"{format_size(self._size_bytes / took)}/s: "
            f"{self._same} same, {self._different} different, {self._missing} missing, {self._unreadable} unreadable"
        )
        if self._different or self._missing:
            return ExitCode.DIFFERENCE
        return ExitCode.REFUSED if self._unreadable else ExitCode.DONE
