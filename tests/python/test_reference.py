"""docs/reference-python.md: it is what the docstrings say, and every public function has one in Google's style."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Tuple

import pytest
from conftest import CLIENT, ROOT

SCRIPT = ROOT / "scripts" / "python_reference.py"


def check(root: Path) -> Tuple[int, str]:
    done = subprocess.run([sys.executable, str(SCRIPT), str(root), "--check"], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_page_is_what_the_docstrings_say() -> None:
    code, output = check(ROOT)
    assert code == 0, output
    page = (ROOT / "docs" / "reference-python.md").read_text(encoding="utf-8")
    assert "#### `Cache.get(key, default=None, *, touch=None)`\n\nReturns the value of `key`" in page
    assert "- `key`: str (stored as UTF-8) or bytes; 1 to 1,024 bytes." in page
    assert "| `BadKey` | `ArgumentError` |" in page


@pytest.mark.parametrize(
    "file, old, new, complaint",
    [
        ("cache.py", "Returns the value of `key`,", "Gives the value of `key`,", "is not what the docstrings say"),
        ("cache.py", "            default: what a miss returns.\n", "", "Cache.get: Args does not name default"),
        (
            "cache.py",
            "            prefix: only keys",
            "            start: only keys",
            "names start, which are no parameters",
        ),
        (
            "cache.py",
            "        Returns:\n            An iterator",
            "        An iterator",
            "Cache.scan: it returns something",
        ),
        ("leases.py", "Ends the lease without a value", "Ends it without a value", "is not what the docstrings say"),
        ("_core/errors.py", '    """No live entry has this key."""\n', "", "CacheMiss: it has no docstring"),
        ("__init__.py", '    "Cache",\n', '    "Cache",\n    "Novelty",\n', "Novelty is exported and has no place"),
        ("_core/views.py", "class View(", "class Sight(", "_core/views.py has no View"),
    ],
)
def test_what_is_missing_is_found(tmp_path: Path, file: str, old: str, new: str, complaint: str) -> None:
    shutil.copytree(CLIENT / "memstream", tmp_path / "clients/python/memstream")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "reference-python.md", tmp_path / "docs")
    source = tmp_path / "clients/python/memstream" / file
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")
    code, output = check(tmp_path)
    assert code == 1 and complaint in output
