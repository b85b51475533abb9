#!/usr/bin/env python3
"""Writes docs/reference-python.md from the docstrings of the Python package.

    python_reference.py [ROOT]             write the page
    python_reference.py [ROOT] --check     exit 1 if the page is not what the docstrings say

Each public function needs a docstring in Google's style: Args for every parameter, Returns where it returns something.
Each class needs a docstring. The script reads the sources and imports nothing.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Union

PACKAGE = "clients/python/memstream"
PAGE = "docs/reference-python.md"

HEAD = """# Python reference

Every public class and function of the package, generated from the docstrings by `scripts/python_reference.py`.
[python.md](python.md) is the guide.
"""


class Section(NamedTuple):
    """A heading, and the names under it: pairs of a file of the package and a name in it."""

    title: str
    members: tuple[tuple[str, str], ...]
    remark: str = ""


SECTIONS = (
    Section("The cache", (("cache.py", "Cache"), ("cache.py", "destroy"))),
    Section(
        "Results of functions",
        (("memoize.py", "MemoizedFunction"), ("memo_results.py", "CacheInfo"), ("lru.py", "lru_cache")),
    ),
    Section("Leases", (("leases.py", "Lease"),)),
    Section("Tags", (("tags.py", "Tags"),)),
    Section("Rate limits, semaphores and locks", (("limits.py", "CacheLimits"), ("limits.py", "Semaphore"))),
    Section("Changes and watches", (("watches.py", "CacheWatches"), ("watches.py", "Watch"))),
    Section(
        "Objects kept in the process",
        tuple(("local_cache.py", name) for name in ("local", "LocalCache", "LocalInfo")),
    ),
    Section("Values in place", (("_core/views.py", "View"), ("_core/views.py", "Reservation"))),
    Section(
        "Records",
        tuple(
            ("_core/records.py", name)
            for name in ("Entry", "Stats", "Metrics", "Histogram", "Info", "Process", "Usage", "LockHolder", "Repair")
        ),
    ),
    Section("Serializers", (("_core/codec.py", "Serializer"),)),
    Section("Django", (("integrations/django.py", "MemStreamCache"), ("integrations/_locks.py", "Lock"))),
    Section("cachelib", (("integrations/cachelib.py", "MemStreamCache"),)),
    Section("Flask-Caching", (("integrations/flask_caching.py", "MemStreamCache"),)),
    Section("limits, Flask-Limiter", (("integrations/limits_storage.py", "MemStreamStorage"),)),
    Section(
        "dogpile.cache",
        (("integrations/dogpile.py", "MemStreamBackend"), ("integrations/dogpile.py", "Mutex")),
    ),
    Section(
        "Redis",
        (
            ("integrations/redis.py", "NearCache"),
            ("integrations/redis.py", "AsyncNearCache"),
            ("integrations/_near_cache.py", "NearBase"),
            ("integrations/_near_cache.py", "NearStats"),
            ("integrations/_near_memo.py", "NearMemoized"),
            ("integrations/near_django.py", "NearRedisCache"),
        ),
    ),
    Section("Deprecated", (("objects.py", "ObjectCache"),), "It stays until the next release."),
)
ERRORS = "_core/errors.py"

# Exported names that the page tells of elsewhere, or that need no section.
ELSEWHERE = {"Status", "__version__"}

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
HEADING = re.compile(r"^(Args|Returns|Raises|Warns|Attributes|Source):(.*)$")
ITEM = re.compile(r"^(\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*): ")


class Docstring(NamedTuple):
    """A docstring in its parts: the text above the first heading, and the lines under each heading."""

    text: list[str]
    parts: dict[str, list[str]]


def parse(text: str) -> Docstring:
    lines: list[str] = []
    parts: dict[str, list[str]] = {}
    current = None
    for line in text.splitlines():
        match = HEADING.match(line)
        if match:
            current = parts.setdefault(match[1], [])
            if match[2].strip():
                current.append(match[2].strip())
        elif current is None:
            lines.append(line)
        elif line.strip() or current:
            current.append(line[4:] if line.startswith("    ") else line)
    return Docstring(lines, parts)


def items(lines: list[str]) -> Iterator[str]:
    """Joins the lines of each item; a deeper line goes on with the item above."""
    item = ""
    for line in lines:
        if line.startswith(" ") or (item and line and not ITEM.match(line) and not re.match(r"Those of ", line)):
            item += " " + line.strip()
        else:
            if item:
                yield item
            item = line.strip()
    if item:
        yield item


def paragraphs(lines: list[str]) -> Iterator[str]:
    """The text of a docstring as Markdown: lines that are indented are code."""
    block: list[str] = []
    for line in [*lines, None]:
        is_code = bool(block) and block[0].startswith("    ")
        if line is None or (not line.strip() and not is_code) or (line.strip() and is_code and line[:4].strip()):
            while block and not block[-1].strip():
                block.pop()
            if block:
                yield "```python\n" + "\n".join(part[4:] for part in block) + "\n```" if is_code else "\n".join(block)
            block = []
        if line is not None and (line.strip() or block):
            block.append(line)


def parameters_of(function: Function) -> list[str]:
    """The names of the parameters, as they stand in a call, without self."""
    arguments = function.args
    names = [each.arg for each in [*arguments.posonlyargs, *arguments.args]]
    if names and names[0] in ("self", "cls"):
        names = names[1:]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [each.arg for each in arguments.kwonlyargs]
    return names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def signature(name: str, function: Function) -> str:
    """A call of the function with the defaults, without types."""
    arguments = ast.parse(ast.unparse(function.args).join(["def f(", "): pass"])).body[0].args  # type: ignore
    for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if each is not None:
            each.annotation = None
    text = ast.unparse(arguments)
    return f"{name}({re.sub(r'^(self|cls)(, /)?(, )?', '', text)})".replace("=_ABSENT", "")


def describe(docstring: Docstring) -> Iterator[str]:
    """The Markdown of a docstring."""
    yield from paragraphs(docstring.text)
    for heading in ("Args", "Attributes", "Returns", "Raises", "Warns"):
        lines = docstring.parts.get(heading)
        if not lines:
            continue
        if heading == "Returns":
            yield "Returns: " + " ".join(line.strip() for line in lines if line.strip())
        else:
            listed = (ITEM.sub(r"`\1`: ", item) for item in items(lines))
            yield f"{heading}:\n\n" + "\n".join(f"- {item}" for item in listed)
    source = " ".join(line.strip() for line in docstring.parts.get("Source", []))
    if source:
        yield "C functions: " + re.sub(r"\b(memstream|cache)_\w+", r"`\g<0>`", source)


def is_property(function: Function) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "property" for each in function.decorator_list)


def is_overload(function: Function) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in function.decorator_list)


class Writer:
    """Collects the page and what is wrong with the docstrings."""

    def __init__(self, root: Path) -> None:
        self.root = root / PACKAGE
        self.blocks: list[str] = [HEAD.strip()]
        self.problems: list[str] = []
        self._trees: dict[str, ast.Module] = {}

    def tree(self, file: str) -> ast.Module:
        if file not in self._trees:
            self._trees[file] = ast.parse((self.root / file).read_text(encoding="utf-8"))
        return self._trees[file]

    def docstring(self, node: Union[Function, ast.ClassDef], where: str) -> Docstring:
        text = ast.get_docstring(node)
        if text is None:
            self.problems.append(f"{where}: it has no docstring")
        return parse(text or "")

    def check(self, function: Function, docstring: Docstring, where: str) -> None:
        """Notes parameters that Args does not name, and a result that Returns does not."""
        named: set[str] = set()
        for item in items(docstring.parts.get("Args", [])):
            match = ITEM.match(item)
            named.update(name.strip().lstrip("*") for name in match[1].split(",")) if match else None
        wanted = [name.lstrip("*") for name in parameters_of(function) if not name.lstrip("*").startswith("_")]
        missing = [name for name in wanted if name not in named]
        if missing:
            self.problems.append(f"{where}: Args does not name {', '.join(missing)}")
        unknown = sorted(named - set(wanted))
        if unknown:
            self.problems.append(f"{where}: Args names {', '.join(unknown)}, which are no parameters")
        result = function.returns
        gives = result is not None and not (isinstance(result, ast.Constant) and result.value is None)
        if gives and not is_property(function) and "Returns" not in docstring.parts:
            self.problems.append(f"{where}: it returns something, and has no Returns")

    def function(self, function: Function, name: str) -> None:
        docstring = self.docstring(function, name)
        self.check(function, docstring, name)
        self.blocks.append(f"#### `{name if is_property(function) else signature(name, function)}`")
        self.blocks += describe(docstring)

    def cls(self, node: ast.ClassDef) -> None:
        made = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
        docstring = self.docstring(node, node.name)
        self.blocks.append(f"### `{node.name}`")
        self.blocks += describe(docstring)
        fields = list(self.fields(node))
        if fields:
            self.blocks.append("\n".join(fields))
        if made is not None and ast.get_docstring(made) and not self.is_made_by_package(docstring):
            self.function(made, node.name)
        for each in node.body:
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and not each.name.startswith("_"):
                if not is_overload(each):
                    self.function(each, f"{node.name}.{each.name}")

    @staticmethod
    def is_made_by_package(docstring: Docstring) -> bool:
        return "Made by" in " ".join(docstring.text)

    @staticmethod
    def fields(node: ast.ClassDef) -> Iterator[str]:
        """The fields of a NamedTuple or a dataclass, with the text behind each."""
        makers = [*node.bases, *(getattr(each, "func", each) for each in node.decorator_list)]
        if not any(isinstance(each, ast.Name) and each.id in ("NamedTuple", "dataclass") for each in makers):
            return
        for place, each in enumerate(node.body):
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                behind = node.body[place + 1] if place + 1 < len(node.body) else None
                is_text = isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant)
                text = " ".join(str(behind.value.value).split()) if is_text else ""  # type: ignore[union-attr]
                yield f"- `{each.target.id}`" + (f": {text}" if text else "")

    def errors(self) -> None:
        """A table of the exceptions and warnings, with the class above each."""
        self.blocks.append("## Exceptions\n\n`memstream.errors` has them; the package has the groups too.")
        rows = ["| Exception | is a | When |", "|---|---|---|"]
        for node in self.tree(ERRORS).body:
            if isinstance(node, ast.ClassDef):
                text = " ".join(parse(ast.get_docstring(node) or "").text).strip()
                if not text:
                    self.problems.append(f"{node.name}: it has no docstring")
                above = ", ".join(f"`{ast.unparse(base)}`" for base in node.bases)
                rows.append(f"| `{node.name}` | {above} | {' '.join(text.split())} |")
        self.blocks.append("\n".join(rows))

    def page(self) -> str:
        shown = set()
        for section in SECTIONS:
            self.blocks.append(f"## {section.title}")
            if section.remark:
                self.blocks.append(section.remark)
            for file, name in section.members:
                defined = [each for each in self.tree(file).body if name == getattr(each, "name", None)]
                node = defined[-1] if defined else None  # The last of a row of overloads is the function.
                shown.add(name)
                if isinstance(node, ast.ClassDef):
                    self.cls(node)
                elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    self.function(node, name)
                else:
                    self.problems.append(f"{file} has no {name}")
        self.errors()
        shown.update(each.name for each in self.tree(ERRORS).body if isinstance(each, ast.ClassDef))
        for name in sorted(self.exported() - shown - ELSEWHERE):
            self.problems.append(f"{name} is exported and has no place on the page: add it to SECTIONS")
        return "\n\n".join(self.blocks) + "\n"

    def exported(self) -> set[str]:
        for node in self.tree("__init__.py").body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return set(ast.literal_eval(node.value))
        return set()


def main() -> int:
    paths = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    root = Path(paths[0]) if paths else Path(__file__).resolve().parent.parent
    writer = Writer(root)
    text = writer.page()
    page = root / PAGE
    problems: list[str] = list(writer.problems)
    if "--check" not in sys.argv:
        page.write_text(text, encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != text:
        problems.append(f"{PAGE} is not what the docstrings say: run scripts/python_reference.py")
    for problem in problems:
        print(problem)
    print(f"{text.count('#### ')} functions, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
