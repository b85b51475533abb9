#!/usr/bin/env python3
"""A rate limiter that all workers of a machine share: so many requests of a client in each window.

    rate_limiter.py CLIENT...     asks once for each, and prints "allowed" or "refused"

A counter lives as long as its window, and counting is one step of the cache: no request is counted twice or lost.
"""

import sys
import time

from memstream import Cache


class RateLimiter:
    """At most `limit` requests of a client in each window of `seconds`."""

    def __init__(self, cache: Cache, limit: int, seconds: float) -> None:
        self.cache = cache
        self.limit = limit
        self.seconds = seconds

    def allows(self, client: str) -> bool:
        window = int(time.time() / self.seconds)
        return self.cache.incr(f"rate:{client}:{window}", initial=0, ttl=2 * self.seconds) <= self.limit


if __name__ == "__main__":
    with Cache() as shared:
        limiter = RateLimiter(shared, limit=3, seconds=60)
        for name in sys.argv[1:]:
            print(name, "allowed" if limiter.allows(name) else "refused")
