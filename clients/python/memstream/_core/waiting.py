"""Waits for other callers without blocking signal handlers, greenlets and coroutines.

A wait is a row of short ones. Between two of them the interpreter handles signals. Where the thread belongs to gevent
or eventlet, or a coroutine waits, each short wait is a sleep of that library, so that the holder can go on.
"""

from __future__ import annotations

import asyncio
import select
import sys
import time
from typing import Any, Awaitable, Callable, Iterator, List, Optional

# Seconds. One call into the library, between two looks at signals; and a sleep between two looks at a lease.
LONGEST_SLICE = 0.05
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


def pauses(timeout: Optional[float], slice_seconds: Optional[float] = None) -> Iterator[float]:
    """Gives how long to wait next, in seconds, until the timeout.

    Args:
        timeout: seconds from now; None: for ever.
        slice_seconds: of each pause; None: they begin short and grow.
    """
    end = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST_PAUSE if slice_seconds is None else slice_seconds
    while True:
        left = pause if end is None else end - time.monotonic()
        if left <= 0:
            return
        yield min(pause, max(left, _FIRST_PAUSE))
        if slice_seconds is None:
            pause = min(2 * pause, _LONGEST_PAUSE)


def readable(descriptors: List[int], timeout: Optional[float] = None) -> List[int]:
    """Waits until one of the descriptors can be read. eventlet takes `poll` away, and has a `select` of its own.

    Args:
        descriptors: what to wait for.
        timeout: seconds; None: as long as it takes.

    Returns:
        Those that can be read; empty: none, at the timeout.
    """
    if not hasattr(select, "poll"):
        return select.select(descriptors, [], [], timeout)[0]
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000)]


def cooperative_sleep() -> Optional[Callable[[float], Any]]:
    """Returns the sleep of gevent or eventlet, if this thread runs under one of them; None: it may block."""
    for is_used, name in ((_uses_gevent, "gevent"), (_uses_eventlet, "eventlet")):
        library = sys.modules.get(name)
        if library is not None and is_used():
            sleep: Callable[[float], Any] = library.sleep
            return sleep
    return None


def _uses_gevent() -> bool:
    monkey, hubs = sys.modules.get("gevent.monkey"), sys.modules.get("gevent._hub_local")
    if monkey is not None and (monkey.is_module_patched("time") or monkey.is_module_patched("threading")):
        return True
    get_hub = getattr(hubs, "get_hub_if_exists", None)  # Without patching: a thread that has started greenlets.
    return get_hub is not None and get_hub() is not None


def _uses_eventlet() -> bool:
    patcher, hubs = sys.modules.get("eventlet.patcher"), sys.modules.get("eventlet.hubs")
    if patcher is not None and (patcher.is_monkey_patched("time") or patcher.is_monkey_patched("thread")):
        return True
    return hasattr(getattr(hubs, "_threadlocal", None), "hub")


def runs_under_trio() -> bool:
    """Returns whether trio runs the coroutine that calls this; otherwise asyncio does."""
    return asyncio._get_running_loop() is None and "trio" in sys.modules


async def until_readable(descriptor: int) -> None:
    """Lets the other coroutines go on until a descriptor is readable."""
    if runs_under_trio():
        await sys.modules["trio"].lowlevel.wait_readable(descriptor)
        return
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    loop.add_reader(descriptor, is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(descriptor)


def coroutine_sleep() -> Callable[[float], Awaitable[Any]]:
    """Returns the sleep of the library that runs the coroutine: asyncio or trio."""
    if runs_under_trio():
        sleep: Callable[[float], Awaitable[Any]] = sys.modules["trio"].sleep
        return sleep
    return asyncio.sleep
