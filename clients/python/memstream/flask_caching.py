"""MemStream for Flask-Caching, under the name that settings use: see `memstream.integrations.flask_caching`."""

from memstream.integrations.flask_caching import MemStreamCache

__all__ = ["MemStreamCache"]
