"""The examples of docs/python.md, run as they stand."""

from __future__ import annotations

import doctest
import re
from typing import Any, Dict

import pytest
from conftest import ROOT, Segment

PAGE = ROOT / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_example_prints_what_the_page_says(segment: Segment) -> None:
    pytest.importorskip("numpy", reason="numpy is not installed (Debian: python3-numpy)")
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 7 and all(">>>" in block for block in blocks)
    names: Dict[str, Any] = {"__name__": "example"}
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), names, "python.md", str(PAGE), 0)
    lines: "list[str]" = []
    results = doctest.DocTestRunner(verbose=False).run(test, out=lines.append)
    assert results.attempted >= 30 and results.failed == 0, "".join(lines)
