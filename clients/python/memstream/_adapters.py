"""What the adapters to other frameworks share: one attachment per process, and keys of any length.

Frameworks make their cache objects as they please, Django one in each thread; all those with the same options share one
open cache here. It is opened at the first use and lives as long as the process. A forked child goes on with it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Optional, Tuple

from memstream._abi import MAX_KEY_SIZE
from memstream.errors import CacheGone
from memstream.objects import ObjectCache

_DIGEST_SIZE = 64

_open: Dict[Tuple[Any, ...], ObjectCache] = {}


class SharedCache:
    """The process's cache of these options; after the segment was destroyed, a new one."""

    def __init__(self, name: Optional[str], options: Dict[str, Any]) -> None:
        """Notes what to open; opens nothing yet.

        Args:
            name, options: as for `ObjectCache`.
        """
        self._name = name
        self._options = options
        self._identity = (name, *sorted(options.items(), key=lambda item: item[0]))

    @property
    def cache(self) -> ObjectCache:
        """The open cache."""
        found = _open.get(self._identity)
        if found is None:
            # Two threads may both open it: the first one's stays. No lock, which a fork could leave locked for ever.
            found = _open.setdefault(self._identity, ObjectCache(self._name, **self._options))
        return found

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Calls a method of the cache. If somebody has destroyed the segment, makes a new one and calls again."""
        cache = self.cache
        try:
            return getattr(cache, method)(*arguments, **options)
        except CacheGone:
            if _open.get(self._identity) is cache:
                _open.pop(self._identity, None)
            return getattr(self.cache, method)(*arguments, **options)


def bounded_key(key: str) -> bytes:
    """Returns a key as bytes; one that is longer than the library takes ends in a digest of the whole."""
    name = key.encode("utf-8", "surrogatepass")
    if len(name) <= MAX_KEY_SIZE:
        return name
    digest = hashlib.sha256(name).hexdigest().encode()
    return name[: MAX_KEY_SIZE - _DIGEST_SIZE] + digest
