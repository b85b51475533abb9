"""Numbers, instants and keys as people read them."""

from __future__ import annotations

import time

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_size(size_bytes: float) -> str:
    """Returns "512 B", "3.4 MiB"."""
    for unit in _UNITS[:-1]:
        if size_bytes < 1024:
            break
        size_bytes /= 1024
    else:
        unit = _UNITS[-1]
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def format_instant(unix_seconds: float) -> str:
    """Returns local time, "2024-05-01 12:00:00"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_seconds))


def printable(data: bytes, width: int = 0) -> str:
    """Returns bytes as text that does a terminal no harm: what is not printable UTF-8 is escaped.

    Args:
        data: a key, or the beginning of a value.
        width: characters to cut it to; 0: not at all.
    """
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in data.decode("utf-8", "backslashreplace")
    )
    return text[: width - 1] + "…" if 0 < width < len(text) else text


def bar(part: float, width: int = 40) -> str:
    """Returns "[####......]": how much of a whole a part is.

    Args:
        part: 0 to 1; what lies outside is cut off.
        width: characters between the brackets.
    """
    full = round(max(0.0, min(1.0, part)) * width)
    return f"[{'#' * full}{'.' * (width - full)}]"
