"""Puts the native libraries into the wheel. Everything else that pip has to know is in pyproject.toml.

The libraries are those beside the file that MEMSTREAM_LIBRARY names, otherwise those in build/portable of this
repository, which need nothing but glibc. If one of these is missing, the repository is built. The wheel needs no
particular Python, only the machine's architecture and the glibc that its name states.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py
from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("libcache.so", "libmemstream_python.so")
# What every Linux with glibc has.
OF_GLIBC = re.compile(r"lib(?:c|m|dl|rt|pthread)\.so\.\d+|ld-linux[\w-]*\.so\.\d+")


def find_libraries() -> List[Path]:
    """Returns the libraries to pack; builds them if that is possible and needed."""
    named = os.environ.get("MEMSTREAM_LIBRARY")
    folder = Path(named).resolve().parent if named else ROOT / "build" / "portable"
    script = ROOT / "scripts" / "build.sh"

    def absent() -> List[str]:
        return [library for library in LIBRARIES if not (folder / library).exists()]

    if not named and absent() and script.exists():
        subprocess.run([str(script)], check=True)
    missing = absent()
    if missing:
        sys.exit(
            f"{folder} has no {missing[0]}: build the library with scripts/build.sh of the repository, "
            "or name it in MEMSTREAM_LIBRARY"
        )
    return [folder / library for library in LIBRARIES]


def glibc_of(libraries: List[Path]) -> str:
    """Returns the oldest glibc that has all that the libraries use, as "2_34"; "" if they need more than glibc."""
    versions = []
    for library in libraries:
        command = ["readelf", "--wide", "--dynamic", "--version-info", str(library)]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
        if any(not OF_GLIBC.fullmatch(name) for name in re.findall(r"\(NEEDED\).*\[(.+)\]", text)):
            return ""
        versions += [(int(major), int(minor)) for major, minor in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", text)]
    return "{}_{}".format(*max(versions))


class BuildWithLibraries(build_py):
    """Copies the libraries into the package, where memstream._core.library looks for them."""

    def run(self) -> None:
        super().run()
        libraries = find_libraries()
        if self.editable_mode:
            return  # The package stays in the tree and finds the libraries in build/.
        for library in libraries:
            target = Path(self.build_lib) / "memstream" / library.name
            self.mkpath(str(target.parent))
            shutil.copy(library, target)


class PlatformWheel(bdist_wheel):
    """A wheel for every Python of this architecture, and of each machine with that glibc or a newer one."""

    def get_tag(self) -> Tuple[str, str, str]:
        platform: str = super().get_tag()[2]
        glibc = glibc_of(find_libraries())
        if glibc:
            platform = platform.replace("linux_", f"manylinux_{glibc}_", 1)
        return ("py3", "none", platform)


class PlatformDistribution(Distribution):
    """Carries machine code, though none that depends on Python."""

    def has_ext_modules(self) -> bool:
        return True


def folders() -> Dict[str, Dict[str, str]]:
    """Keeps what setuptools makes out of the sources, in a clone of the repository."""
    if not (ROOT / "CMakePresets.json").exists():
        return {}
    folder = ROOT / "build" / "python-package"
    folder.mkdir(parents=True, exist_ok=True)
    return {"build": {"build_base": str(folder)}, "egg_info": {"egg_base": str(folder)}}


setup(
    distclass=PlatformDistribution,
    cmdclass={"build_py": BuildWithLibraries, "bdist_wheel": PlatformWheel},
    options=folders(),
)
