"""Flask-Caching's backend in shared memory.

    app.config["CACHE_TYPE"] = "memstream.flask_caching.MemStreamCache"
    app.config["CACHE_MEMSTREAM_NAME"] = "site"         # Without it MEMSTREAM_NAME, or "default".
    app.config["CACHE_KEY_PREFIX"] = "site:"            # Or a function, which is called for each operation.
    app.config["CACHE_OPTIONS"] = {"size": 512 * 1024 * 1024}
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from flask_caching.backends.base import BaseCache

from memstream.integrations.cachelib import MemStreamCache as CachelibCache


class MemStreamCache(CachelibCache, BaseCache):
    """A backend of Flask-Caching; its methods are those of `memstream.cachelib`."""

    _adapter = "flask_caching"

    def delete_many(self, *keys: str) -> List[str]:
        """Removes keys.

        Without CACHE_IGNORE_ERRORS it stops at the first absent key, as Flask-Caching has it, and goes one by one.

        Args:
            keys: the keys, without the prefix.

        Returns:
            Those that were there.

        Source: memstream_delete_many. Without CACHE_IGNORE_ERRORS it stops at the first absent key, as Flask-Caching
            has it, and goes one by one.
        """
        if self.ignore_errors:
            return super().delete_many(*keys)
        one_by_one: Callable[..., List[str]] = BaseCache.delete_many
        return one_by_one(self, *keys)

    def unlink(self, *keys: str) -> int:
        """Removes keys, also after an absent one.

        Args:
            keys: the keys, without the prefix.

        Returns:
            How many were there.

        Source: memstream_delete_many.
        """
        return len(super().delete_many(*keys))

    @classmethod
    def factory(cls, app: Any, config: Dict[str, Any], args: List[Any], kwargs: Dict[str, Any]) -> "MemStreamCache":
        """Makes the backend of an application; called by Flask-Caching.

        Args:
            app: not used.
            config: the application's settings.
            args: CACHE_ARGS; the first of them is the name.
            kwargs: CACHE_OPTIONS and CACHE_DEFAULT_TIMEOUT; the options of `memstream.Cache`, `serializer` and
                `ignore_errors`, which CACHE_IGNORE_ERRORS sets too.

        Returns:
            The backend.
        """
        if not args:
            kwargs.setdefault("name", config.get("CACHE_MEMSTREAM_NAME"))
        kwargs.setdefault("key_prefix", config.get("CACHE_KEY_PREFIX"))
        kwargs.setdefault("ignore_errors", bool(config.get("CACHE_IGNORE_ERRORS")))
        made = cls(*args, **kwargs)
        made.ignore_errors = kwargs["ignore_errors"]
        return made
