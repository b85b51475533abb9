#!/usr/bin/env python3
"""Settings that one process publishes and all others follow, without a message to any of them.

    config_broadcaster.py '{"limit": 5}'     publishes new settings
    config_broadcaster.py                    prints those of now

A reader asks the cache for the settings' token, which takes about a microsecond, and decodes them only after a change.
"""

import json
import sys
from typing import Any, Dict, Optional

from memstream import Cache

KEY = "config"


class Settings:
    """The settings of now, for a reader that asks often."""

    def __init__(self, cache: Cache, default: Optional[Dict[str, Any]] = None) -> None:
        self.cache = cache
        self._default = default or {}
        self._token: Optional[int] = None
        self._values = self._default
        self.decoded = 0

    def now(self) -> Dict[str, Any]:
        value, token = self.cache.gets(KEY)
        if token is None:
            self._token, self._values = None, self._default  # Nothing is published, or the cache has evicted it.
        elif token != self._token:
            self._token, self._values = token, json.loads(value)
            self.decoded += 1
        return self._values


def publish(cache: Cache, settings: Dict[str, Any]) -> None:
    cache.set(KEY, json.dumps(settings).encode())


if __name__ == "__main__":
    with Cache() as shared:
        if len(sys.argv) > 1:
            publish(shared, json.loads(sys.argv[1]))
        else:
            print(json.dumps(Settings(shared).now()))
