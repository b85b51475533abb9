"""The cases that every language runs, in Python. tests/conformance/README.md describes them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import pytest

from memstream import Cache, CacheMiss, MemStreamError
from memstream.leases import Lease

DESCRIPTION = json.loads((Path(__file__).parents[1] / "conformance" / "cases.json").read_text(encoding="utf-8"))
# What a call of Python does not tell apart: a step that expects one of them takes the other as well.
REFUSED = {"cas": ("CONFLICT", "MISS")}


def to_bytes(given: Any) -> bytes:
    if isinstance(given, str):
        return given.encode()
    if "hex" in given:
        return bytes.fromhex(given["hex"])
    return given["repeat"].encode() * int(given["count"])


def to_key(given: Any) -> Any:
    """Text as text: Python encodes it."""
    return given if isinstance(given, str) else to_bytes(given)


class Case:
    """One case: its cache, and the tokens and leases that its steps have saved."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.tokens: Dict[str, int] = {}
        self.leases: Dict[str, Lease] = {}

    def perform(self, step: Dict[str, Any]) -> Tuple[str, ...]:
        """The statuses that the outcome of a step may stand for."""
        call: Callable[..., Optional[str]] = getattr(self, "call_" + step["call"])
        outcome = call(step, **{"key": to_key(step["key"])} if "key" in step else {})
        return REFUSED.get(step["call"], (outcome,)) if outcome == "REFUSED" else (outcome or "OK",)

    def storing(self, step: Dict[str, Any]) -> Dict[str, Any]:
        return {"ttl": step["ttl_ms"] / 1000 if "ttl_ms" in step else None, "flags": step.get("flags", 0)}

    def call_get(self, step: Dict[str, Any], key: Any) -> str:
        value, token = self.cache.gets(key)
        assert self.cache.get(key) == value
        if token is None:
            return "MISS"
        assert value == to_bytes(step["value"])
        if "flags" in step:
            entry = self.cache.entry(key)
            assert entry is not None and entry.flags == step["flags"]
        if "save" in step:
            self.tokens[step["save"]] = token
        return "OK"

    def call_set(self, step: Dict[str, Any], key: Any) -> None:
        self.cache.set(key, to_bytes(step["value"]), **self.storing(step))

    def call_add(self, step: Dict[str, Any], key: Any) -> str:
        return "OK" if self.cache.add(key, to_bytes(step["value"]), **self.storing(step)) else "EXISTS"

    def call_replace(self, step: Dict[str, Any], key: Any) -> str:
        return "OK" if self.cache.replace(key, to_bytes(step["value"]), **self.storing(step)) else "MISS"

    def call_cas(self, step: Dict[str, Any], key: Any) -> str:
        token = self.tokens[step["token"]]
        return "OK" if self.cache.cas(key, to_bytes(step["value"]), token, **self.storing(step)) else "REFUSED"

    def call_delete(self, step: Dict[str, Any], key: Any) -> str:
        return "OK" if self.cache.delete(key) else "MISS"

    def call_exists(self, step: Dict[str, Any], key: Any) -> str:
        return "OK" if self.cache.exists(key) else "MISS"

    def call_touch(self, step: Dict[str, Any], key: Any) -> str:
        return "OK" if self.cache.touch(key, self.storing(step)["ttl"]) else "MISS"

    def call_ttl(self, step: Dict[str, Any], key: Any) -> str:
        entry = self.cache.entry(key)
        if entry is None:
            return "MISS"
        assert (entry.expires_at is None) == step.get("never", False)
        if entry.expires_at is not None:
            assert step["at_least"] <= (entry.expires_at - time.time()) * 1000 <= step["at_most"]
        return "OK"

    def call_incr(self, step: Dict[str, Any], key: Any) -> str:
        initial = int(step["initial"]) if "initial" in step else None
        try:
            result = self.cache.incr(key, int(step["delta"]), initial, ttl=self.storing(step)["ttl"])
        except CacheMiss:
            return "MISS"
        assert result == int(step["result"])
        return "OK"

    def call_get_many(self, step: Dict[str, Any]) -> None:
        found = self.cache.get_many(step["keys"])
        assert [found.get(key) for key in step["keys"]] == [
            None if value is None else to_bytes(value) for value in step["values"]
        ]

    def call_set_many(self, step: Dict[str, Any]) -> None:
        self.cache.set_many({key: to_bytes(value) for key, value in step["values"].items()}, **self.storing(step))

    def call_delete_many(self, step: Dict[str, Any]) -> None:
        assert self.cache.delete_many(step["keys"]) == step["removed"]

    def call_lease(self, step: Dict[str, Any], key: Any) -> str:
        lease = self.cache.lease(key)
        if lease is None:
            return "EXISTS" if self.cache.exists(key) else "HELD"
        self.leases[step["save"]] = lease
        return "OK"

    def call_fulfil(self, step: Dict[str, Any], key: Any) -> str:
        return "OK" if self.leases[step["token"]].fulfil(to_bytes(step["value"])) else "CONFLICT"

    def call_release(self, step: Dict[str, Any], key: Any) -> None:
        self.leases[step["token"]].release()

    def call_clear(self, step: Dict[str, Any]) -> None:
        self.cache.clear()

    def call_wait(self, step: Dict[str, Any]) -> None:
        time.sleep(step["ms"] / 1000)


@pytest.fixture
def case(segment: Any) -> Iterator[Case]:
    made = DESCRIPTION["segment"]
    segment.end()  # The cases say what segment they need.
    with Cache(size=made["size_bytes"], shards=made["shards"]) as cache:
        yield Case(cache)


@pytest.mark.parametrize("one", DESCRIPTION["cases"], ids=lambda one: one["name"].replace(" ", "_"))
def test_case(one: Dict[str, Any], case: Case) -> None:
    for step in one["steps"]:
        try:
            outcome, message = case.perform(step), ""
        except MemStreamError as error:
            assert error.status is not None
            outcome, message = (error.status.name,), str(error)
        assert step["expect"] in outcome, step
        assert step.get("message", "") in message, step
