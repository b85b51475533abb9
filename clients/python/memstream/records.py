"""What the cache tells about itself: entries, statistics, processes."""

from memstream._core.records import Entry, Histogram, Info, LockHolder, Metrics, Process, Repair, Stats, Usage

__all__ = ["Entry", "Histogram", "Info", "LockHolder", "Metrics", "Process", "Repair", "Stats", "Usage"]
