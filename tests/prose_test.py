#!/usr/bin/env python3
"""Checks the English that users read: words that docs/style.md replaces, and sentences that are too long.

    prose_test.py [ROOT] [--count]     check the tree at ROOT (default: this repository)

It reads README and its kin in core/ and tests/, and docs/, all without code blocks. It reads the comments of api/*.h,
and the messages in the sources: texts that are given to fail() and its kin, thrown by the memstream command, or
raised in Python. Before that it plants one violation of each rule and requires that each is found. With --count it
prints how many findings each file has, also those that are not rewritten yet. Exit code 0: clean; 1: findings.
"""

import ast
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

MAX_WORDS = 25

# A pattern and what to write instead. docs/style.md explains them.
WORDS: tuple[tuple[str, str], ...] = (
    (r"lest", "say 'so that ... not'"),
    (r"anew", "again"),
    (r"henceforth|thereby|therein|thereof", "plain words"),
    (r"makes? no sense", "corrupt"),
    (r"(?:is|are|was|were) at it", "works on it"),
    (r"stands? in", "is in"),
    (r"looks? whether", "checks whether"),
    (r"of no account", "does not matter"),
    (r"as ever", "as before"),
    (r"all in all", "in total"),
    (r"(?:is|are) not possible", "say what is allowed"),
    (r"whoever|whosoever", "name the agent: a process, a reader, you"),
    (r"whatever becomes of", "say what happens to"),
)
STARTS: tuple[tuple[str, str], ...] = (
    (r"Who (?!(?:is|are|was|has|may|can|should|owns|holds)\b[^.]*\?)", "name the agent: 'A process that ...'"),
    (r"What (?![^.]*\?)\w+ (?:is|are|was|has|may|can)\b", "name the thing"),
)
# Decisions, which are records of their time, and this list's own home.
UNCHECKED = ("docs/style.md", "docs/decisions/")
# Pages and headers that do not follow docs/style.md yet. Take a line out with the change that rewrites its page.
NOT_YET: tuple[str, ...] = ()
# Functions whose text arguments become messages.
FAILING = re.compile(
    r"\b(?:fail|fail_errno|fail_without_throwing|refuse\w*|Failure|invalid_argument|ValidationError|runtime_error)\s*\("
)
LITERAL = re.compile(r'"((?:\\.|[^"\\\n])*)"')


class Finding(NamedTuple):
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class Passage(NamedTuple):
    """A run of prose and the line on which it begins."""

    line: int
    text: str


def markdown_passages(text: str) -> Iterator[Passage]:
    """Paragraphs and list items of a page; code blocks, tables, headings and pictures are left out."""
    in_code = False
    begin, words = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        stripped = line.strip()
        if stripped.startswith("```"):
            in_code = not in_code
            stripped = ""
        elif in_code or stripped.startswith(("|", "#", "![", "<")):
            stripped = ""
        item = re.match(r"(?:[-*>]|\d+\.)\s+(.*)", stripped)
        if (not stripped or item) and words:
            yield Passage(begin, words)
            words = ""
        if stripped:
            begin = begin if words else number
            words = f"{words} {item[1] if item else stripped}".strip()


def comment_passages(text: str) -> Iterator[Passage]:
    """The comments of a C header, a paragraph each."""
    for match in re.finditer(r"/\*(.*?)\*/|((?:^[ \t]*//[^\n]*\n)+)", text, re.DOTALL | re.MULTILINE):
        begin = text.count("\n", 0, match.start()) + 1
        lines = [re.sub(r"^\s*(?://|\*)? ?", "", line) for line in (match[1] or match[2]).splitlines()]
        for offset, words in _paragraphs(lines):
            yield Passage(begin + offset, words)


def _paragraphs(lines: list[str]) -> Iterator[tuple[int, str]]:
    begin, words = 0, ""
    for offset, line in enumerate([*lines, ""]):
        # A numbered rule, a list item or a tag such as @param begins a passage of its own.
        if (not line.strip() or re.match(r"\s*(?:\d+\. |- |@\w)", line)) and words:
            yield begin, words
            words = ""
        if line.strip():
            begin = begin if words else offset
            words = f"{words} {line.strip()}".strip()


