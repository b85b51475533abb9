"""Pages of Django's cache middleware and `cache_page`: one process makes a page, the others wait for it.

The middleware first gets the header names on which a page depends, then the page. If one of them is missing, it lets
the view make the page, and sets both. So the turn to make a page begins with a get that finds nothing, and ends when
the page is set. If it is never set (an error, a private page, one that streams), the turn ends with the request; for
the next minute nobody waits for this page.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Callable, Dict, Optional

from memstream._shared import SharedCache
from memstream.integrations._turns import Turn

_KEYS = "views.decorators.cache."
_HEADER_KEYS = _KEYS + "cache_header."
_PAGE_KEYS = _KEYS + "cache_page."
_MIDDLEWARE = "django.middleware.cache"

# Frames between the middleware and the backend: Django's own, and those of tools that watch a cache.
_MOST_FRAMES = 10

# Seconds for which nobody waits for a page that was not stored.
_REMEMBER = 60


def is_page(key: object) -> bool:
    """Returns whether a key is one of the middleware's, for a page or its header names."""
    return isinstance(key, str) and key.startswith(_KEYS)


class Pages:
    """The pages that a request is making: one object for each backend object, so for each thread."""

    def __init__(self, shared: SharedCache, wait: float) -> None:
        """Begins with no page.

        Args:
            shared: where the pages are kept.
            wait: seconds that a request waits for a page that another process makes; 0: not at all.
        """
        self._shared = shared
        self._wait = wait
        self._turns: Dict[bytes, Turn] = {}
        self._header: Optional[bytes] = None

    def get(self, key: str, name: bytes, look: Callable[[], Any], absent: Any) -> Any:
        """Gets a page or its header names. If the middleware asks, waits for the process that is making the page.

        Args:
            key: as the middleware has it.
            name: the same key in the segment.
            look: gets what is stored.
            absent: what `look` returns if it is not there.

        Returns:
            What `look` returned in the end. `absent` from the middleware's point of view: it is our turn.
        """
        is_header = key.startswith(_HEADER_KEYS)
        if is_header:
            self._header = name
        found = look()
        if found is not absent or not _is_asked_by_middleware():
            return found  # A caller that only asks what is cached makes no page.
        if not is_header and self._header is not None:
            # Whoever has just set the header names is about to set the page.
            self._turn(self._header, absent).wait()
        turn = self._turn(name, absent)
        while not turn.is_decided(look):
            turn.wait()
        if turn.value is absent:
            self._turns.setdefault(name, turn)
        return turn.value

    def _turn(self, name: bytes, absent: Any) -> Turn:
        return Turn(self._shared, name, self._wait, absent, _REMEMBER)

    def note_set(self, key: str, is_stored: bool) -> None:
        """Ends the turns of this request when its page has been set."""
        if key.startswith(_PAGE_KEYS):
            self._end(is_stored)

    def end(self) -> None:
        """Ends the turns of a request that is over."""
        self._end(is_stored=False)

    def _end(self, is_stored: bool) -> None:
        turns, self._turns = self._turns, {}
        for turn in turns.values():
            turn.is_stored = is_stored
            turn.end()


def _is_asked_by_middleware() -> bool:
    frame: Optional[FrameType] = sys._getframe(2)
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == _MIDDLEWARE:
            return True
        frame = frame.f_back
    return False
