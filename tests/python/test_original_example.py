"""The example that MemStream began with, word for word: ctypes alone, nothing declared, set up by the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, Optional

import pytest
from conftest import Segment

from memstream import Cache, destroy

WRITER = """\
from ctypes import CDLL

lib = CDLL('./libcache.so')
lib.cache_connect()
lib.cache_put(b"key", b"value", len(b"value"))
"""

READER = """\
from ctypes import CDLL, byref, c_size_t, create_string_buffer

lib = CDLL('./libcache.so')
assert lib.cache_connect() == 0
room = create_string_buffer({room})
size = c_size_t(len(room))
print(lib.cache_get({key!r}, room, byref(size)), size.value, room.raw[:min(size.value, len(room))].hex())
"""


class Example:
    """Runs code in the directory of the library, as the example expects it."""

    def __init__(self, segment: Segment, library: Path, backend: Optional[str]) -> None:
        self._segment = segment
        self._folder = library.parent
        self._environment: Dict[str, str] = {**segment.environment}
        del self._environment["MEMSTREAM_BACKEND"], self._environment["PYTHONPATH"]
        if backend is not None:
            self._environment["MEMSTREAM_BACKEND"] = backend

    def run(self, code: str) -> List[bytes]:
        done = self._segment.run("-c", code, cwd=self._folder, env=self._environment)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.split()

    def get(self, key: bytes, room: int = 100) -> List[bytes]:
        """Status, size and hexadecimal value, as another process gets them."""
        return self.run(READER.format(key=key, room=room))


@pytest.fixture(params=["named", "unset"])
def example(request: pytest.FixtureRequest, segment: Segment, library: Path) -> Iterator[Example]:
    """The example with MEMSTREAM_BACKEND set to the backend of the test, and not set at all."""
    if request.param == "named":
        yield Example(segment, library, segment.backend)
    else:
        yield Example(segment, library, None)
        destroy(segment.name, backend="posix")


def test_the_example_works_as_it_stands(example: Example) -> None:
    assert example.run(WRITER) == []
    assert example.get(b"key") == [b"0", b"5", b"value".hex().encode()]


def test_values_with_nul_bytes_come_back_exact(example: Example) -> None:
    value = b"\0a\0\0b\0"
    example.run(WRITER.replace('b"value"', repr(value)))
    assert example.get(b"key") == [b"0", b"6", value.hex().encode()]


def test_a_small_buffer_is_told_how_much_is_needed(example: Example) -> None:
    example.run(WRITER)
    status, size, _ = example.get(b"key", room=3)
    assert (status, size) == (b"-4", b"5")


def test_an_absent_key_is_a_miss(example: Example) -> None:
    example.run(WRITER)
    assert example.get(b"absent") == [b"1", b"0"]


def test_unset_means_posix(segment: Segment, library: Path) -> None:
    Example(segment, library, None).run(WRITER)
    with Cache(backend="posix", create=False) as cache:
        assert cache["key"] == b"value"
        cache.destroy()
