#!/usr/bin/env python3
"""Runs the examples of README.md, each in a process of its own, as a reader of it would.

    readme_test.py ROOT LIBRARY

Every block of C or Python has to build without a warning, to end with exit code 0 and to print "value". The segment is
one of this run, on the backend that MEMSTREAM_BACKEND names, and is destroyed at the end.
"""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(python|c)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
C_FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]


def run_example(language: str, text: str, root: Path, library: Path, folder: Path) -> str:
    """Returns what the example prints; raises CalledProcessError when it fails."""
    text = text.replace("./libcache.so", str(library))
    command = [sys.executable, "-c", text]
    if language == "c":
        source, program = folder / "example.c", folder / "example"
        source.write_text(text, encoding="utf-8")
        link = ["-L", str(library.parent), "-lcache", f"-Wl,-rpath,{library.parent}"]
        subprocess.run(["cc", *C_FLAGS, "-I", str(root), str(source), "-o", str(program), *link], check=True)
        command = [str(program)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root).stdout


def main() -> int:
    root, library = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    os.environ["MEMSTREAM_NAME"] = f"readme-{os.getpid()}"
    os.environ["MEMSTREAM_LIBRARY"] = str(library)
    os.environ["PYTHONPATH"] = str(root / "clients/python")
    blocks = BLOCK.findall((root / "README.md").read_text(encoding="utf-8"))
    failures = 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            for language, text in blocks:
                printed = run_example(language, text, root, library, Path(folder))
                if "value" not in printed:
                    print(f"the {language} example printed {printed!r}:\n{text}")
                    failures += 1
    finally:
        destroyed = ctypes.CDLL(str(library)).cache_destroy()
    languages = {language for language, _ in blocks}
    print(f"{len(blocks)} examples in {sorted(languages)}, {failures} failures, destroyed: {destroyed}")
    return 0 if failures == 0 and destroyed == 0 and languages == {"c", "python"} else 1


if __name__ == "__main__":
    sys.exit(main())
