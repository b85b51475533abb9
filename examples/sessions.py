#!/usr/bin/env python3
"""Sessions of a web application, which all workers of a machine share.

A session is a dict under a random name. Each visit renews its time to live, and a change is lost to nobody: it goes by
compare-and-set, so two requests of one visitor do not overwrite each other.
"""

import secrets
from typing import Any, Callable, Dict, Optional

from memstream import Cache

Session = Dict[str, Any]


class Sessions:
    """Sessions in a cache that was opened with serializer="json"."""

    def __init__(self, cache: Cache, seconds: float = 1800) -> None:
        self.cache = cache
        self.seconds = seconds

    def create(self, **values: Any) -> str:
        """Returns the name of a new session, for a cookie."""
        while not self.cache.add(f"session:{(name := secrets.token_urlsafe(24))}", values, ttl=self.seconds):
            pass
        return name

    def load(self, name: str) -> Optional[Session]:
        """The session, and another `seconds` to live; None if there is none."""
        session: Optional[Session] = self.cache.get(f"session:{name}")
        if session is not None:
            self.cache.touch(f"session:{name}", self.seconds)
        return session

    def change(self, name: str, change: Callable[[Session], None]) -> bool:
        """Applies a change to the session as it is by then. False: there is none."""
        while True:
            session, token = self.cache.gets(f"session:{name}")
            if token is None:
                return False
            change(session)
            if self.cache.cas(f"session:{name}", session, token, ttl=self.seconds):
                return True

    def end(self, name: str) -> None:
        self.cache.delete(f"session:{name}")
