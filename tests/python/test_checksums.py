"""Values with checksums, and the repair of a damaged cache."""

from __future__ import annotations

import pytest
from conftest import MIB, Segment

from memstream import Cache, Repair, SegmentDiffers, errors


def spoil(segment: Segment, cache: Cache, key: str) -> None:
    """Flips a bit of the value, as a stray write of some process would."""
    entry = cache.entry(key)
    assert entry is not None
    with segment.bytes() as image:
        image[entry.data_offset] ^= 1


def test_a_damaged_value_raises_and_is_gone(segment: Segment) -> None:
    with Cache(size=MIB, checksum=True) as cache:
        for read in (cache.get, cache.view, lambda key: cache.get_many([key])):
            cache["key"] = b"value"
            assert read("key")
            spoil(segment, cache, "key")
            with pytest.raises(errors.CorruptError, match="checksum"):
                read("key")
            assert cache.get("key") is None
        assert cache.stats().damaged == 3


def test_without_checksums_a_damaged_value_is_returned(segment: Segment) -> None:
    with Cache(size=MIB, checksum=False) as cache:
        cache["key"] = b"value"
        spoil(segment, cache, "key")
        assert cache["key"] == b"walue"


def test_a_segment_keeps_what_it_was_made_with(segment: Segment) -> None:
    with Cache(size=MIB, checksum=True):
        with pytest.warns(SegmentDiffers, match="checksums on instead of off"):
            Cache(checksum=False).close()


@pytest.mark.parametrize("checksum", ["on", 1, "off"])
def test_a_choice_is_a_bool(segment: Segment, checksum: object) -> None:
    with pytest.raises(errors.BadChecksumChoice, match="checksum"):
        Cache(size=MIB, checksum=checksum)  # type: ignore[arg-type]


def test_the_environment_chooses_too(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as environment:
        environment.setenv("MEMSTREAM_CHECKSUM", "perhaps")
        with pytest.raises(errors.BadChecksumChoice, match="MEMSTREAM_CHECKSUM 'perhaps': expected off or on"):
            Cache(size=MIB)
        environment.setenv("MEMSTREAM_CHECKSUM", "on")
        with Cache(size=MIB) as cache:
            cache["key"] = b"value"
            spoil(segment, cache, "key")
            with pytest.raises(errors.CorruptError):
                cache.get("key")


def test_a_repair_drops_what_is_damaged(segment: Segment) -> None:
    with Cache(size=MIB, checksum=True) as cache:
        cache.update({"one": b"1", "two": b"2", "three": b"3"})
        assert cache.repair() == Repair(0, 0, 0, 0, 3)
        spoil(segment, cache, "two")
        with pytest.raises(errors.CorruptError, match="does not fit its checksum"):
            cache.check()
        assert cache.repair() == Repair(1, 0, 1, 0, 2)
        cache.check()
        assert cache.get("two") is None
        assert cache["three"] == b"3"


def test_a_repair_asks_for_leave_to_write(cache: Cache) -> None:
    with Cache(read_only=True) as reader:
        with pytest.raises(errors.ReadOnlyError):
            reader.repair()
