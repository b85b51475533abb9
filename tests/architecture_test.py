#!/usr/bin/env python3
"""Keeps the architecture: which layer may include which, and where each system call lives.

    architecture_test.py [ROOT]     check the tree at ROOT (default: this repository)

Before it looks at the tree, it plants one violation of each rule in a temporary tree and requires that each is found,
so that a rule cannot go blind unnoticed. Exit code 0: clean; 1: violations, one a line, as PATH:LINE: what is wrong.
"""

import ast
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

# What each layer may include besides itself; a folder of a layer may have an entry of its own. A layer that is not
# named here may include everything.
ALLOWED_INCLUDES: dict[str, set[str]] = {
    "core": set(),
    "backends": {"core"},
    "api": {"core", "backends"},
    "clients": {"api"},  # What is native there sees no header of Python's either: check_python_headers().
    "cli": {"api", "near"},  # Of near/ the header only: it loads the library when it needs it.
    "near": {"api"},
    "benchmarks": {"api"},
    "benchmarks/parts": {"core", "tests"},  # The parts of the engine, in the memory that its unit tests use.
}
# The installed headers. They lie in one folder there, whatever its name, so they include each other by name alone.
PUBLIC_HEADERS = (
    "api/cache.h",
    "api/memstream.h",
    "api/memstream.hpp",
    "api/memstream_bytes.hpp",
    "api/memstream_limits.h",
    "api/memstream_metrics.h",
    "api/memstream_tags.h",
    "api/memstream_watch.h",
    "api/memstream_options.h",
    "api/memstream_result.hpp",
    "near/memstream_near.h",
)
LAYERS = ("core", "backends", "api", "clients", "cli", "near", "tests", "benchmarks")

# The folders of core/, from the bottom up: each may include the ones before it. core/README.md says what is where.
ROOMS = ("base", "layout", "shard", "cache")

# The homes of each system call that makes or unmakes shared memory, or tells who is alive.
SYSTEM_CALL_HOMES = {
    ("backends/posix/", "core/base/process_private"): ("mmap", "munmap"),  # The page that fork() wipes.
    ("backends/posix/",): ("shm_open", "shm_unlink", "ftruncate", "posix_fallocate"),
    ("backends/sysv/",): ("shmget", "shmat", "shmdt", "shmctl", "semtimedop"),
    # Locks of System V names, and the marks of living processes.
    ("backends/sysv/", "core/base/process_marks"): ("semget", "semop", "semctl"),
    # Advice and population are for mappings of either kind.
    ("backends/", "core/base/process_private"): ("madvise", "mprotect"),
    # Sleeping on a word, as all other sleeping is on robust mutexes; and the fence that the C library does not offer.
    ("core/base/shared_futex", "core/base/process_fence", "core/base/copied_thread"): ("syscall",),
}
# The only file that reads MEMSTREAM_BACKEND, and the only one outside the backends' folders that names them both.
BACKEND_CHOICE = "backends/open_segment.cpp"

# What single files of the Python client may import besides: nothing else of the client imports these files.
FRAMEWORKS = {
    "clients/python/setup.py": {"setuptools", "wheel"},
    "clients/python/memstream/integrations/cachelib.py": {"cachelib"},
    "clients/python/memstream/integrations/django.py": {"django"},
    "clients/python/memstream/integrations/dogpile.py": {"dogpile"},
    "clients/python/memstream/integrations/flask_caching.py": {"flask_caching"},
    "clients/python/memstream/integrations/limits_storage.py": {"limits"},
    "clients/python/memstream/integrations/_near_upstream.py": {"redis"},
    "clients/python/memstream/integrations/near_django.py": {"django"},
}

