"""Exceptions from signal handlers, at any instant: nothing that the library holds stays held."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Segment

from memstream import Cache
from memstream._core.handle import Handle
from memstream._core.ownership import Owned, all_owned

# Calls one body again and again while a timer's handler raises, also in destructors. `keep` is what an interactive
# interpreter does: it holds on to the last traceback, with all that its frames refer to.
STRESS = """
import gc, os, random, signal, sys, time
from memstream import Cache

class Tick(Exception): pass

def raise_tick(number, frame):
    raise Tick

sys.unraisablehook = id  # Says nothing, and is no bytecode that could be interrupted too.
cache = Cache()
cache.set("large", bytes(100_000))
body, keep = sys.argv[1], sys.argv[2] == "keep"

@cache.memoize()
def compute(number):
    return number

def view():
    with cache.view("large") as memory: memory[0]

def plain_view():
    cache.view("large")

def reserve():
    with cache.reserve("room", 5) as memory: memory[:] = b"12345"

def abort():
    cache.reserve("room", 5).abort()

def lease():
    taken = cache.lease("key")
    with taken: pass

def fulfil():
    cache.delete("key")
    with cache.lease("key") as taken: taken.fulfil(b"value")

def get():
    cache.get("large")

def memoized():
    compute(random.random())

def opened():
    Cache()

def in_a_circle():
    other = Cache()
    other.itself, other.seen = other, other.view("large")
    del other
    gc.collect(0)

def mappings():
    with open("/proc/self/maps") as file:
        return sum("memstream." in line or "SYSV" in line for line in file)

first = mappings()

call = globals()[body]
signal.signal(signal.SIGALRM, raise_tick)
kept = hits = 0
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, 20e-6 + random.random() * 200e-6, 5e-3 if keep else 90e-6)
            while True:
                call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Tick as tick:
        hits += 1
        if keep: kept = tick
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
gc.collect()
assert mappings() == first, (mappings(), first)
pins = next(process.pins for process in cache.processes() if process.pid == os.getpid())
probes = [f"probe-{number}" for number in range(48)]  # All the places of the one shard.
taken = [cache.lease(probe) for probe in probes]
print(hits, pins, sum(cache.lease(probe) is None for probe in probes), flush=True)
os._exit(0)
"""


INTERRUPTED = """
import gc
from memstream import Cache
from memstream._core import views

cache = Cache()
cache.set("large", bytes(100_000))
def mappings():
    with open("/proc/self/maps") as file:
        return sum("memstream." in line or "SYSV" in line for line in file)
first = mappings()

views.Pin.__del__ = lambda pin: None  # As an exception leaves it that comes before its first step.
for _ in range(10):
    other = Cache()
    other.itself, other.seen = other, other.view("large")
assert mappings() > first
del other
gc.collect()
print(mappings() - first)
"""


def test_a_view_in_a_circle_whose_destructor_is_interrupted_keeps_no_mapping(segment: Segment) -> None:
    segment.environment["MEMSTREAM_PYTHON_ACCELERATOR"] = "off"
    assert int(segment.code(INTERRUPTED)) == 0


BODIES = ["view", "plain_view", "reserve", "abort", "lease", "fulfil", "get", "memoized", "opened", "in_a_circle"]
# Not those whose own frames, which the traceback keeps, refer to a view, a reservation or a lease.
KEPT = ["plain_view", "get", "memoized"]


@pytest.mark.parametrize("body, keep", [*((body, "drop") for body in BODIES), *((body, "keep") for body in KEPT)])
def test_no_pin_no_lease_and_no_mapping_is_left_behind(segment: Segment, body: str, keep: str) -> None:
    segment.environment["MEMSTREAM_SHARDS"] = "1"
    hits, pins, free_places = map(int, segment.code(STRESS, body, keep, 0.5).split())
    assert hits > 20 and pins == 0 and free_places == 48


def mapped(segment: Segment) -> int:
    """How often this process has mapped a segment."""
    return sum("/memstream." in line or "/SYSV" in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize("in_a_circle", [False, True])
def test_a_handle_whose_destructor_is_interrupted_is_closed_by_the_next_collection(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, in_a_circle: bool
) -> None:
    interrupted = []

    def interrupt(frame: Any, event: str, argument: Any) -> None:
        if frame.f_code is Handle.__del__.__code__:
            interrupted.append(event)
            raise KeyboardInterrupt

    before, cache = mapped(segment), Cache()
    cache["key"] = b"value"
    assert mapped(segment) == before + 1
    if in_a_circle:
        cache.itself, cache.seen = cache, cache.view("key")  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    traced = sys.gettrace()
    sys.settrace(interrupt)
    try:
        del cache
        gc.collect()
    finally:
        sys.settrace(traced)
    gc.collect()
    assert interrupted == ["call"] and mapped(segment) == before


def test_a_collection_may_end_what_a_closing_cache_looks_through() -> None:
    """Closing looks for what is of its cache, and may set off a collection that ends some of it."""
    live = [Owned(lambda *_: 0) for _ in range(20)]
    ending = [Owned(lambda *_: 0) for _ in range(300)]
    pairs = [(number, number) for number in range(5000)]  # The interpreter has none left over for the next ones.

    def end_one(*_: object) -> None:
        if ending:
            ending.pop()

    threshold = gc.get_threshold()
    gc.callbacks.append(end_one)
    gc.set_threshold(7)
    try:
        for number in range(100):
            pairs += [(number, number) for _ in range(400 + number % 7)]
            assert set(live) <= set(all_owned())
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(end_one)
    assert len(ending) < 300
