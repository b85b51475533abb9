"""What the cache tells about itself: entries, statistics, processes."""

from memstream._core.records import Entry, Histogram, Info, Metrics, Process, Repair, Stats

__all__ = ["Entry", "Histogram", "Info", "Metrics", "Process", "Repair", "Stats"]