# Length follows from the subject: this finds only files that hold several.
MAX_LINES = 1000
# One class that users see stands in one file, with the documentation of all its methods.
LONGER_FILES = {"clients/python/memstream/cache.py": 1350}
MAX_COLUMNS = 120
SOURCE_SUFFIXES = {".c", ".cpp", ".h", ".hpp", ".py", ".sh"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".md", ".txt", ".cmake", ".json", ".toml", ".in", ".map", ".yml"}
CXX_SUFFIXES = {".c", ".cpp", ".h", ".hpp"}
SKIPPED_FOLDERS = {".git", "build", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?P<open>[<"])(?P<path>[^>"]+)[>"]')
# Spelled in two halves, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
NAMED_FILE = re.compile(rf"(?<![\w./])(?:docs|scripts|{'|'.join(LAYERS)})/[\w/]+\.(?:h|hpp|cpp|c|md|py|sh|pml)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(w" r"ork|f" r"arm|r" r"oot|h" r"ome)/")


class Violation(NamedTuple):
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class SourceFile:
    """One file of the tree, with its path relative to the root and its text."""

    def __init__(self, root: Path, file: Path) -> None:
        self.root = root
        self.path = file.relative_to(root).as_posix()
        self.layer = self.path.split("/")[0] if "/" in self.path else ""
        self.suffix = file.suffix
        self.text = file.read_text(encoding="utf-8")

    def lines(self) -> Iterator[tuple[int, str]]:
        yield from enumerate(self.text.splitlines(), start=1)

    def code_lines(self) -> Iterator[tuple[int, str]]:
        """The lines of a C or C++ file with comments blanked out; string literals stay."""
        token = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)

        def blank(match: "re.Match[str]") -> str:
            found = match.group()
            return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)

        yield from enumerate(token.sub(blank, self.text).splitlines(), start=1)


def find_files(root: Path) -> Iterator[SourceFile]:
    for file in sorted(root.rglob("*")):
        parts = file.relative_to(root).parts
        is_text = file.suffix in TEXT_SUFFIXES or file.as_posix().endswith("/.ci/run")
        if is_text and file.is_file() and not SKIPPED_FOLDERS.intersection(parts):
            yield SourceFile(root, file)


def check_includes(file: SourceFile) -> Iterator[Violation]:
    """Quoted includes are root-relative and point downwards: core <- backends <- api <- everything else."""
    if file.suffix not in CXX_SUFFIXES:
        return
    for number, line in file.code_lines():
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match["path"].split("/")[0]
        folder = "/".join(file.path.split("/")[:2])
        allowed = ALLOWED_INCLUDES.get(folder, ALLOWED_INCLUDES.get(file.layer))
        if match["open"] == "<":
            if target in LAYERS:
                yield Violation(file.path, number, f"<{match['path']}> is our own header: include it with quotes")
            continue
        is_public = f"api/{match['path']}" in PUBLIC_HEADERS
        if file.path in PUBLIC_HEADERS:
            if not is_public:
                yield Violation(file.path, number, f'"{match["path"]}" is not installed, and this header is')
        elif "/" not in match["path"] or target not in LAYERS:
            yield Violation(file.path, number, f'"{match["path"]}" is not root-relative, as in "core/base/segment.h"')
        elif allowed is not None and target not in allowed | {file.layer}:
            yield Violation(file.path, number, f"{file.layer}/ must not include {target}/")


def room_of(path: str) -> Optional[int]:
    """The place of a file's folder in ROOMS; None outside core/ and for folders that are not rooms."""
    parts = path.split("/")
    return ROOMS.index(parts[1]) if len(parts) == 3 and parts[0] == "core" and parts[1] in ROOMS else None


def check_rooms(file: SourceFile) -> Iterator[Violation]:
    """Every source of core/ lies in a room, and includes from its own room and lower ones only."""
    if file.suffix not in CXX_SUFFIXES or file.layer != "core":
        return
    own = room_of(file.path)
    if own is None:
        yield Violation(file.path, 1, f"core/ has the rooms {', '.join(ROOMS)}: move this file into one")
        return
    for number, line in file.code_lines():
        match = INCLUDE.match(line)
        other = room_of(match["path"]) if match else None
        if other is not None and other > own:
            yield Violation(file.path, number, f"core/{ROOMS[own]}/ must not include core/{ROOMS[other]}/")


def included_headers(file: SourceFile) -> list[tuple[int, str]]:
    """Line and path from the root of each quoted include."""
    matches = [(number, INCLUDE.match(line)) for number, line in file.code_lines()]
    folder = "api/" if file.path in PUBLIC_HEADERS else ""
    return [(number, folder + match["path"]) for number, match in matches if match and match["open"] == '"']


def find_include_cycles(root: Path) -> Iterator[Violation]:
    """No header of the engine, the backends, the ABI or the clients includes itself through others."""
    layers = ("core", "backends", "api", "clients", "cli", "near")
    files = {file.path: file for file in find_files(root) if file.layer in layers and file.suffix in CXX_SUFFIXES}
    yield from find_cycles({path: included_headers(file) for path, file in files.items()}, "include")


