"""Whether calls are accelerated: what the environment asks for, what is possible, and what users are told."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Callable, List, Tuple

import pytest
from conftest import Segment

from memstream import Cache
from memstream._core import abi, native
from memstream._core.library import load
from memstream.errors import AcceleratorWarning, BadAccelerator, BadRoad, LibraryError


def test_auto_accelerates_here(monkeypatch: pytest.MonkeyPatch, segment: Segment) -> None:
    for choice in ("", "auto"):
        monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", choice)
        with Cache() as cache:
            assert cache.accelerated
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "off")
    with Cache() as cache:
        assert not cache.accelerated


def test_an_unknown_choice_is_refused(monkeypatch: pytest.MonkeyPatch, segment: Segment) -> None:
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "scenic")
    text = "Invalid MEMSTREAM_PYTHON_ACCELERATOR 'scenic': expected auto, require or off. Set one of these, or unset it"
    with pytest.raises(BadAccelerator, match=text):
        Cache()


@pytest.mark.parametrize("value, shown", [("\x1b[31m", r"'\\x1b\[31m'"), ("x" * 5000, r"'x{30,40}\.\.\.x{30,40}'")])
def test_an_unknown_choice_is_shown_without_control_bytes_and_shortened(
    monkeypatch: pytest.MonkeyPatch, segment: Segment, value: str, shown: str
) -> None:
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", value)
    with pytest.raises(BadAccelerator, match=f"Invalid MEMSTREAM_PYTHON_ACCELERATOR {shown}: expected auto"):
        Cache()


@pytest.mark.parametrize("old, accelerated", [("auto", True), ("fast", True), ("plain", False)])
def test_the_old_names_serve_for_one_release(
    monkeypatch: pytest.MonkeyPatch, segment: Segment, old: str, accelerated: bool
) -> None:
    monkeypatch.delenv("MEMSTREAM_PYTHON_ACCELERATOR", raising=False)
    monkeypatch.setenv("MEMSTREAM_PYTHON_ROAD", old)
    with pytest.warns(
        DeprecationWarning, match="MEMSTREAM_PYTHON_ROAD is deprecated: set MEMSTREAM_PYTHON_ACC"
    ) as seen:
        cache = Cache()
    with cache:
        assert seen[0].filename == __file__
        with pytest.warns(DeprecationWarning, match="use Cache.accelerated"):
            assert cache.road == ("fast" if accelerated else "plain")
        assert cache.accelerated is accelerated
    monkeypatch.setenv("MEMSTREAM_PYTHON_ROAD", "scenic")
    with pytest.warns(DeprecationWarning), pytest.raises(BadRoad, match="PYTHON_ROAD 'scenic': expected auto, fast or"):
        Cache()
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "off")  # The new name counts where both are set.
    Cache().close()


INCAPABLE: List[Tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (lambda patch: patch.setattr(sys.implementation, "name", "pypy"), "is pypy, not CPython"),
    (lambda patch: patch.setattr(sys, "version_info", (3, 8, 1)), "Python 3.9 or newer"),
    (lambda patch: patch.setattr(sys, "abiflags", "t"), "free threading"),
    (lambda patch: patch.setattr(sys, "getobjects", None, raising=False), "traces references"),
]
NEGLECTED: List[Tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (
        lambda patch: patch.setattr(native, "FILE_NAME", "libabsent.so"),
        "libabsent.so cannot be loaded.*Run scripts/build.sh, or install .* libabsent.so belongs beside libcache.so",
    ),
    (
        lambda patch: patch.setattr(abi, "VERSION", "0.2.0"),
        "is version 0.1.0 and the package is version 0.2.0.*Install the package and its libraries from one release",
    ),
]


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch, segment: Segment, library: Path) -> None:
    """The accelerator is not loaded yet, and nothing was warned of."""
    load(str(library))
    monkeypatch.setattr(native, "_loaded", None)
    monkeypatch.setattr(native, "_has_warned", False)


@pytest.mark.parametrize("change, reason", INCAPABLE + NEGLECTED)
def test_where_calls_cannot_be_accelerated_require_says_why(
    monkeypatch: pytest.MonkeyPatch, unloaded: None, change: Callable[[pytest.MonkeyPatch], None], reason: str
) -> None:
    change(monkeypatch)
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "require")
    with pytest.raises(LibraryError, match="cannot accelerate calls: .*" + reason):
        Cache()


def _use_without_accelerator() -> None:
    with Cache() as cache:
        assert not cache.accelerated and not cache.info().accelerated and ", not accelerated>" in repr(cache)
        cache["key"] = b"value"
        assert cache["key"] == b"value"


@pytest.mark.parametrize("change, reason", INCAPABLE)
def test_an_interpreter_that_is_not_capable_goes_without_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, unloaded: None, change: Callable[[pytest.MonkeyPatch], None], reason: str
) -> None:
    change(monkeypatch)
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _use_without_accelerator()


@pytest.mark.parametrize("change, reason", NEGLECTED)
def test_a_capable_interpreter_that_goes_without_warns_once_with_reason_and_remedy(
    monkeypatch: pytest.MonkeyPatch, unloaded: None, change: Callable[[pytest.MonkeyPatch], None], reason: str
) -> None:
    change(monkeypatch)
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "auto")
    with pytest.warns(AcceleratorWarning) as seen:
        warnings.simplefilter("always")
        _use_without_accelerator()
        Cache().close()
    (warning,) = seen
    assert re.match("MemStream calls are not accelerated.*" + reason + ".*ACCELERATOR=off", str(warning.message))
    assert warning.filename == __file__
    monkeypatch.setattr(native, "_has_warned", False)
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _use_without_accelerator()


def test_another_patch_version_is_no_reason_to_go_without(
    monkeypatch: pytest.MonkeyPatch, unloaded: None, segment: Segment
) -> None:
    monkeypatch.setattr(abi, "VERSION", "0.1.99")
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "auto")
    monkeypatch.setattr(sys, "version_info", (*sys.version_info[:2], 99, "final", 0))
    with Cache() as cache:
        assert cache.accelerated and cache.info().accelerated and repr(cache).endswith(", accelerated>")


def test_a_library_without_the_functions_is_no_accelerator(unloaded: None, segment: Segment, tmp_path: Path) -> None:
    other = tmp_path / native.FILE_NAME
    other.symlink_to(segment.environment["MEMSTREAM_LIBRARY"])
    with pytest.raises(native._Unfit, match="memstream_python_version"):
        native._load(str(tmp_path / "libcache.so"))


SUBINTERPRETER = """
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
made = interpreters.create()
code = "import memstream; cache = memstream.Cache(); cache['key'] = b'1'; assert not cache.accelerated"
try:
    interpreters.run_string(made, code)
except ImportError as error:
    print("no ctypes:", error)
interpreters.destroy(made)
"""


def test_a_subinterpreter_goes_without(segment: Segment) -> None:
    segment.environment["MEMSTREAM_PYTHON_ACCELERATOR"] = "auto"
    done = segment.run("-c", SUBINTERPRETER)
    assert done.returncode == 0, done.stderr.decode()
