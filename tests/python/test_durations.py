"""Times to live of every type that stands for seconds."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Callable, List

import pytest

from memstream import Cache


@pytest.mark.parametrize(
    "ttl, seconds",
    [(timedelta(minutes=1), 60), (Fraction(121, 2), 60.5), (Decimal("60.5"), 60.5), (timedelta(days=400), 34_560_000)],
)
def test_a_time_to_live_may_be_a_timedelta_or_any_real_number(cache: Cache, ttl: Any, seconds: float) -> None:
    stores: List[Callable[[], Any]] = [
        lambda: cache.set("key", b"1", ttl=ttl),
        lambda: cache.set("key", bytearray(b"1"), ttl),
        lambda: cache.add("key", b"1", ttl),
        lambda: cache.replace("key", b"1", ttl),
        lambda: cache.incr("key", initial=0, ttl=ttl),
        lambda: cache.set_many({"key": b"1"}, ttl),
        lambda: cache.touch("key", ttl),
        lambda: cache.get("key", touch=ttl),
    ]
    for store in stores:
        if store not in (stores[3], stores[6], stores[7]):
            cache.delete("key")
        store()
        entry = cache.entry("key")
        assert entry is not None and entry.expires_at is not None
        assert seconds - 5 < entry.expires_at - cache.stats().now <= seconds + 0.01


def test_numbers_of_numpy_are_numbers_and_its_timedeltas_are_not(cache: Cache) -> None:
    numpy = pytest.importorskip("numpy")
    for ttl in (numpy.int32(60), numpy.uint8(60), numpy.float32(60)):
        cache.set("key", b"1", ttl)
        entry = cache.entry("key")
        assert entry is not None and entry.expires_at is not None and entry.expires_at - cache.stats().now < 61
    assert cache.incr("key", numpy.int16(4), ttl=numpy.float64(60)) == 5
    for ttl in (numpy.timedelta64(60, "s"), numpy.timedelta64(60, "ns"), numpy.bool_(True), numpy.datetime64(60, "ns")):
        with pytest.raises(TypeError, match="^Invalid ttl .*: expected seconds above 0"):
            cache.set("key", b"1", ttl)
