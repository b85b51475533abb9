#!/usr/bin/env python3
"""Writes docs/reference-c.md from the comments of the public headers.

    c_reference.py [ROOT]           write the page
    c_reference.py --check [ROOT]   compare the page with the headers; exit code 1 if it is not current

The comment of a function is `/** ... */`: paragraphs, then the tags @param NAME, @return or @retval STATUS, @threads,
@processes and, where memory changes hands, @ownership. problems_of() lists what a comment lacks.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

PAGE = "docs/reference-c.md"
HEADERS = (
    "api/cache.h",
    "api/memstream_options.h",
    "api/memstream.h",
    "api/memstream_limits.h",
    "api/memstream_metrics.h",
    "api/memstream_tags.h",
    "api/memstream_watch.h",
)

INTRODUCTION = """# C reference

Every function, struct and constant of the C headers. Start with [abi.md](abi.md): it explains the interface by
examples. `scripts/c_reference.py` generates this page from the comments in `api/`: change the comments, then run it.
"""

# A comment or a piece of code, from the first column on.
TOKEN = re.compile(
    r"/\* ---- (?P<section>.+?) ---- \*/"
    r"|^/\* (?P<line>[^\n]+) \*/$"
    r"|^(?P<macro>#define (?:CACHE_MAX|MEMSTREAM_VERSION)_(?:\\\n|[^\n])+)"
    r"|/\*(?P<doc>\*?)\n(?P<comment>.*?)\*/"
    r"|^(?P<function>CACHE_API [^;]+;)"
    r"|^(?:typedef )?(?P<kind>struct|enum) (?P<tag>\w+) \{\n(?P<body>.*?)^\}\s*(?P<name>\w*);",
    re.DOTALL | re.MULTILINE,
)
FIELD = re.compile(
    r"^  /\*\n(?P<above>(?:   \*.*\n)*?)   \*/\n  (?P<late>[^/\n]+?)[;,]$"
    r"|^  /\* (?P<group>.+?) \*/$"
    r"|^  (?P<declaration>[^/\n]+?)[;,]?(?: +/\* (?P<beside>.+?) \*/)?$",
    re.MULTILINE,
)
TAG = re.compile(r"@(param|return|retval|threads|processes|ownership)\b ?(.*)", re.DOTALL)
STATUS = re.compile(r"(CACHE_\w+|-\d+ to -\d+|Any error) +(.*)", re.DOTALL)


class Function(NamedTuple):
    name: str
    prototype: str
    paragraphs: list[str]
    tags: list[tuple[str, str]]

    def texts(self, tag: str) -> list[str]:
        return [text for name, text in self.tags if name == tag]

    def parameters(self) -> list[str]:
        listed = self.prototype[self.prototype.index("(") + 1 : self.prototype.rindex(")")]
        return [] if listed == "void" else [re.findall(r"\w+", part)[-1] for part in listed.split(",")]


class Comment(NamedTuple):
    """The paragraphs of a comment, each with its line breaks, and its tags, each in one line."""

    paragraphs: list[str]
    tags: list[tuple[str, str]]


def read_comment(text: str) -> Comment:
    lines = [re.sub(r"^ \* ?", "", line) for line in text.rstrip(" ").splitlines()]
    pieces = re.split(r"\n(?=@)|\n\n+", "\n".join(lines).strip())
    paragraphs, tags = [], []
    for piece in pieces:
        tag = TAG.match(piece)
        if tag:
            tags.append((tag[1], " ".join(tag[2].split())))
        elif piece.strip():
            paragraphs.append(piece)
    return Comment(paragraphs, tags)


def markdown_of(paragraphs: list[str]) -> Iterator[str]:
    """Text, lists and indented examples as Markdown."""
    example: list[str] = []
    for paragraph in [*paragraphs, ""]:
        if paragraph.startswith("   "):
            example.append("\n".join(line[2:].rstrip() for line in paragraph.splitlines()))
            continue
        if example:
            yield "```c\n" + "\n\n".join(example) + "\n```\n"
            example = []
        if paragraph:
            yield re.sub(r"^ +(?=- |\d+\. )", "", paragraph, flags=re.MULTILINE) + "\n"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in lines) + "\n"


def render_function(function: Function) -> Iterator[str]:
    yield f"### `{function.name}`\n"
    yield f"```c\n{function.prototype}\n```\n"
    yield from markdown_of(function.paragraphs)
    parameters = [text.split(None, 1) for text in function.texts("param")]
    if parameters:
        yield table(("Parameter", "Meaning"), [(f"`{name}`", text) for name, text in parameters])
    statuses = [match for match in map(STATUS.match, function.texts("retval")) if match]
    if statuses:
        rows = [(f"`{status[1]}`" if status[1].startswith("CACHE") else status[1], status[2]) for status in statuses]
        yield table(("Returns", "When"), rows)
    for tag, title in (
        ("return", "Returns"),
        ("threads", "Threads"),
        ("processes", "Processes"),
        ("ownership", "Ownership"),
    ):
        for text in function.texts(tag):
            yield f"**{title}:** {text}\n"


def render_struct(name: str, kind: str, body: str, paragraphs: list[str]) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield from markdown_of(paragraphs)
    rows: list[tuple[str, ...]] = []
    for field in FIELD.finditer(body):
        if field["group"]:
            rows.append(("", f"*{field['group']}*") if kind == "struct" else ("", "", f"*{field['group']}*"))
            continue
        declaration = field["declaration"] or field["late"]
        above = re.sub(r"^\s*\* ?", "", field["above"] or "", flags=re.MULTILINE)
        meaning = field["beside"] or " ".join(above.split())
        if kind == "enum":
            constant, number = declaration.split(" = ")
            rows.append((f"`{constant}`", number, meaning))
        else:
            rows.append((f"`{declaration}`", meaning))
    yield table(("Field", "Meaning") if kind == "struct" else ("Constant", "Number", "Meaning"), rows)


def read_functions(text: str) -> Iterator[Function]:
    doc: Optional[Comment] = None
    for token in TOKEN.finditer(text):
        if token["function"]:
            name = re.search(r"(\w+)\(", token["function"])
            prototype = token["function"].replace("CACHE_API ", "")
            assert name, prototype
            yield Function(name[1], prototype, *(doc or Comment([], [])))
        doc = read_comment(token["comment"]) if token["doc"] else None


def problems_of(function: Function) -> Iterator[str]:
    """What the comment of a function lacks."""
    if not function.paragraphs:
        yield f"{function.name}: no brief"
    elif "." not in function.paragraphs[0]:
        yield f"{function.name}: the brief is no sentence"
    names = [text.split()[0] for text in function.texts("param") if text]
    if names != function.parameters():
        yield f"{function.name}: @param lists {names}, the prototype has {function.parameters()}"
    if any(len(text.split()) < 2 for text in function.texts("param")):
        yield f"{function.name}: a @param without a text"
    if len(function.texts("return")) + len(function.texts("retval")) == 0:
        yield f"{function.name}: neither @return nor @retval"
    if any(not STATUS.match(text) for text in function.texts("retval")):
        yield f"{function.name}: a @retval without a status and a text"
    for tag in ("threads", "processes"):
        if [bool(text) for text in function.texts(tag)] != [True]:
            yield f"{function.name}: needs one @{tag}"


def render(texts: list[str]) -> str:
    parts = [INTRODUCTION]
    for text in texts:
        doc: Optional[Comment] = None
        functions = {function.name: function for function in read_functions(text)}
        for token in TOKEN.finditer(text):
            comment = read_comment(token["comment"]) if token["comment"] else None
            if token.start() == 0 and comment and any(re.match(r" *\d+\. ", part) for part in comment.paragraphs):
                rules = [part for part in comment.paragraphs if re.match(r" *\d+\. |Rules", part)]
                parts += ["## Rules\n"] if "## Rules\n" not in parts else ["### More rules of the full interface\n"]
                parts += markdown_of(rules)
            elif token["section"]:
                parts.append(f"## {token['section']}\n")
            elif token["line"]:
                parts.append(token["line"] + "\n")
            elif token["macro"]:
                parts.append(f"```c\n{token['macro']}\n```\n")
            elif token["function"]:
                name = re.search(r"(\w+)\(", token["function"])
                parts += render_function(functions[name[1] if name else ""])
            elif token["kind"] and doc:
                parts += render_struct(token["name"] or token["tag"], token["kind"], token["body"], doc.paragraphs)
            elif comment and not token["doc"] and token.start() != 0:
                parts += markdown_of(comment.paragraphs)
            doc = comment if token["doc"] else None
    return "\n".join(parts)


def page_of(root: Path) -> str:
    return render([(root / header).read_text(encoding="utf-8") for header in HEADERS])


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--check"]
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    page, file = page_of(root), root / PAGE
    if "--check" not in sys.argv:
        file.write_text(page, encoding="utf-8")
        return 0
    if file.read_text(encoding="utf-8") == page:
        return 0
    print(f"{PAGE} is not current: run scripts/c_reference.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
