"""Seeded bugs: one change of one source file each, which some suite has to catch."""

from pathlib import Path
from typing import NamedTuple


class Stale(Exception):
    """The table of mutants no longer fits the sources."""


class Mutant(NamedTuple):
    """One seeded bug."""

    name: str
    breaks: str  # What the change takes away, as a sentence.
    file: str  # Relative to the root.
    original: str  # Stands in the file exactly once.
    replacement: str
    suites: tuple[str, ...]  # Expected to catch it; the runner tries these first.

    def mutated(self, root: Path) -> str:
        """The text of the file with the bug in it. Raises Stale if the original is not there exactly once."""
        text = (root / self.file).read_text(encoding="utf-8")
        count = text.count(self.original)
        if count != 1:
            raise Stale(
                f"the mutant {self.name} is stale: its original text stands {count} times in {self.file} instead of "
                f"once; bring tests/mutants/ up to date with the source"
            )
        return text.replace(self.original, self.replacement)