def find_cycles(arrows: dict[str, list[tuple[int, str]]], kind: str) -> Iterator[Violation]:
    """Each arrow (a line and the path that it names) that leads back to where it came from."""
    done: set[str] = set()

    def visit(path: str, trail: tuple[str, ...]) -> Iterator[Violation]:
        for number, target in arrows.get(path, []):
            if target in trail:
                cycle = " -> ".join((*trail[trail.index(target) :], target))
                yield Violation(path, number, f"{kind} cycle: {cycle}")
            elif target not in done:
                yield from visit(target, (*trail, target))
        done.add(path)

    for path in sorted(arrows):
        if path not in done:
            yield from visit(path, (path,))


def check_system_calls(file: SourceFile) -> Iterator[Violation]:
    """Each system call on shared memory is called in one folder only (tests may: they play the hostile process)."""
    if file.suffix not in CXX_SUFFIXES or file.layer == "tests":
        return
    for homes, calls in SYSTEM_CALL_HOMES.items():
        if file.path.startswith(homes):
            continue
        pattern = re.compile(r"(?<![\w.>])(?:::)?(" + "|".join(calls) + r")\s*\(")
        for number, line in file.code_lines():
            for match in pattern.finditer(line):
                yield Violation(file.path, number, f"{match[1]}() has its home in {' and '.join(homes)}")


def check_python_headers(file: SourceFile) -> Iterator[Violation]:
    """Python's interface is declared by hand in one file, so that what is built serves every interpreter."""
    if file.suffix not in CXX_SUFFIXES or file.layer not in ("clients", "api", "backends", "core"):
        return
    for number, line in file.code_lines():
        match = INCLUDE.match(line)
        if match and match["path"].lower().endswith("python.h"):
            yield Violation(file.path, number, "declare what is needed of Python in clients/python/native/python_abi.h")


def check_backend_choice(file: SourceFile) -> Iterator[Violation]:
    """One file chooses the backend; nothing else reads the variable or knows the backends apart."""
    if file.suffix not in CXX_SUFFIXES or file.layer == "tests" or file.path == BACKEND_CHOICE:
        return
    own_folder = "/".join(file.path.split("/")[:2]) + "/"
    for number, line in file.code_lines():
        if '"MEMSTREAM_BACKEND"' in line and "::setenv(" not in line:  # A benchmark sets it, as a shell would.
            yield Violation(file.path, number, f"only {BACKEND_CHOICE} reads MEMSTREAM_BACKEND")
        if '"sysv"' in line and '"posix"' in line:
            yield Violation(file.path, number, f"only {BACKEND_CHOICE} names both backends")
        match = INCLUDE.match(line)
        if match and re.match(r"backends/\w+/", match["path"]) and not match["path"].startswith(own_folder):
            yield Violation(file.path, number, f"only {BACKEND_CHOICE} includes from a backend's folder")


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Line, top-level name and "stands in a try block or is for type checkers only" of each absolute import."""
    guards = [block for block in ast.walk(tree) if isinstance(block, ast.Try) or is_for_type_checkers(block)]
    guarded = {id(node) for block in guards for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0], id(node) in guarded
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0], id(node) in guarded


def check_python_imports(file: SourceFile) -> Iterator[Violation]:
    """The client needs Python and libcache.so alone: the standard library, and numpy if it is there."""
    if file.suffix != ".py" or not file.path.startswith("clients/python/"):
        return
    own = {"memstream", "writer", "reader", "analytics"} | FRAMEWORKS.get(file.path, set())
    is_test = "/tests/" in file.path
    for number, module, is_guarded in imported_modules(ast.parse(file.text, file.path)):
        if module in STANDARD_LIBRARY or module in own or (is_test and module in {"pytest", "conftest"}):
            continue
        if module == "numpy" and (is_guarded or is_test):
            continue
        yield Violation(file.path, number, f"import of {module}: the client uses the standard library only")


def imported_paths(node: ast.AST, modules: dict[str, str], module: str, is_package: bool) -> Iterator[str]:
    """The files of the tree, of those in `modules` (path by module name), that one import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        package = module.split(".") if is_package else module.split(".")[:-1]
        base = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join(base + (node.module.split(".") if node.module else []))
        # "from package import name": the module of that name, if there is one, otherwise what the package defines.
        names = [f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in modules else origin for alias in node.names]
    else:
        names = []
    yield from (modules[name] for name in names if name in modules)


