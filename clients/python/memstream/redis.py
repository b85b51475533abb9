"""MemStream in front of Redis: see `memstream.integrations.redis`."""

from memstream.integrations.redis import AsyncNearCache, NearCache, NearMemoized, NearStats

__all__ = ["AsyncNearCache", "NearCache", "NearMemoized", "NearStats"]
