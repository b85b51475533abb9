"""The package as pip installs it: without network, with its library, with its programs."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Dict, Tuple

import pytest
from conftest import CLIENT, Segment

import memstream

MISSING = [name for name in ("pip", "setuptools", "wheel", "venv") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"this Python has no {MISSING}")


def run(*command: object, environment: Dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of clients/python, so that nothing is written beside the sources."""
    folder = tmp_path_factory.mktemp("source") / "python"
    return Path(shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")))


@pytest.fixture(scope="session")
def wheel(source: Path, library: Path) -> Path:
    """The wheel that pip makes without network and without isolation."""
    folder = source.parent / "wheels"
    options = ["--no-build-isolation", "--no-index", "--no-deps", "--disable-pip-version-check", "--wheel-dir", folder]
    environment = {**os.environ, "MEMSTREAM_LIBRARY": str(library)}
    done = run(sys.executable, "-m", "pip", "wheel", *options, source, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path) -> Path:
    """A virtual environment with the wheel in it."""
    folder = wheel.parent / "venv"
    run(sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", folder, environment={**os.environ})
    options = ["--no-index", "--no-deps", "--disable-pip-version-check"]
    done = run(folder / "bin/python", "-m", "pip", "install", *options, wheel, environment={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def outside(segment: Segment) -> Dict[str, str]:
    """An environment that knows the segment, and nothing of this repository."""
    hidden = ("PYTHONPATH", "MEMSTREAM_LIBRARY")
    return {name: value for name, value in segment.environment.items() if name not in hidden}


def test_the_wheel_is_for_every_python_of_this_architecture(wheel: Path) -> None:
    assert wheel.name == f"memstream-{memstream.__version__}-py3-none-linux_{platform.machine()}.whl"


LIBRARIES = ("libcache.so", "libmemstream_python.so")


def test_the_wheel_holds_the_package_both_libraries_and_nothing_else(wheel: Path, library: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.startswith("memstream-")]
        for name in LIBRARIES:
            assert archive.read(f"memstream/{name}") == library.with_name(name).read_bytes()
    package = {path.relative_to(CLIENT).as_posix() for path in (CLIENT / "memstream").rglob("*.py")}
    others = {name for name in names if name not in package}
    assert package <= set(names)
    assert others == {"memstream/py.typed", *(f"memstream/{name}" for name in LIBRARIES)}


def test_what_is_installed_finds_its_own_library(installed: Path, outside: Dict[str, str]) -> None:
    code = "import memstream; c = memstream.Cache(); c['key'] = b'value'; print(c['key'], c._library.path)"
    done = run(installed / "bin/python", "-c", code, environment=outside)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"b'value' {installed}") and done.stdout.endswith("memstream/libcache.so\n")


@pytest.mark.parametrize("choice, accelerated", [("require", True), ("off", False)])
def test_what_is_installed_works_with_the_accelerator_and_without(
    installed: Path, outside: Dict[str, str], choice: str, accelerated: bool
) -> None:
    code = "import memstream; c = memstream.Cache(); c['key'] = b'value'; print(c['key'], c.accelerated)"
    done = run(installed / "bin/python", "-c", code, environment={**outside, "MEMSTREAM_PYTHON_ACCELERATOR": choice})
    assert (done.returncode, done.stdout) == (0, f"b'value' {accelerated}\n"), done.stderr


@pytest.mark.parametrize("absent", LIBRARIES)
def test_a_build_without_one_of_the_libraries_names_it(
    source: Path, library: Path, tmp_path: Path, absent: str
) -> None:
    for name in LIBRARIES:
        if name != absent:
            shutil.copy(library.with_name(name), tmp_path / name)
    environment = {**os.environ, "MEMSTREAM_LIBRARY": str(tmp_path / "libcache.so")}
    command = [sys.executable, "setup.py", "-q", "build", "-b", str(tmp_path / "b")]
    done = subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True)
    assert done.returncode == 1 and f"{tmp_path} has no {absent}" in done.stderr


@pytest.mark.parametrize("present", [(), LIBRARIES[:1], LIBRARIES])
def test_a_clone_that_lacks_a_library_is_built(source: Path, tmp_path: Path, present: Tuple[str, ...]) -> None:
    clone = Path(shutil.copytree(source, tmp_path / "clients/python"))
    script = tmp_path / "scripts/build.sh"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\ncd "${0%/*}/../build/portable" && touch built ' + " ".join(LIBRARIES))
    script.chmod(0o755)
    (tmp_path / "build/portable").mkdir(parents=True)
    for name in present:
        (tmp_path / "build/portable" / name).touch()
    environment = {name: value for name, value in os.environ.items() if name != "MEMSTREAM_LIBRARY"}
    command = [sys.executable, "setup.py", "-q", "build", "-b", str(tmp_path / "made")]
    done = subprocess.run(command, env=environment, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build/portable/built").exists() is (present != LIBRARIES)
    assert {path.name for path in (tmp_path / "made").rglob("*.so")} == set(LIBRARIES)


def test_the_console_scripts_are_the_programs(installed: Path, outside: Dict[str, str]) -> None:
    put = run(installed / "bin/memstream-writer", "put", "key", "value", environment=outside)
    assert (put.returncode, put.stderr) == (0, "")
    got = run(installed / "bin/memstream-reader", "get", "key", environment=outside)
    assert (got.returncode, got.stdout) == (0, "value")
    for name in ("writer", "reader", "analytics"):
        script = run(installed / f"bin/memstream-{name}", "--help", environment=outside)
        program = run(sys.executable, CLIENT / f"{name}.py", "--help", environment=outside)
        assert script.returncode == 0
        assert script.stdout.replace(f"memstream-{name}", f"{name}.py").split() == program.stdout.split()
    missing = run(installed / "bin/memstream-reader", "get", "absent", environment=outside)
    assert missing.returncode == 1 and "memstream-reader" in missing.stderr


def test_without_a_built_library_the_build_says_what_to_do(source: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "MEMSTREAM_LIBRARY": str(tmp_path / "libcache.so")}
    done = subprocess.run(
        [sys.executable, str(source / "setup.py"), "-q", "build", "-b", str(tmp_path / "b")],
        env=environment,
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"{tmp_path} has no libcache.so" in done.stderr and "scripts/build.sh" in done.stderr
