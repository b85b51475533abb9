#!/usr/bin/env python3
"""Checks that the pages tell the truth where a program can see it.

    documents_test.py [ROOT]

- Each `file:function` of docs/tour.md exists: its file defines or declares something of that name with parameters.
- docs/troubleshooting.md has a row for every status of api/cache.h, with its number.
- docs/configuration.md has a row for every variable that the sources read, every field of memstream_options_t and every
  option of the build, and for no others.
- Every relative link of README, docs/ and the other pages leads to a file, and to a heading of it if it names one.
- Files of the tree that a page names in code exist, and so do the tests of build/tests/. Records of their time are left
  out: decisions, results, the change log.
- docs/decisions/README.md lists every decision record.
- Pages that must stay short are short: LIMITS.
- A test runs each block of code, or NOT_RUN says why none does.

Before that it plants one fault of each kind and requires that each is found. Exit code 0: all true.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Words that a page may have.
LIMITS = {"docs/tour.md": 1500, "docs/reliability.md": 1200, "docs/performance.md": 1500}

# The test that runs all blocks of a language on a page. It names the page.
RUN = {
    ("README.md", "c"): "tests/readme_test.py",
    ("README.md", "python"): "tests/readme_test.py",
    ("docs/abi.md", "c"): "tests/abi_document_test.py",
    ("docs/embedding.md", "cpp"): "tests/consumers/examples_test.py",
    ("docs/languages.md", "js"): "clients/node/test/page.test.js",
    ("docs/languages.md", "php"): "clients/php/tests/php_test.py",
    ("docs/python.md", "python"): "tests/python/test_documentation.py",
}
# What no test runs as it stands, and why. A test of the same commands is named where there is one.
NOT_RUN = {
    ("CONTRIBUTING.md", "cmake"): "two lines of tests/CMakeLists.txt, which every build reads",
    ("CONTRIBUTING.md", "sh"): "they are the test suite",
    ("README.md", "sh"): "tests/package/install_test.py runs Install; the others are scripts and programs with tests",
    ("docs/cli.md", "sh"): "some go on for ever, need root or write to /var; tests/cli/ runs each command",
    ("docs/cli.md", "yaml"): "the configuration of another program, Prometheus",
    ("docs/embedding.md", "cmake"): "names the reader's project; tests/consumers/consumers_test.py builds such a one",
    ("docs/embedding.md", "sh"): "names the reader's sources; tests/consumers/consumers_test.py builds others",
    ("docs/frameworks.md", "python"): "settings of an application; tests/python/ runs each adapter with such settings",
    ("docs/installing.md", "sh"): "needs root; tests/package/ installs the same in places of its own",
    ("docs/languages.md", "ini"): "names a folder of the system; clients/php/tests/php_test.py gives the same settings",
    ("docs/languages.md", "nginx"): "names a folder of the system; clients/lua/test/nginx.conf has the same calls",
    ("docs/languages.md", "sh"): "builds and settings; scripts/languages.sh runs them before its tests",
    ("docs/near_cache.md", "c"): "the middle of a program; tests/near/ makes the same calls to a Redis",
    ("docs/near_cache.md", "python"): "the middle of a program; tests/python/test_near_oracle.py makes the same calls",
    ("docs/near_cache.md", "sh"): "goes on for ever; tests/cli/ and tests/python/test_near_oracle.py run both programs",
    ("docs/operations.md", "ini"): "a unit of systemd",
    ("docs/operations.md", "sh"): "changes the machine, as root",
    ("docs/performance.md", "sh"): "measures for hours; the step instructions runs the one that must not vary",
    ("docs/reference-c.md", "c"): "declarations; tests/c_reference_test.py compares them with the headers",
    ("docs/reference-python.md", "python"): "declarations; tests/python/test_reference.py compares them",
    ("docs/troubleshooting.md", "sh"): "shows the state of the reader's machine; tests/cli/ runs the commands",
}

FENCE = re.compile(r"^```(\w+)[^\n]*\n.*?^```$", re.DOTALL | re.MULTILINE)
REFERENCE = re.compile(r"`([\w/.]+\.(?:h|cpp|c|py)):(\w+)`")
STATUS = re.compile(r"^\s*(CACHE_[A-Z_]+) = (-?\d+)", re.MULTILINE)
# How sources read a variable, and how the build declares an option.
VARIABLE = re.compile(
    r"""(?:getenv\(|environ\.get\(|environ\[|(?:_?[A-Z]*VARIABLE|kVariable) = |from_environment\()"(MEMSTREAM_\w+)\""""
)
OPTION = re.compile(r"^(?:option|set)\((MEMSTREAM_\w+) .*(?:CACHE STRING|ON\)|OFF\)|IS_TOP_LEVEL)", re.MULTILINE)
FIELDS = re.compile(r"typedef struct memstream_options \{(.*?)^\}", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")
TREE = "api|backends|benchmarks|clients|cli|core|docs|scripts|tests"
NAMED_FILE = re.compile(rf"(?<![\w/.*-])(?:\./)?((?:{TREE})/[\w./-]+\.(?:h|cpp|c|py|sh|md|json|pml|txt))\b(?!:\w)")
NAMED_TEST = re.compile(r"build/tests/(?:\w+/)*([a-z]\w+)")
RECORDS = ("CHANGELOG.md", "docs/decisions/", "tests/results/", "benchmarks/results/")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def pages_of(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob("*.md"))
    for folder in ("docs", "core", "tests", "clients", "benchmarks", "examples"):
        yield from sorted((root / folder).rglob("*.md"))


def check_tour(root: Path) -> Iterator[str]:
    page = root / "docs" / "tour.md"
    if not page.exists():
        return
    for path, function in REFERENCE.findall(page.read_text(encoding="utf-8")):
        file = root / path
        if not file.is_file():
            yield f"docs/tour.md: there is no file {path}"
        elif not re.search(rf"\b{function}\(", file.read_text(encoding="utf-8")):
            yield f"docs/tour.md: {path} has no {function}()"


def check_statuses(root: Path) -> Iterator[str]:
    header, page = root / "api" / "cache.h", root / "docs" / "troubleshooting.md"
    if not header.exists() or not page.exists():
        return
    text = page.read_text(encoding="utf-8")
    for name, number in STATUS.findall(header.read_text(encoding="utf-8")):
        if f"| `{name}` | {number} |" not in text:
            yield f"docs/troubleshooting.md: no row for {name} ({number})"


def declared_settings(root: Path) -> set[str]:
    """The variables that the sources read, the options of the build, and the fields of the C struct."""
    declared: set[str] = set()
    for folder in ("api", "backends", "core", "cli", "clients/python/memstream", "tests"):
        for file in (root / folder).rglob("*"):
            if file.suffix in (".cpp", ".h", ".py") and file.name != "documents_test.py":
                declared.update(VARIABLE.findall(file.read_text(encoding="utf-8")))
    for file in [root / "CMakeLists.txt", *(root / "cmake").glob("*.cmake")]:
        if file.exists():
            declared.update(OPTION.findall(file.read_text(encoding="utf-8")))
    header = root / "api" / "memstream_options.h"
    if header.exists():
        for fields in FIELDS.findall(header.read_text(encoding="utf-8")):
            declared.update(re.findall(r"(\w+);", re.sub(r"/\*.*?\*/", "", fields, flags=re.DOTALL)))
    return declared


def check_configuration(root: Path) -> Iterator[str]:
    page = root / "docs" / "configuration.md"
    if not page.exists():
        return
    rows = [row.split("|") for row in page.read_text(encoding="utf-8").splitlines() if row.startswith("|")]
    first = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    listed = first | {name for row in rows for name in re.findall(r"`(\w+)`", row[2])}
    declared = declared_settings(root)
    for name in sorted(declared - listed):
        yield f"docs/configuration.md: no row for {name}"
    for name in sorted(name for name in first - declared if name.startswith("MEMSTREAM_")):
        yield f"docs/configuration.md: nothing reads {name}"


def without_fences(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors_of(page: Path) -> set[str]:
    """The headings of a page, as GitHub writes them behind a #."""
    headings = HEADING.findall(without_fences(page))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def check_links(root: Path) -> Iterator[str]:
    for page in pages_of(root):
        for target, anchor in LINK.findall(without_fences(page)):
            file = page.parent / target if target else page
            if re.match(r"[a-z]+:", target):
                continue
            if not file.exists():
                yield f"{page.relative_to(root)}: the link to {target} leads nowhere"
            elif anchor and file.suffix == ".md" and anchor not in anchors_of(file):
                yield f"{page.relative_to(root)}: {target} has no heading #{anchor}"


def check_named_files(root: Path) -> Iterator[str]:
    tests = {file.stem for file in (root / "tests").rglob("*") if file.suffix in (".cpp", ".c")}
    for page in pages_of(root):
        name = page.relative_to(root).as_posix()
        if name.startswith(RECORDS):
            continue
        text = page.read_text(encoding="utf-8")
        for code in re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL):
            for path in NAMED_FILE.findall(code):
                if not (root / path).exists():
                    yield f"{name}: there is no file {path}"
            for test in NAMED_TEST.findall(code):
                if test not in tests:
                    yield f"{name}: there is no test {test}"


def check_decisions(root: Path) -> Iterator[str]:
    folder = root / "docs" / "decisions"
    index = folder / "README.md"
    listed = index.read_text(encoding="utf-8") if index.exists() else ""
    for record in sorted(folder.glob("[0-9]*.md")):
        if f"({record.name})" not in listed:
            number, _, title = record.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").partition(". ")
            row = f"| [{number}]({record.name}) | {title} |"
            yield f"docs/decisions/README.md: does not list {record.name}: add '{row}'"


def check_limits(root: Path) -> Iterator[str]:
    for path, limit in LIMITS.items():
        page = root / path
        if not page.exists():
            continue
        words = len(re.findall(r"[\w'-]+", without_fences(page)))
        if words > limit:
            yield f"{path}: {words} words, {limit} are the limit"


def check_code_blocks(root: Path) -> Iterator[str]:
    found: set[tuple[str, str]] = set()
    for page in pages_of(root):
        name = page.relative_to(root).as_posix()
        found.update((name, language) for language in FENCE.findall(page.read_text(encoding="utf-8")))
    for name, language in sorted(found - RUN.keys() - NOT_RUN.keys()):
        yield f"{name}: no test runs its blocks of {language}: add one to RUN, or the reason to NOT_RUN"
    # Of planted trees, which have no tests, only what they have is looked at.
    if not (root / "tests" / "documents_test.py").exists():
        return
    yield from stale_rows(root, found, RUN, NOT_RUN)


def stale_rows(
    root: Path, found: set[tuple[str, str]], run: dict[tuple[str, str], str], not_run: dict[tuple[str, str], str]
) -> Iterator[str]:
    """Rows about blocks that no page has, and tests that do not name the page whose blocks they run."""
    for name, language in sorted((run.keys() | not_run.keys()) - found):
        yield f"tests/documents_test.py: {name} has no block of {language}"
    for (name, language), test in run.items():
        file = root / test
        if not file.exists() or Path(name).name not in file.read_text(encoding="utf-8"):
            yield f"{name}: {test} does not run its blocks of {language}"


CHECKS = (
    check_tour,
    check_statuses,
    check_configuration,
    check_links,
    check_named_files,
    check_decisions,
    check_limits,
    check_code_blocks,
)


def problems_of(root: Path) -> list[str]:
    return [problem for check in CHECKS for problem in check(root)]


CODE = {"api/a.cpp": "int f(int x);\n"}
# Files, and words of the one problem that must come of them. An empty text: silence.
PLANTED: tuple[tuple[dict[str, str], str], ...] = (
    ({"docs/tour.md": "`api/a.cpp:f` `api/none.cpp:f`", **CODE}, "no file api/none.cpp"),
    ({"docs/tour.md": "`api/a.cpp:g`", **CODE}, "has no g()"),
    ({"docs/tour.md": "`api/a.cpp:f` [x](tour.md) [y](https://a.b/c)", **CODE}, ""),
    ({"docs/tour.md": "word " * 1501}, "1501 words"),
    ({"docs/reliability.md": "word " * 1201}, "1201 words"),
    ({"docs/performance.md": "word " * 1501}, "1501 words"),
    ({"docs/tour.md": "word " * 1500}, ""),
    ({"README.md": "![x](docs/none.svg)"}, "leads nowhere"),
    ({"README.md": "```\n[x](none)\n```\n"}, ""),
    ({"README.md": "[x](docs/a.md#one-two)", "docs/a.md": "## One `two`.\n"}, ""),
    ({"README.md": "[x](docs/a.md#two)", "docs/a.md": "```\n# two\n```\n"}, "has no heading #two"),
    ({"README.md": "[x](#none)"}, "has no heading #none"),
    ({"README.md": "See `core/none.h`."}, "no file core/none.h"),
    ({"README.md": "```sh\n./scripts/none.sh --quick\n```\n"}, "no file scripts/none.sh"),
    ({"README.md": "`api/a.cpp` `core/*.h` `build/tests/a_test`", **CODE, "tests/a_test.cpp": ""}, ""),
    ({"README.md": "`build/tests/none_test`"}, "no test none_test"),
    ({"CHANGELOG.md": "`core/none.h`"}, ""),
    ({"docs/none.md": "```python\nx\n```\n"}, "no test runs its blocks of python"),
    ({"README.md": "```c\nx\n```\n", "docs/none.md": "```\nx\n```\n"}, ""),
    ({"docs/decisions/0001-a.md": "x"}, "does not list 0001-a.md"),
    ({"docs/decisions/0001-a.md": "x", "docs/decisions/README.md": "[1](0001-a.md)"}, ""),
    ({"docs/configuration.md": "", "api/a.cpp": 'getenv("MEMSTREAM_A");'}, "no row for MEMSTREAM_A"),
    ({"docs/configuration.md": "", "CMakeLists.txt": 'option(MEMSTREAM_B "b" ON)'}, "no row for MEMSTREAM_B"),
    (
        {
            "docs/configuration.md": "",
            "api/memstream_options.h": "typedef struct memstream_options {\n  int c; /* d; */\n}",
        },
        "no row for c",
    ),
    ({"docs/configuration.md": "| `MEMSTREAM_A` | x |", "api/a.cpp": ""}, "nothing reads MEMSTREAM_A"),
    ({"docs/configuration.md": "| `MEMSTREAM_A` | x |", "api/a.cpp": 'getenv("MEMSTREAM_A");'}, ""),
    (
        {
            "api/cache.h": "  CACHE_OK = 0,\n  CACHE_BUSY = -40, /* */\n",
            "docs/troubleshooting.md": "| `CACHE_OK` | 0 |",
        },
        "CACHE_BUSY (-40)",
    ),
)
# What the tests of a tree say, the blocks that its pages have, and words of the one problem of these rows.
ROWS = {("README.md", "c"): "tests/a_test.py"}, {("docs/a.md", "sh"): "nobody waits for it"}
BLOCKS = {("README.md", "c"), ("docs/a.md", "sh")}
PLANTED_ROWS: tuple[tuple[dict[str, str], set[tuple[str, str]], str], ...] = (
    ({"tests/a_test.py": "README.md"}, BLOCKS, ""),
    ({"tests/a_test.py": "README.md"}, {("README.md", "c")}, "docs/a.md has no block of sh"),
    ({"tests/a_test.py": "README.md"}, {("docs/a.md", "sh")}, "README.md has no block of c"),
    ({"tests/a_test.py": "docs/b.md"}, BLOCKS, "does not run its blocks of c"),
    ({}, BLOCKS, "does not run its blocks of c"),
)


def planted(folder: str, files: dict[str, str]) -> Path:
    for path, text in files.items():
        file = Path(folder) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return Path(folder)


def self_test() -> list[str]:
    failures = []
    for files, blocks, expected in PLANTED_ROWS:
        with tempfile.TemporaryDirectory() as folder:
            found = list(stale_rows(planted(folder, files), blocks, *ROWS))
        if [expected in problem for problem in found] != ([True] if expected else []):
            failures.append(f"self-test: expected {expected!r}, got {found}")
    for files, expected in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            found = problems_of(planted(folder, files))
        if [expected in problem for problem in found] != ([True] if expected else []):
            failures.append(f"self-test: expected {expected!r}, got {found}")
    return failures


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    failures = self_test()
    problems = problems_of(root)
    for line in failures + problems:
        print(line)
    print(f"{len(PLANTED) + len(PLANTED_ROWS)} planted cases, {len(failures)} wrong; {len(problems)} problems")
    return 1 if failures or problems else 0


if __name__ == "__main__":
    sys.exit(main())
