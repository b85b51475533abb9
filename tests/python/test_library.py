"""Finding and loading libcache.so."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
from conftest import CLIENT, Segment

from memstream import Cache, LibraryError
from memstream._core import abi
from memstream._core import library as loading

LOADS = "import memstream._core.library as l; print(l.load({argument}).path)"


def load_in_child(environment: Dict[str, str], argument: str = "") -> "subprocess.CompletedProcess[str]":
    code = LOADS.format(argument=argument)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that may be written to."""
    return Path(shutil.copytree(CLIENT / "memstream", tmp_path / "copy/memstream"))


def test_the_argument_comes_first(library: Path) -> None:
    child = load_in_child({"PYTHONPATH": str(CLIENT), "MEMSTREAM_LIBRARY": "/nowhere.so"}, repr(str(library)))
    assert child.stdout.strip() == str(library), child.stderr


def test_the_environment_comes_before_the_package_directory(library: Path, package: Path) -> None:
    shutil.copy(library, package / "libcache.so")
    child = load_in_child({"PYTHONPATH": str(package.parent), "MEMSTREAM_LIBRARY": str(library)})
    assert child.stdout.strip() == str(library), child.stderr


def test_the_package_directory_comes_before_the_system(library: Path, package: Path) -> None:
    shutil.copy(library, package / "libcache.so")
    child = load_in_child({"PYTHONPATH": str(package.parent)})
    assert child.stdout.strip() == str(package / "libcache.so"), child.stderr


def test_a_package_in_its_source_tree_takes_what_was_built_there(library: Path, package: Path, tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    python = shutil.move(package.parent, tmp_path / "clients/python")
    (tmp_path / "build").mkdir()
    shutil.copy(library, tmp_path / "build/libcache.so")
    child = load_in_child({"PYTHONPATH": str(python)})
    assert child.stdout.strip() == str(tmp_path / "build/libcache.so"), child.stderr
    shutil.copy(library, python / "memstream/libcache.so")
    child = load_in_child({"PYTHONPATH": str(python)})
    assert child.stdout.strip() == str(python / "memstream/libcache.so"), child.stderr


def test_the_system_loader_comes_last(library: Path, package: Path, tmp_path: Path) -> None:
    shutil.copy(library, tmp_path / "libcache.so.1")
    child = load_in_child({"PYTHONPATH": str(package.parent), "LD_LIBRARY_PATH": str(tmp_path)})
    assert child.stdout.strip() == "libcache.so.1", child.stderr


def test_a_library_that_is_nowhere_gives_an_error_that_says_what_to_do(package: Path) -> None:
    child = load_in_child({"PYTHONPATH": str(package.parent)})
    last = child.stderr.splitlines()[-1]
    assert "LibraryError" in last and "MEMSTREAM_LIBRARY" in last and str(package) in last


def test_a_file_that_is_no_library_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "text.so"
    wrong.write_text("not a library")
    with pytest.raises(LibraryError, match="text.so"):
        loading.load(str(wrong))


@pytest.mark.parametrize("path, shown", [("/\x1b[31m", "/\\x1b[31m"), ("/" + "x" * 5000, "xxx...xxx")])
def test_a_path_of_the_variable_is_shown_without_control_bytes_and_shortened(
    monkeypatch: pytest.MonkeyPatch, path: str, shown: str
) -> None:
    monkeypatch.setenv("MEMSTREAM_LIBRARY", path)
    with pytest.raises(LibraryError) as refused:
        loading.load()
    message = str(refused.value)
    assert shown in message and message.isprintable() and len(message) < 500
    assert "Set MEMSTREAM_LIBRARY to the libcache.so that was built for this machine" in message


def compile_library(path: Path, source: str) -> str:
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", str(path)], input=source, text=True, check=True)
    return str(path)


def test_a_library_that_is_another_one_is_refused_by_its_name(tmp_path: Path) -> None:
    path = compile_library(tmp_path / "other.so", "int cache_put(void) { return 0; }")
    with pytest.raises(LibraryError, match="other.so is not a libcache.so.*cache_version"):
        loading.load(path)


def test_a_library_that_lacks_a_function_is_refused_with_both_versions(tmp_path: Path) -> None:
    version = abi.VERSION.rsplit(".", 1)[0] + ".77"
    path = compile_library(tmp_path / "half.so", f'const char *cache_version(void) {{ return "{version}"; }}')
    with pytest.raises(LibraryError, match=f"half.so is version {version}.*version {abi.VERSION}.*cache_strerror"):
        loading.load(path)


@pytest.mark.parametrize("version", ["0.2.0", "1.1.0", "nonsense", ""])
def test_a_library_of_another_version_is_refused_with_both_versions(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abi, "VERSION", "0.1.7")
    path = compile_library(tmp_path / "other.so", f'const char *cache_version(void) {{ return "{version}"; }}')
    with pytest.raises(LibraryError, match=f"version {version} and the package is version 0.1.7"):
        loading.load(path)


def test_a_library_that_differs_in_the_patch_version_only_is_accepted(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copy(library, tmp_path / "copy.so")
    major, minor, _ = abi.VERSION.split(".")
    monkeypatch.setattr(abi, "VERSION", f"{major}.{minor}.999")
    assert loading.load(str(copy)).version.startswith(f"{major}.{minor}.")


MOVES = """
import os, subprocess, sys, memstream
os.chdir("/")
with memstream.Cache() as cache:
    assert cache.accelerated
    print(cache._library.path)
print(os.environ["MEMSTREAM_LIBRARY"], flush=True)
subprocess.run([sys.executable, "-c", "import memstream; memstream.Cache().close()"], check=True)
"""


def test_a_relative_path_is_meant_from_where_the_package_was_imported(segment: Segment, library: Path) -> None:
    environment = {**segment.environment, "MEMSTREAM_LIBRARY": f"../{library.parent.name}/libcache.so"}
    environment["MEMSTREAM_PYTHON_ACCELERATOR"] = "require"
    done = segment.run("-c", MOVES, env=environment, cwd=library.parent)
    assert done.stdout.decode() == f"{library.with_name('libcache.so')}\n" * 2, done.stderr.decode()


def test_a_relative_path_as_the_argument_is_good_for_a_cache_that_travels(
    segment: Segment, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library.parent)
    with Cache(library="./libcache.so") as cache:
        monkeypatch.chdir("/")
        with pickle.loads(pickle.dumps(cache)) as other:
            assert other._library is cache._library is loading.load(str(library.with_name("libcache.so")))


def test_a_name_for_the_loader_stays_a_name(library: Path) -> None:
    environment = {"PYTHONPATH": str(CLIENT), "LD_LIBRARY_PATH": str(library.parent)}
    child = load_in_child({**environment, "MEMSTREAM_LIBRARY": "libcache.so"})
    assert child.stdout.strip() == "libcache.so", child.stderr


def test_the_library_is_loaded_once(library: Path) -> None:
    assert loading.load(str(library)) is loading.load(str(library))


def test_a_cache_takes_the_library_as_an_argument(
    segment: Segment, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSTREAM_LIBRARY", "/nowhere.so")
    with pytest.raises(LibraryError):
        Cache()
    with Cache(library=str(library)) as cache:
        cache["key"] = b"value"
    monkeypatch.setenv("MEMSTREAM_LIBRARY", str(library))  # For the end of the fixture.
