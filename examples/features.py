#!/usr/bin/env python3
"""A feature cache for ML workers: numpy rows that all processes of a machine compute once.

    features.py USER...     prints the row of each user, and how many rows this process computed

`rows()` fetches a batch in one call and computes what is missing in one call of the model. `table()` gives a large
array, such as embeddings, in place: one process loads it, and no process has a copy of its own.
"""

import sys
from typing import Any, Callable, Sequence

import numpy

from memstream import Cache


class FeatureCache:
    """Rows of `width` numbers of 32 bits. Give the model another version when it changes."""

    def __init__(self, cache: Cache, width: int, compute: Callable[[Sequence[str]], Any], version: str = "1") -> None:
        self.cache = cache
        self.width = width
        self.compute = compute
        self.version = version
        self.computed = 0

    def rows(self, users: Sequence[str], ttl: float = 3600) -> Any:
        """A matrix with a row for each user, in the order of the users."""
        keys = [f"row:{self.version}:{user}" for user in users]
        found = self.cache.get_many(keys)
        missing = {key: user for key, user in zip(keys, users) if key not in found}
        if missing:
            made = numpy.ascontiguousarray(self.compute(list(missing.values())), dtype="<f4")
            if made.shape != (len(missing), self.width):
                raise ValueError(f"Invalid rows of shape {made.shape}: expected {(len(missing), self.width)}.")
            self.computed += len(missing)
            new = {key: row.tobytes() for key, row in zip(missing, made)}
            self.cache.set_many(new, ttl=ttl)
            found.update(new)
        return numpy.frombuffer(b"".join(found[key] for key in keys), "<f4").reshape(len(keys), self.width)

    def table(self, name: str, load: Callable[[], Any], patience: float = 60) -> Any:
        """A read-only array in shared memory. One process loads it, and the others wait for that."""
        key = f"table:{self.version}:{name}"
        while True:
            try:
                return self.cache.array(key)
            except KeyError:
                pass
            # A lock ends with its holder: if a process dies while it loads, the next one loads.
            with self.cache.lock(f"load:{key}", timeout=patience):
                if key not in self.cache:
                    self.cache.put_array(key, load())


def spread(users: Sequence[str]) -> Any:
    """Stands for your model."""
    return [[len(user), user.count("a")] for user in users]


if __name__ == "__main__":
    with Cache() as shared:
        features = FeatureCache(shared, width=2, compute=spread)
        for name, values in zip(sys.argv[1:], features.rows(sys.argv[1:])):
            print(name, *values)
        print("computed", features.computed)
