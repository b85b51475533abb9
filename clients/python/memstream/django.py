"""MemStream for Django, under the names that settings use: see `memstream.integrations.django` and `near_django`."""

from typing import Any

from memstream.integrations.django import MemStreamCache, check_caches

__all__ = ["MemStreamCache", "NearRedisCache", "check_caches", "check_near_caches"]  # noqa: F822

_NEAR = ("NearRedisCache", "check_near_caches")


def __getattr__(name: str) -> Any:
    """Imports what needs redis-py when it is asked for."""
    if name not in _NEAR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memstream.integrations import near_django

    return getattr(near_django, name)
