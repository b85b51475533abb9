"""What the cache tells about itself: entries, statistics, processes."""

from memstream._core.records import Entry, Info, Process, Repair, Stats

__all__ = ["Entry", "Info", "Process", "Repair", "Stats"]
