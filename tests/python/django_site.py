"""What the tests of the Django backend share: configured settings, and backends on the segment of the test.

A module that imports this is skipped where Django is not installed. The settings are those of the process, so the first
module that is imported makes them for all.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import pytest

from memstream import _shared

pytest.importorskip("django", reason="Django is not installed (Debian: python3-django)")

from django.conf import settings  # noqa: E402  It may be missing.

from memstream.django import MemStreamCache  # noqa: E402
from memstream.integrations import _turns  # noqa: E402

if not settings.configured:
    settings.configure(
        CACHES={"default": {"BACKEND": "memstream.django.MemStreamCache"}},
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        SECRET_KEY="no secret",
        ALLOWED_HOSTS=["*"],
    )

# Makes a backend of the parameters of an alias, such as TIMEOUT and OPTIONS.
MakeDjango = Callable[..., MemStreamCache]


@contextmanager
def nothing_shared() -> Iterator[None]:
    """No cache is open for adapters, and no turn is held, when the block begins and when it has ended."""
    _shared._open.clear()
    _turns._held.clear()
    yield
    _shared._open.clear()
    gc.collect()  # What pytest has kept of exceptions.


@contextmanager
def backends(name: str) -> Iterator[MakeDjango]:
    """Gives a function that makes backends on the segment of that name."""

    def make(**parameters: Any) -> MemStreamCache:
        return MemStreamCache(name, parameters)

    with nothing_shared():
        yield make
