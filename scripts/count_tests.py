#!/usr/bin/env python3
"""Counts the tests in JUnit files, as ctest and pytest write them.

    count_tests.py FILE...    prints: PASSED FAILED SKIPPED

A doctest program is one test to ctest; its own closing line, where it printed one, counts its cases instead.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

DOCTEST_CASES = re.compile(
    r"\[doctest\] test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|\s*(\d+) skipped"
)


class Count(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def count_case(case: ElementTree.Element) -> Count:
    if case.find("skipped") is not None:
        return Count(skipped=1)
    failed = case.find("failure") is not None or case.find("error") is not None
    doctest = DOCTEST_CASES.search(case.findtext("system-out") or "")
    if doctest is None:
        return Count(failed=1) if failed else Count(passed=1)
    cases = Count(*(int(number) for number in doctest.groups()))
    # A program that fails outside its cases (a leak, a crash at the end) has failed all the same.
    return cases._replace(failed=max(cases.failed, int(failed)))


def main(files: list[str]) -> int:
    counts = [count_case(case) for file in files for case in ElementTree.parse(file).iter("testcase")]
    print(sum(c.passed for c in counts), sum(c.failed for c in counts), sum(c.skipped for c in counts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
