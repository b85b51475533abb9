"""Until the next release: the earlier name of `memstream.cli.analytics`."""

from memstream.cli.analytics import main

__all__ = ["main"]