def cxx_messages(text: str) -> Iterator[Passage]:
    """Texts that reach a user by fail() and its kin: the literals in the call, one behind the other."""
    for match in FAILING.finditer(text):
        depth, end = 1, match.end()
        while end < len(text) and depth > 0:
            if text[end] == '"':
                literal = LITERAL.match(text, end)
                end = literal.end() if literal else end + 1
                continue
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        literals = LITERAL.findall(text[match.end() : end])
        # Behind a full stop another message begins, or the blank is there already.
        joined = "".join(literal + " " if literal.endswith(".") else literal for literal in literals).strip()
        if " " in joined:
            yield Passage(text.count("\n", 0, match.start()) + 1, joined.replace('\\"', '"'))


def python_messages(text: str) -> Iterator[Passage]:
    """Texts in raise statements and in warnings."""
    for node in ast.walk(ast.parse(text)):
        is_warning = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("warn")
        if not (isinstance(node, ast.Raise) or is_warning):
            continue
        joined = [inner for inner in ast.walk(node) if isinstance(inner, ast.JoinedStr)]
        parts_of_joined = {id(part) for whole in joined for part in whole.values}
        for whole in joined:
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in whole.values]
            yield Passage(whole.lineno, "".join(map(str, parts)))
        for inner in ast.walk(node):
            if id(inner) in parts_of_joined:
                continue
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and " " in inner.value:
                yield Passage(inner.lineno, inner.value)


