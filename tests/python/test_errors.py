"""The exceptions: one for each status, in groups, able to travel between processes."""

from __future__ import annotations

import pickle

import pytest

from memstream import CacheMiss, LibraryError, MemStreamError, Status, errors

FAILURES = [status for status in Status if status is not Status.OK]

GROUPS = {
    errors.ArgumentError: range(-19, 0),
    errors.ConfigurationError: range(-39, -19),
    errors.UnavailableError: range(-59, -39),
    errors.SegmentError: range(-89, -59),
}


@pytest.mark.parametrize("status", FAILURES)
def test_every_status_has_its_own_class(status: Status) -> None:
    error = errors.error_of(status, "what happened")
    assert (error.status, str(error), type(error).code) == (status, "what happened", status)
    assert [type(errors.error_of(other, "")) for other in FAILURES].count(type(error)) == 1


@pytest.mark.parametrize("status", [status for status in FAILURES if -90 < status < 0])
def test_every_class_is_in_the_group_of_its_status(status: Status) -> None:
    error = errors.error_of(status, "")
    assert [group for group in GROUPS if isinstance(error, group)] == [
        group for group, numbers in GROUPS.items() if status in numbers
    ]


@pytest.mark.parametrize("status", FAILURES)
def test_exceptions_survive_pickling(status: Status) -> None:
    error = errors.error_of(status, "what happened")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.status, copy.message) == (type(error), status, "what happened")


def test_library_error_survives_pickling_and_has_no_status() -> None:
    copy = pickle.loads(pickle.dumps(LibraryError("not found")))
    assert (type(copy), copy.status, str(copy)) == (LibraryError, None, "not found")


def test_a_miss_is_a_key_error_that_speaks_plainly() -> None:
    error = errors.error_of(Status.MISS, "no such key")
    assert isinstance(error, KeyError) and isinstance(error, CacheMiss)
    assert str(error) == "no such key"  # KeyError alone would print it in quotes.


def test_refused_arguments_and_options_are_value_errors() -> None:
    assert issubclass(errors.ArgumentError, ValueError) and issubclass(errors.ConfigurationError, ValueError)


def test_an_unknown_status_is_an_internal_error_that_names_it() -> None:
    error = errors.error_of(-12345, "from the future")
    assert isinstance(error, errors.InternalError) and "-12345" in str(error) and "from the future" in str(error)


def test_one_handler_catches_everything() -> None:
    for status in FAILURES:
        assert isinstance(errors.error_of(status, ""), MemStreamError)
    assert issubclass(LibraryError, MemStreamError)
