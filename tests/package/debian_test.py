#!/usr/bin/env python3
"""Installs the packages for Debian, pip and npm in a fresh root, uses them, purges them, and looks for what is left.

    debian_test.py ROOT PACKAGES WHEEL NPM

PACKAGES is the folder that scripts/package.sh fills. In a root of Debian 12 with compilers and Python, and with nothing
of this tree but the packages, these run: README's examples in C and Python, that of docs/embedding.md in C++, a
program linked to the archive, the command, its manual and the programs of the Python package. Then all packages are
purged, and not one file may be left. Then the wheel has to work in a virtual environment, without any package, and so
has the npm package, by the example of docs/languages.md under Debian's Node.js. npm itself runs outside: Debian's would
bring 400 packages into the root.
Exit code 77: this machine cannot make such a root; the last line says why.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SKIPPED = 77
SUITE = "bookworm"
NAMES = {"libcache1", "libmemstream-dev", "libmemstream-near1", "memstream-tools", "python3-memstream"}
TOOLS = ("gcc", "g++", "libc6-dev", "pkg-config", "python3", "python3-venv", "nodejs")
# What the package manager keeps about its own work.
OWN_RECORDS = re.compile(
    r"^/(?:var/(?:lib/dpkg|lib/apt|log|cache)|proc|sys|dev|run|tmp|test)(?:/|$)|^/etc/ld\.so\.cache$"
)
BLOCK = "^```{language}\n(.*?)^```$"

# What users do. Each command of a scenario has to end with 0; the output of all has to have the words.
INSTALLED = r"""
set -eu
cd /test/examples
cc -Wall -Wextra -Werror -I/usr/include/memstream readme.c -o readme_c $(pkg-config --cflags --libs memstream)
./readme_c
c++ -std=c++20 -Wall -Wextra -Werror embedding.cpp -o embedding $(pkg-config --cflags --libs memstream)
./embedding
cc -I/usr/include/memstream readme.c -o readme_static -l:libmemstream.a -lstdc++ -lm -lpthread
./readme_static
cc -Wall -Wextra -Werror near.c -o near_c $(pkg-config --cflags memstream) -lmemstream_near
./near_c
MEMSTREAM_PYTHON_ACCELERATOR=require python3 -W error readme_1.py
python3 -W error -c 'import memstream
cache = memstream.Cache()
print("accelerated:", cache.accelerated, cache._library.path)'
python3 -c 'import importlib.metadata as m; print("version", m.version("memstream"))'
memstream --version
memstream get key && echo
memstream-reader get key && echo
ls /usr/share/man/man1/memstream.1.gz /usr/share/man/man3/cache_get.3.gz
memstream rm --yes
"""
PROMISED = ("value", "1.08", "accelerated: True libcache.so.1", "version {version}", "near: 0", "man3/cache_get.3.gz")
WHEEL = r"""
set -eu
python3 -m venv /test/venv
/test/venv/bin/pip install --no-index --quiet /test/*.whl
cd /test/examples
/test/venv/bin/python -W error readme_1.py
/test/venv/bin/python -W error -c 'import memstream
with memstream.Cache() as cache:
    print("wheel accelerated:", cache.accelerated)
    cache.destroy()'
"""
NPM = "node /test/site/example.js"
NEAR = """#include <memstream/memstream_near.h>
#include <stdio.h>

int main(void) { return printf("near: %d\\n", memstream_near_close(NULL)) < 0; }
"""


class Skip(Exception):
    """Why this machine cannot run the test."""


def run(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))[:300]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def inside(root: Path, script: str) -> str:
    """Runs a script in the root, with a /dev/shm, processes and System V objects of its own."""
    mounts = f"mount --rbind /dev {root}/dev && mount -t tmpfs tmpfs {root}/dev/shm && mount -t proc proc {root}/proc"
    variables = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive"
    command = f'{mounts} && exec {variables} chroot {root} sh -c "$1"'
    return run("unshare", "--mount", "--pid", "--ipc", "--fork", "sh", "-c", command, "sh", script)


def needed(packages: list[Path]) -> set[str]:
    """What the packages depend on, besides each other."""
    fields = [run("dpkg-deb", "--field", package, "Depends") for package in packages]
    names = {re.split(r"[ (:|]", one.strip())[0] for field in fields for one in field.split(",") if one.strip()}
    return names - NAMES


def make_root(root: Path, include: set[str]) -> None:
    for command in ("mmdebstrap", "unshare", "chroot"):
        if shutil.which(command) is None:
            raise Skip(f"there is no {command}")
    if os.geteuid() != 0:
        raise Skip("only root makes a root")
    if subprocess.run(["unshare", "--mount", "--pid", "--ipc", "--fork", "true"], check=False).returncode != 0:
        raise Skip("this machine gives no namespaces")
    # It lives for minutes: nothing has to reach the disk.
    options = [
        "--variant=apt",
        "--quiet",
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--include={','.join(sorted(include))}",
    ]
    # Of this machine's own mirrors, without what else it may install from.
    sources = [path for path in Path("/etc/apt/sources.list.d").glob("debian.sources")]
    run("mmdebstrap", *options, SUITE, root, *(sources or []))


def files_of(root: Path) -> set[str]:
    found: set[str] = set()
    for folder, _, names in os.walk(root):
        place = "/" + os.path.relpath(folder, root).lstrip(".").lstrip("/")
        found.update(os.path.join(place, name) for name in [*names, ""])
    return {path for path in found if not OWN_RECORDS.match(path)}


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def write_examples(tree: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    readme, embedding = read(tree / "README.md"), read(tree / "docs/embedding.md")
    for stem, language, suffix, page in (
        ("readme", "c", "c", readme),
        ("readme_1", "python", "py", readme),
        ("embedding", "cpp", "cpp", embedding),
    ):
        found = re.search(BLOCK.format(language=language), page, re.DOTALL | re.MULTILINE)
        if found is None:
            raise SystemExit(f"there is no example in {language}")
        (folder / f"{stem}.{suffix}").write_text(found[1], encoding="utf-8")
    (folder / "near.c").write_text(NEAR, encoding="utf-8")


def write_site(tree: Path, package: Path, folder: Path) -> None:
    """A Node.js project with the package, and the example of the page, which shows it in a source tree."""
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
    run("npm", "install", "--prefix", folder, "--offline", "--ignore-scripts", "--no-audit", "--no-fund", package)
    found = re.search(BLOCK.format(language="js"), read(tree / "docs/languages.md"), re.DOTALL | re.MULTILINE)
    if found is None or "require('./clients/node')" not in found[1]:
        raise SystemExit("docs/languages.md has no example in JavaScript")
    example = found[1].replace("./clients/node", "memstream")
    said = "console.log('node:', JSON.parse(cache.getString('report')), cache.getMany(['key'])[0].length);"
    body = f"(async () => {{\n{example}\n{said}\ncache.destroy();\n}})();\n"
    text = f"const makeReport = async () => 'report made';\n{body}"
    (folder / "example.js").write_text(text, encoding="utf-8")


def problems(tree: Path, packages: list[Path], wheel: Path, npm: Path, folder: Path) -> Iterator[str]:
    root = folder / "root"
    make_root(root, {*TOOLS, *needed(packages)})
    (root / "test").mkdir()
    write_examples(tree, root / "test/examples")
    write_site(tree, npm, root / "test/site")
    for file in (*packages, wheel):
        shutil.copy(file, root / "test")
    before = files_of(root)
    inside(root, "dpkg --install /test/*.deb")
    if len(files_of(root)) < len(before) + 100:
        yield "dpkg installs next to nothing"
    found = re.search(r"^project\(memstream\s+VERSION (\S+)", read(tree / "CMakeLists.txt"), re.MULTILINE)
    version = found[1] if found else "none"
    for file in (*packages, wheel, npm):
        # NAME_VERSION-1_ARCHITECTURE.deb, NAME-VERSION-py3-none-PLATFORM.whl, NAME-VERSION.tgz
        stated = file.name.split("_")[1].split("-")[0] if file.suffix == ".deb" else file.name.split("-")[1]
        if stated.removesuffix(".tgz") != version:
            yield f"{file.name} is not of version {version}"
    printed = inside(root, INSTALLED)
    for words in PROMISED:
        words = words.format(version=version)
        if words not in printed:
            yield f"no '{words}' in what the installed files print:\n{printed}"
    inside(root, f"dpkg --purge {' '.join(sorted(NAMES))} && ldconfig && ! ldconfig -p | grep -E 'libcache|memstream'")
    left = files_of(root) - before
    if left:
        yield f"{len(left)} files are left after the purge: {sorted(left)[:10]}"
    lost = before - files_of(root)
    if lost:
        yield f"the purge takes {len(lost)} files of others: {sorted(lost)[:10]}"
    if "wheel accelerated: True" not in inside(root, WHEEL):
        yield "the wheel gives no accelerated calls"
    if "node: report made 5" not in (printed := inside(root, NPM)):
        yield f"the npm package prints {printed}"


def main() -> int:
    tree, where = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    packages = sorted(where.glob("*.deb"))
    wheel, npm = (Path(name).resolve() for name in sys.argv[3:5])
    names = {package.name.partition("_")[0] for package in packages}
    if names != NAMES:
        print(f"{where} has the packages {sorted(names)}, expected {sorted(NAMES)}: run scripts/package.sh")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = list(problems(tree, packages, wheel, npm, Path(folder)))
        except Skip as reason:
            print(f"skipped: {reason}")
            return SKIPPED
    print("\n".join(found) or f"{len(packages)} packages, {wheel.name} and {npm.name} install, serve and go")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
