"""Finds the user's code that has called the package."""

from __future__ import annotations

import sys


def depth_of_user() -> int:
    """Returns how far above the caller the code of the user is, for warnings.warn."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "memstream":
        depth, frame = depth + 1, frame.f_back
    return depth
