"""MemStream in front of Redis: see `memstream.integrations.redis`."""

from memstream.integrations.redis import NearCache, NearStats

__all__ = ["NearCache", "NearStats"]
