"""Until the next release: the earlier name of `memstream.cli.writer`."""

from memstream.cli.writer import main

__all__ = ["main"]