def module_of(path: str) -> str:
    """The name by which a file of clients/python/ is imported."""
    parts = path[: -len(".py")].split("/")[2:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_imports(root: Path) -> dict[str, list[tuple[int, str]]]:
    """Of each file of the client: line and path of each import of another one, also inside functions. Not those that
    only a type checker follows: they never run."""
    files = [file for file in find_files(root) if file.suffix == ".py" and file.path.startswith("clients/python/")]
    modules = {module_of(file.path): file.path for file in files}
    imports = {}
    for file in files:
        tree = ast.parse(file.text, file.path)
        unseen = {id(node) for block in ast.walk(tree) if is_for_type_checkers(block) for node in ast.walk(block)}
        module, is_package = module_of(file.path), file.path.endswith("/__init__.py")
        imports[file.path] = [
            (getattr(node, "lineno", 1), target)
            for node in ast.walk(tree)
            if id(node) not in unseen
            for target in imported_paths(node, modules, module, is_package)
        ]
    return imports


def find_import_cycles(root: Path) -> Iterator[Violation]:
    """No module of the Python client imports itself through others."""
    yield from find_cycles(python_imports(root), "import")


def check_text(file: SourceFile) -> Iterator[Violation]:
    """No promise of later work, no path of one machine, no endless file or line."""
    for number, line in file.lines():
        if len(line) > MAX_COLUMNS and file.suffix in CXX_SUFFIXES:
            yield Violation(file.path, number, f"{len(line)} columns: {MAX_COLUMNS} are the limit")
        if UNFINISHED.search(line):
            yield Violation(file.path, number, "a word that promises work: do it, or write down why not")
        if MACHINE_PATH.search(line):
            yield Violation(file.path, number, "an absolute path of one machine")
    length = file.text.count("\n")
    # The public headers are the reference of the C interface: their length follows from the number of functions.
    most = length if file.path in PUBLIC_HEADERS else MAX_LINES
    most = LONGER_FILES.get(file.path, most)
    if file.suffix in SOURCE_SUFFIXES and length > most:
        yield Violation(file.path, length, f"{length} lines: split it, {most} are the limit")


def check_named_files(file: SourceFile) -> Iterator[Violation]:
    """A comment in C or C++ leads to a file that there is."""
    if file.suffix not in CXX_SUFFIXES:
        return
    for number, line in file.lines():
        comment = re.search(r"(?://|/\*|^ \*).*", line)
        for match in NAMED_FILE.finditer(comment[0] if comment else ""):
            if not (file.root / match[0]).exists():
                yield Violation(file.path, number, f"there is no file {match[0]}")


def check_registered(file: SourceFile) -> Iterator[Violation]:
    """A test program that no CMakeLists.txt names is never run."""
    if file.layer != "tests" or not re.search(r"_test\.(cpp|c)$", file.path):
        return
    for folder in (file.root / "tests", (file.root / file.path).parent):
        known = folder / "CMakeLists.txt"
        name = (file.root / file.path).relative_to(folder).as_posix()
        if known.exists() and re.search(rf"[\s(]{re.escape(name)}[\s)]", known.read_text(encoding="utf-8")):
            return
    yield Violation(file.path, 1, "this test is not registered in a CMakeLists.txt of its folder or of tests/")


CHECKS = (
    check_includes,
    check_rooms,
    check_system_calls,
    check_python_headers,
    check_backend_choice,
    check_python_imports,
    check_text,
    check_named_files,
    check_registered,
)


def standard_library() -> frozenset[str]:
    names: Optional[frozenset[str]] = getattr(sys, "stdlib_module_names", None)  # Python 3.10 and newer.
    if names is not None:
        return names
    library = Path(ast.__file__).parent
    return frozenset(sys.builtin_module_names) | {entry.stem.split(".")[0] for entry in library.glob("[a-z_]*")}


STANDARD_LIBRARY = standard_library()


def find_violations(root: Path) -> list[Violation]:
    found = [violation for file in find_files(root) for check in CHECKS for violation in check(file)]
    return found + list(find_include_cycles(root)) + list(find_import_cycles(root))


# One planted violation of each kind: path, content, and words of the message that must come of it. None: silence.
PLANTED: tuple[tuple[str, str, Optional[str]], ...] = (
    ("core/base/up.h", '#include "backends/open_segment.h"\n', "core/ must not include backends/"),
    ("backends/up.cpp", '#include "api/cache.h"\n', "backends/ must not include api/"),
    ("core/homeless.cpp", "int x;\n", "core/ has the rooms"),
    ("core/attic/homeless.h", "int x;\n", "core/ has the rooms"),
    ("core/base/up_a_room.h", '#include "core/layout/block.h"\n', "core/base/ must not include core/layout/"),
    ("core/layout/up_a_room.cpp", '#include "core/cache/cache.h"\n', "core/layout/ must not include core/cache/"),
    ("core/shard/up_a_room.h", '#include "core/cache/cache.h"\n', "core/shard/ must not include core/cache/"),
    ("core/cache/down.h", '#include "core/shard/shard.h"\n#include "core/base/status.h"\n', None),
    ("core/base/again.h", '#include "core/base/again.h"\n', "include cycle"),
    ("clients/python/native/deep.c", '#include "core/base/segment.h"\n', "clients/ must not include core/"),
    ("clients/python/native/easy.c", "#include <Python.h>\n", "declare what is needed of Python"),
    ("near/deep.cpp", '#include "core/base/status.h"\n', "near/ must not include core/"),
    ("cli/deep.cpp", '  #  include "core/base/segment.h"\n', "cli/ must not include core/"),
    ("benchmarks/c/deep.cpp", '#include "core/shard/arena.h"\n', "benchmarks/ must not include core/"),
    ("benchmarks/parts/fine.cpp", '#include "core/shard/arena.h"\n#include "tests/support/a.h"\n', None),
    ("core/base/near.cpp", '#include "segment.h"\n', "not root-relative"),
    ("core/base/dots.cpp", '#include "../base/segment.h"\n', "not root-relative"),
    ("api/memstream.h", '#include "cache.h"\n', None),
    ("api/memstream.h", '#include "api/handle.h"\n', "is not installed"),
    ("api/memstream.h", '#include "memstream.h"\n', "include cycle"),
    ("api/cache.h", "/* a line */\n" * (MAX_LINES + 1), None),
    ("api/angle.cpp", "#include <core/base/segment.h>\n", "with quotes"),
    ("core/base/memory.cpp", "auto p = ::mmap(nullptr, 1, 0, 0, 0, 0);\n", "mmap() has its home"),
    ("backends/sysv/borrow.cpp", "ftruncate(fd, 1);\n", "ftruncate() has its home"),
    ("backends/posix/borrow.cpp", "int id = shmget (key, 1, 0);\n", "shmget() has its home"),
    ("backends/open_segment.cpp", "int id = shmctl(0, 0, nullptr);\n", "shmctl() has its home"),
    ("core/base/asleep.cpp", "syscall(SYS_futex, word);\n", "syscall() has its home"),
    ("core/base/alive.cpp", "int left = semctl(id, 0, GETVAL);\n", "semctl() has its home"),
    ("core/base/process_marks.cpp", "int left = semctl(id, 0, GETVAL);\n", None),
    ("core/base/advice.cpp", "if (::madvise(p, 1, 0) != 0) return;\n", "madvise() has its home"),
    ("api/choice.cpp", 'getenv("MEMSTREAM_BACKEND");\n', "reads MEMSTREAM_BACKEND"),
    ("benchmarks/c/set.cpp", '::setenv("MEMSTREAM_BACKEND", backend, 1);\n', None),
    ("backends/sysv/sideways.cpp", '#include "backends/posix/posix_backend.h"\n', "includes from a backend's folder"),
    ("api/folder.cpp", '#include "backends/sysv/sysv_backend.h"\n', "includes from a backend's folder"),
    ("core/base/both.cpp", 'bool known = name == "sysv" || name == "posix";\n', "names both backends"),
    ("clients/python/memstream/heavy.py", "import requests\n", "import of requests"),
    ("clients/python/memstream/heavy.py", "from requests import get\n", "import of requests"),
    ("clients/python/memstream/array.py", "import numpy\n", "import of numpy"),
    ("docs/promise.md", "TO" "DO: write\n", "promises work"),
    ("scripts/path.sh", "cd /h" "ome/someone\n", "path of one machine"),
    ("core/base/endless.cpp", "int x;\n" * (MAX_LINES + 1), "split it"),
    ("clients/python/memstream/cache.py", "x = 1\n" * (MAX_LINES + 1), None),
    ("clients/python/memstream/endless.py", "x = 1\n" * (MAX_LINES + 1), "split it"),
    ("tests/lonely_test.cpp", "int x;\n", "not registered"),
    ("core/base/lost.h", "int x;  // See core/base/lots.h.\n", "there is no file core/base/lots.h"),
    ("core/base/lost.h", "// See core/base/lost.h, and https://a.b/docs/c.md.\n", None),
    ("core/base/text.cpp", 'const char* text = "MEMSTREAM_BACKEND is neither sysv nor posix";\n', None),
    ("core/base/wide.cpp", "// " + "x" * MAX_COLUMNS + "\n", "columns"),
    (
        "core/base/fine.cpp",
        '#include <string>\n#include "core/base/a.h"  // not mmap(\n/* shmget(\n */ a.mmap();\n',
        None,
    ),
    ("backends/posix/fine.cpp", '#include "core/base/a.h"\n#include "backends/posix/b.h"\nshm_open(a);\n', None),
    ("clients/python/memstream/fine.py", "import os\ntry:\n    import numpy\nexcept ImportError:\n    pass\n", None),
    ("clients/python/memstream/setup.py", "import setuptools\n", "import of setuptools"),
    ("clients/python/setup.py", "import setuptools\n", None),
    ("clients/python/memstream/integrations/cachelib.py", "import django\n", "import of django"),
    ("clients/python/memstream/types.py", "if TYPE_CHECKING:\n    import numpy\n", None),
    ("clients/python/memstream/debug.py", "if DEBUG:\n    import numpy\n", "import of numpy"),
    ("clients/python/memstream/again.py", "from memstream import again\n", "import cycle"),
    ("clients/python/memstream/again.py", "from memstream.again import x\n", "import cycle"),
    ("clients/python/memstream/again.py", "from . import again\n", "import cycle"),
    ("clients/python/memstream/again.py", "def f():\n    import memstream.again\n", "import cycle"),
    ("clients/python/memstream/deep/again.py", "from .again import x\n", "import cycle"),
    ("clients/python/memstream/deep/__init__.py", "from ..deep import x\n", "import cycle"),
    ("clients/python/memstream/again.py", "if TYPE_CHECKING:\n    import memstream.again\n", None),
    ("tests/fine.cpp", '#include "core/base/a.h"\n#include "backends/sysv/b.h"\nshmget(1);\n', None),
)

# The same with several files: what each contains, and words of the one message.
PLANTED_TREES: tuple[tuple[dict[str, str], Optional[str]], ...] = (
    (
        {
            "core/base/a.h": '#include "core/base/b.h"\n',
            "core/base/b.h": '#include "core/base/c.h"\n',
            "core/base/c.h": '#include "core/base/a.h"\n',
        },
        "include cycle: core/base/a.h -> core/base/b.h -> core/base/c.h -> core/base/a.h",
    ),
    (
        {
            "core/base/a.h": '#include "core/base/b.h"\n#include "core/base/c.h"\n',
            "core/base/b.h": '#include "core/base/c.h"\n',
            "core/base/c.h": "int x;\n",
        },
        None,
    ),
    (
        {
            "clients/python/memstream/a.py": "from memstream import b\n",
            "clients/python/memstream/b.py": "def f():\n    from . import a\n",
        },
        "import cycle: clients/python/memstream/a.py -> clients/python/memstream/b.py",
    ),
    ({"tests/CMakeLists.txt": "add_test(base/a_test.cpp)\n", "tests/base/a_test.cpp": "int x;\n"}, None),
    ({"tests/base/CMakeLists.txt": "add_test(a_test.cpp)\n", "tests/base/a_test.cpp": "int x;\n"}, None),
    ({"tests/CMakeLists.txt": "add_test(base/a_test.cpp2)\n", "tests/base/a_test.cpp": "int x;\n"}, "not registered"),
)


def self_test() -> list[str]:
    """What the checks got wrong on the planted trees; empty if every violation was found and nothing else was."""
    failures = []
    for files, expected in (*(({path: content}, expected) for path, content, expected in PLANTED), *PLANTED_TREES):
        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content, encoding="utf-8")
            found = find_violations(Path(folder))
        if expected is None and found:
            failures.append(f"{' '.join(files)}: a false alarm: {found[0].message}")
        elif expected is not None and [expected in violation.message for violation in found] != [True]:
            failures.append(f"{' '.join(files)}: expected exactly '{expected}', got {[v.message for v in found]}")
    return failures


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    failures = self_test()
    for failure in failures:
        print(f"self-test: {failure}")
    violations = find_violations(root)
    for violation in violations:
        print(violation)
    checked = sum(1 for _ in find_files(root))
    cases = len(PLANTED) + len(PLANTED_TREES)
    print(f"{cases} planted cases, {len(failures)} wrong; {checked} files, {len(violations)} violations")
    return 1 if failures or violations or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
