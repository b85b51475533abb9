"""Stores that live in the process or in files: a dict, LMDB, TDB, diskcache."""

from __future__ import annotations

import os
from typing import Any

import diskcache
import lmdb
import tdb

from contender import Contender, Session
from data import DataSet

# Of a sparse file: what is not used costs nothing.
_MAP_BYTES = 4 << 30


class Dict(Contender):
    """A dict of this process: no copy, no lock, nobody else sees it."""

    name = "dict"
    shared = False

    def fill(self, data: DataSet) -> None:
        self._values = dict(data.pairs())

    def open(self) -> Session:
        values = self._values

        def get_many(keys: list[bytes]) -> dict[bytes, bytes]:
            return {key: values[key] for key in keys}

        return Session(values.get, values.__setitem__, get_many)


class Lmdb(Contender):
    """py-lmdb in memory: a transaction for each call, no syncing."""

    name = "lmdb"

    def _environment(self) -> Any:
        path = str(self.scratch / self.name)
        options = {"sync": False, "metasync": False, "map_async": True, "writemap": True, "meminit": False}
        return lmdb.open(path, map_size=_MAP_BYTES, max_spare_txns=4, **options)

    def fill(self, data: DataSet) -> None:
        environment = self._environment()
        with environment.begin(write=True) as transaction:
            for key, value in data.pairs():
                transaction.put(key, value)
        environment.close()

    def open(self) -> Session:
        begin = self._environment().begin

        def get(key: bytes) -> Any:
            with begin() as transaction:
                return transaction.get(key)

        def store(key: bytes, value: bytes) -> None:
            with begin(write=True) as transaction:
                transaction.put(key, value)

        def get_many(keys: list[bytes]) -> Any:
            with begin() as transaction:
                return transaction.cursor().getmulti(keys)

        return Session(get, store, get_many, pairs=lambda result, keys: dict(result))


class Tdb(Contender):
    """TDB in memory, without syncing."""

    name = "tdb"

    def _open(self, keys: int) -> Any:
        path = str(self.scratch / self.name)
        return tdb.Tdb(path, 2 * keys + 1, tdb.NOSYNC | tdb.INCOMPATIBLE_HASH, os.O_RDWR | os.O_CREAT, 0o600)

    def fill(self, data: DataSet) -> None:
        self._keys = data.count
        file = self._open(self._keys)
        for key, value in data.pairs():
            file.store(key, value)
        file.close()

    def open(self) -> Session:
        file = self._open(self._keys)
        return Session(file.get, file.store)


class DiskCache(Contender):
    """diskcache as it comes, in memory, but without a limit of its size."""

    name = "diskcache"

    def _open(self) -> Any:
        return diskcache.Cache(str(self.scratch / self.name), eviction_policy="none", size_limit=_MAP_BYTES)

    def fill(self, data: DataSet) -> None:
        with self._open() as cache, cache.transact():
            for key, value in data.pairs():
                cache.set(key, value)

    def open(self) -> Session:
        cache = self._open()

        def get_many(keys: list[bytes]) -> dict[bytes, Any]:
            with cache.transact():
                return {key: cache.get(key) for key in keys}

        return Session(cache.get, cache.set, get_many)