def sentences(text: str) -> Iterator[str]:
    """Sentences of a passage, with code and links as one word each."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\b(?:e\.g|i\.e|etc|vs)\.", "for example", text)
    yield from re.split(r"(?<=[.!?])[)\"']?\s+(?=[A-Z0-9(\"'])", text)


def findings_in(path: str, passage: Passage, pieces: bool) -> Iterator[Finding]:
    for sentence in sentences(passage.text):
        for pattern, remedy in WORDS:
            match = re.search(rf"\b(?:{pattern})\b", sentence, re.IGNORECASE)
            if match:
                yield Finding(path, passage.line, f"'{match[0]}': {remedy}")
        for pattern, remedy in STARTS:
            match = re.match(pattern, sentence)
            if match and not sentence.rstrip().endswith("?"):
                yield Finding(path, passage.line, f"'{match[0].strip()} ...': {remedy}")
        # A list after a colon or between semicolons is read piece by piece.
        for piece in re.split(r"[:;]\s", sentence) if pieces else [sentence]:
            count = len(re.findall(r"[A-Za-z0-9][\w'-]*", piece))
            if count > MAX_WORDS:
                yield Finding(path, passage.line, f"{count} words, {MAX_WORDS} are the limit: '{piece[:60]}...'")


def passages_of(path: str, text: str) -> Iterator[Passage]:
    if path.endswith(".md"):
        yield from markdown_passages(text)
    elif path.startswith("api/") and path.endswith((".h", ".hpp")):
        yield from comment_passages(text)
    elif path.endswith((".cpp", ".h")):
        yield from cxx_messages(text)
    elif path.endswith(".py"):
        yield from python_messages(text)


def checked_files(root: Path) -> Iterator[Path]:
    pages = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "core/README.md", "tests/README.md")
    yield from (root / page for page in pages if (root / page).exists())
    for folder, suffixes in (("docs", (".md",)), ("api", (".h", ".hpp", ".cpp")), ("core", (".h", ".cpp"))):
        yield from sorted(file for file in (root / folder).rglob("*") if file.suffix in suffixes)
    for folder in ("backends", "cli", "near"):
        yield from sorted(file for file in (root / folder).rglob("*") if file.suffix in (".h", ".cpp"))
    yield from sorted((root / "clients" / "python" / "memstream").rglob("*.py"))


def find_findings(root: Path, skipped: tuple[str, ...] = ()) -> list[Finding]:
    found: list[Finding] = []
    for file in checked_files(root):
        path = file.relative_to(root).as_posix()
        if path.startswith(UNCHECKED) or path in skipped:
            continue
        for passage in passages_of(path, file.read_text(encoding="utf-8")):
            found += findings_in(path, passage, pieces=True)
    return found


LONG = "It " + "goes on and " * 13 + "ends."

# Path, content, and words of the one finding that must come of it. None: silence.
PLANTED: tuple[tuple[str, str, Optional[str]], ...] = (
    ("README.md", "It locks, lest others write.\n", "'lest'"),
    ("README.md", "It holds henceforth.\n", "'henceforth'"),
    ("README.md", "A writer is at it.\n", "'is at it'"),
    ("README.md", "It looks whether it is there.\n", "'looks whether'"),
    ("README.md", "The order is of no account.\n", "'of no account'"),
    ("README.md", "It works as ever.\n", "'as ever'"),
    ("README.md", "All in all it works.\n", "'All in all'"),
    ("README.md", "A word for whoever reads it.\n", "'whoever'"),
    ("README.md", "It says whatever becomes of it.\n", "'whatever becomes of'"),
    ("README.md", "What readers may see?\n", None),
    ("README.md", "What readers may see is whole.\n", "'What readers may ...'"),
    ("README.md", "```sh\nlest\n\nanew\n```\n\n| lest | anew |\n", None),
    ("README.md", f"{LONG}\n", "words, 25 are the limit"),
    ("README.md", "- Short one.\n- Who reads it waits.\n", "'Who ...'"),
    ("README.md", "Who is attached? `analytics.py` says so.\n", None),
    ("docs/a.md", "These bytes\nmake no sense.\n", "'make no sense'"),
    ("docs/style.md", "Not lest.\n", None),
    ("docs/decisions/0001-a.md", "It locks, lest others write.\n", None),
    ("core/README.md", "It locks, lest others write.\n", "'lest'"),
    ("api/a.h", "/* Begins anew. */\nint anew;\n", "'anew'"),
    ("api/a.hpp", "// Begins anew.\nint anew;\n", "'anew'"),
    ("api/a.h", "// Fine.\nconst char *lest;\n", None),
    (
        "core/a.cpp",
        'return fail(Status::kBad,\n  fmt::format("A key of {} bytes "\n  "is not possible.", n));\n',
        "not possible",
    ),
    ("core/a.cpp", 'fail("It is full :(").or("lest it fails");\n', None),
    ("core/a.cpp", 'fail(of(1), "Wait, lest it fails.");\n', "'lest'"),
    ("core/a.cpp", 'fail("lest");\n', None),
    ("near/a.cpp", 'fail("Wait, lest it fails.");\n', "'lest'"),
    ("core/a.cpp", "// lest anew\nint x;\n", None),
    ("cli/a.cpp", 'throw std::runtime_error("Writing\n"\n  "is not possible.");\n', "not possible"),
    ("cli/a.cpp", 'throw std::invalid_argument("Wait, lest it fails.");\n', "'lest'"),
    ("clients/python/memstream/a.py", "raise ValueError(f'{x!r} stands in the way')\n", "'stands in'"),
    ("clients/python/memstream/a.py", "warnings.warn('lest it fails')\n", "'lest'"),
    ("clients/python/memstream/a.py", "NAME = 'lest anew'\n", None),
)


def self_test() -> list[str]:
    failures = []
    for path, content, expected in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            found = [finding.message for finding in find_findings(Path(folder))]
        if (expected is None and found) or (expected is not None and [expected in text for text in found] != [True]):
            failures.append(f"{path}: expected {expected!r}, got {found}")
    return failures


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--count"]
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    failures = self_test()
    for failure in failures:
        print(f"self-test: {failure}")
    found = find_findings(root, () if "--count" in sys.argv else NOT_YET)
    if "--count" in sys.argv:
        for path, count in Counter(finding.path for finding in found).most_common():
            print(f"{count:5d} {path}")
    else:
        for finding in found:
            print(finding)
    print(f"{len(PLANTED)} planted cases, {len(failures)} wrong; {len(found)} findings")
    return 1 if failures or found else 0


if __name__ == "__main__":
    sys.exit(main())
