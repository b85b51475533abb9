"""MemStream for Django, under the name that settings use: see `memstream.integrations.django`."""

from memstream.integrations.django import MemStreamCache, check_caches

__all__ = ["MemStreamCache", "check_caches"]
