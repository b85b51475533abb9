"""Until the next release: the earlier name of `memstream.cli.reader`."""

from memstream.cli.reader import main

__all__ = ["main"]
