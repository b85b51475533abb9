"""MemStream for cachelib, under the name that settings use: see `memstream.integrations.cachelib`."""

from memstream.integrations.cachelib import MemStreamCache

__all__ = ["MemStreamCache"]
