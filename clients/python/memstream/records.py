"""What the cache tells about itself: entries, statistics, processes."""

from memstream._core.records import Entry, Info, Process, Stats

__all__ = ["Entry", "Info", "Process", "Stats"]
