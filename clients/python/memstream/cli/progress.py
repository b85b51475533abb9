"""How far a long command is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Optional, TextIO

from memstream.cli.text import format_size

_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 5.0
_BAR_WIDTH = 30


class Progress:
    """Counts what was done, and shows it on standard error.

    Attributes:
        count: how many items.
        size_bytes: how many bytes.
        noun: what is counted, in the plural.
    """

    def __init__(self, noun: str, total: Optional[int] = None, stream: Optional[TextIO] = None) -> None:
        """Starts the clock.

        Args:
            noun: what is counted, in the plural.
            total: how many there will be; None: unknown, so there is a count but no bar.
            stream: where to show it; None: standard error.
        """
        self.count = 0
        self.size_bytes = 0
        self.noun = noun
        self._total = total
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._interval = _REDRAW_SECONDS if self._is_terminal else _LINE_SECONDS
        self._started = self._shown = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start; never 0, so that it can divide."""
        return max(time.monotonic() - self._started, 1e-9)

    def add(self, size_bytes: int) -> None:
        """Counts one more item of this size."""
        self.count += 1
        self.size_bytes += size_bytes
        now = time.monotonic()
        if now - self._shown >= self._interval:
            self._shown = now
            self._show()

    def say(self, text: str) -> None:
        """Prints a line of its own, above the bar."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def finish(self) -> None:
        """Draws the bar a last time and leaves it; elsewhere the summary of the program is enough."""
        if self._is_terminal:
            self._show()
            print(file=self._stream, flush=True)

    def _show(self) -> None:
        rate = format_size(self.size_bytes / self.seconds)
        count = str(self.count) if self._total is None else f"{self.count} of {self._total}"
        text = f"{count} {self.noun}, {format_size(self.size_bytes)}, {rate}/s"
        if not self._is_terminal:
            print(text, file=self._stream, flush=True)
            return
        if self._total is not None:
            filled = _BAR_WIDTH * self.count // max(self._total, 1)
            text = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {text}"
        width = shutil.get_terminal_size().columns
        self._clear()
        self._stream.write(text[: width - 1])
        self._stream.flush()

    def _clear(self) -> None:
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
