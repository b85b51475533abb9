"""MemStream for dogpile.cache, under the name that settings use: see `memstream.integrations.dogpile`."""

from memstream.integrations.dogpile import MemStreamBackend, Mutex

__all__ = ["MemStreamBackend", "Mutex"]
