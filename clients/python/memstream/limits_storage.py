"""MemStream for `limits` and Flask-Limiter, under the name that users import: see `memstream.integrations`."""

from memstream.integrations.limits_storage import MemStreamStorage

__all__ = ["MemStreamStorage"]
