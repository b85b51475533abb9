"""What beginners get wrong: the error says what to write instead."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from conftest import Segment

from memstream import Cache


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda cache: cache.set("key", b"", ttl="60"),
            "Invalid ttl '60': expected seconds above 0 as a number or a timedelta, or None for no limit. "
            "Pass the number: ttl=60.",
        ),
        (
            lambda cache: cache.incr("key", 1.5),
            r"Invalid delta 1.5: expected a whole number from -2\*\*63 to 2\*\*63 - 1. "
            "Count in a smaller unit, such as cents.",
        ),
        (
            lambda cache: cache.__setitem__("key", "text"),
            r"Invalid value 'text': expected bytes, or another object with a buffer. Encode it with .encode\(\), "
            "or open the cache with serializer= to store objects.",
        ),
        (
            lambda cache: cache.set_many({"key": {"a": 1}}),
            "Invalid value {'a': 1}: expected bytes, or another object with a buffer. Open the cache with "
            'serializer="pickle" or "json" to store objects.',
        ),
        (
            lambda cache: cache.scan("user:*"),
            "Invalid prefix 'user:\\*': expected what the keys begin with, no pattern. Pass 'user:', or bytes for keys "
            "that contain the asterisk itself.",
        ),
        (
            lambda cache: cache.memoize(len),
            r"Invalid ttl <built-in function len>: .* Call the decorator, with parentheses: @cache.memoize\(\).",
        ),
    ],
    ids=["ttl", "delta", "text", "object", "pattern", "decorator"],
)
def test_a_common_mistake_gets_its_remedy(cache: Cache, call: Callable[[Cache], Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{text}$"):
        call(cache)


def test_a_prefix_of_bytes_may_end_in_an_asterisk(cache: Cache) -> None:
    cache.set_many({"user:*": b"", "user:1": b""})
    assert [entry.key for entry in cache.scan(b"user:*")] == [b"user:*"]


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda: Cache(5),  # type: ignore[arg-type]
            "Invalid name 5: expected a str of .* Give the size of a cache as size=.",
        ),
        (lambda: Cache(mode=660), "Invalid mode 660: .* such as 0o600 or 0o660. Write it in octal: 0o660."),
        (lambda: Cache(size=1e9), r"Invalid size 1000000000.0: .* Pass int\(size\)."),  # type: ignore[arg-type]
    ],
    ids=["size as name", "decimal mode", "float"],
)
def test_an_option_that_is_mistaken_gets_its_remedy(segment: Segment, call: Callable[[], Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{text}$"):
        call()
