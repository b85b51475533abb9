#!/usr/bin/env python3
"""Lays out the Python package as Debian does: FOLDER/dist-packages with its description, FOLDER/bin with its programs.

    debian_python.py ROOT FOLDER
"""

import configparser
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """#!/usr/bin/python3
import sys

from {module} import {function}

sys.exit({function}())
"""


def describe(source: Path, packages: Path) -> Path:
    """Makes the .dist-info folder: pip, importlib.metadata and dogpile.cache find the package by it."""
    with tempfile.TemporaryDirectory() as folder:
        # setuptools writes beside the sources that it is given.
        copy = Path(shutil.copytree(source, Path(folder) / "python", ignore=shutil.ignore_patterns("__pycache__")))
        command = [sys.executable, "setup.py", "-q", "dist_info", "--output-dir", str(packages)]
        subprocess.run(command, cwd=copy, check=True)
    (description,) = packages.glob("memstream-*.dist-info")
    return description


def write_programs(description: Path, folder: Path) -> None:
    points = configparser.ConfigParser(delimiters=("=",))
    points.read(description / "entry_points.txt", encoding="utf-8")
    for name, place in points["console_scripts"].items():
        module, _, function = place.partition(":")
        program = folder / name
        program.write_text(PROGRAM.format(module=module, function=function), encoding="utf-8")
        program.chmod(0o755)


def main() -> int:
    source, folder = Path(sys.argv[1]).resolve() / "clients/python", Path(sys.argv[2]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    packages, programs = folder / "dist-packages", folder / "bin"
    packages.mkdir(parents=True)
    programs.mkdir()
    shutil.copytree(source / "memstream", packages / "memstream", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    write_programs(describe(source, packages), programs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
