#!/usr/bin/env python3
"""Runs the commands of README.md, "Install", in a fresh clone, as a new user would.

    install_test.py ROOT [--first]

Each block has to end with a package whose calls are accelerated, without a warning. The blocks run in a copy of the
tree that has never been built, each in a virtual environment of its own. The first one that pip runs has to build.
With --first, the first two run: the package from the source tree, and pip install.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

SECTION = re.compile(r"^## Install\n(.*?)^## ", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# The kinds of installation that README has to show, each by the command that makes it.
KINDS = (
    "export PYTHONPATH=clients/python MEMSTREAM_LIBRARY=build/libcache.so",
    "pip install --no-build-isolation --no-index ./clients/python",
    "pip wheel",
    "--editable",
    "cmake --install",
)

# What a block has made must serve from any directory, with the libraries that belong to it.
CHECK = """
import os, memstream
os.chdir("/")
with memstream.Cache(size=2**20) as cache:
    cache["key"] = b"value"
    assert cache["key"] == b"value"
    print("accelerated" if cache.accelerated else "slow", cache._library.path)
    cache.destroy()
"""


def copy_clone(root: Path, clone: Path) -> None:
    """Copies what a clone of the working tree would have."""
    names = [line.strip("/") for line in (root / ".gitignore").read_text(encoding="utf-8").split()]
    shutil.copytree(root, clone, symlinks=True, ignore=shutil.ignore_patterns(".git", *names))


def environment(home: Path) -> Dict[str, str]:
    """The environment of a user who has just logged in, with the compiler cache of whoever runs the test."""
    kept = [name for name in os.environ if name.startswith("CCACHE_") or name in ("LANG", "MEMSTREAM_BACKEND")]
    own = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "MEMSTREAM_NAME": f"install-{os.getpid()}",
        "MEMSTREAM_TEST_RUN": os.environ.get("MEMSTREAM_TEST_RUN", ""),
        "CCACHE_DIR": os.environ.get("CCACHE_DIR", str(Path.home() / ".cache/ccache")),
    }
    # The Python that runs the test is the python3 of the commands.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**{name: os.environ[name] for name in kept}, **own, "PATH": path}


def run_block(block: str, clone: Path, variables: Dict[str, str]) -> str:
    """Runs the commands and then CHECK in the same shell; returns what they printed."""
    script = f"set -euo pipefail\n{block}\npython3 -W error -c '{CHECK}'"
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout if done.returncode == 0 else f"{done.stdout}\nexit code {done.returncode}"


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    found = SECTION.search((root / "README.md").read_text(encoding="utf-8"))
    blocks: List[str] = BLOCK.findall(found[1]) if found else []
    absent = [kind for kind in KINDS if not any(kind in block for block in blocks)]
    if absent:
        print(f"README.md, section Install, shows no {absent}")
        return 1
    if sys.argv[2:] == ["--first"]:
        blocks = [block for block in blocks if any(kind in block for kind in KINDS[:2])]
    # pip first: its setup has to build what the clone lacks.
    blocks.sort(key=lambda block: "pip" not in block)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        clone, home = Path(folder) / "clone", Path(folder) / "home"
        copy_clone(root, clone)
        home.mkdir()
        for block in blocks:
            printed = run_block(block, clone, environment(home))
            if "\naccelerated " not in "\n" + printed:
                print(f"---- these commands do not make an accelerated package:\n{block}---- they print:\n{printed}")
                failures += 1
            shutil.rmtree(clone / ".venv", ignore_errors=True)
    print(f"{len(blocks)} ways to install, {failures} failures")
    return 0 if failures == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
