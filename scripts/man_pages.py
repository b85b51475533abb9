#!/usr/bin/env python3
"""Writes the sources of the manual pages, for scdoc, into a folder.

    man_pages.py FOLDER [ROOT]

- memstream(1) is made of docs/cli.md, memstream(7) of docs/man/memstream.7.md.
- In section 3 each function of the C interface has a page, made of its comment in the headers.

Each file is called NAME.SECTION.scd.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import c_reference

WIDTH = 78
# What scdoc would take for markup.
MARKUP = re.compile(r"([\\*_#\[\]~`|<>])")
SPAN = re.compile(r"`([^`]*)`|\*\*([^*]+)\*\*|\[([^\]]*)\]\([^)]*\)")


def plain(text: str) -> str:
    return MARKUP.sub(r"\\\1", text)


def inline(text: str) -> str:
    """One paragraph of Markdown as one of scdoc: code and strong words become bold, links their words."""
    parts, end = [], 0
    for match in SPAN.finditer(text):
        word = match[1] or match[2] or match[3] or ""
        parts += [plain(text[end : match.start()]), plain(word) if match[3] else f"*{plain(word)}*"]
        end = match.end()
    line = " ".join("".join([*parts, plain(text[end:])]).split())
    # At the start of a line these begin a comment, a list, or a directive of roff.
    return re.sub(r"^([;\-.'])", r"\\\1", line)


def row_cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def markdown(text: str) -> Iterator[str]:
    """A page of Markdown as scdoc. Tables become lists of terms; the title is left out."""
    paragraph: list[str] = []
    in_code = in_table = False
    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            if paragraph:
                yield inline(" ".join(paragraph)) + "\n"
                paragraph = []
            in_code = not in_code
            yield "```" if in_code else "```\n"
        elif in_code:
            yield line
        elif line.startswith("|"):
            cells = row_cells(line)
            if in_table and not re.match(r"^\|[-:| ]+\|$", line):
                yield f"{inline(cells[0])}\n\t{inline(': '.join(cell for cell in cells[1:] if cell))}\n"
            in_table = True
        else:
            in_table = False
            if line.startswith("- ") or not line.strip() or line.startswith("#"):
                if paragraph:
                    yield inline(" ".join(paragraph)) + "\n"
                paragraph = []
            if line.startswith("## "):
                yield f"# {line[3:].upper()}\n"
            elif line.strip() and not line.startswith("#"):
                paragraph.append(line.strip())


def page(name: str, section: int, brief: str, *parts: str) -> str:
    return f"{name}({section})\n\n# NAME\n\n{name} - {inline(brief)}\n\n" + "\n".join(parts).rstrip() + "\n"


def function_page(function: c_reference.Function, header: str) -> str:
    brief, _, rest = " ".join(function.paragraphs[0].split()).partition(". ")
    parts = [f"# SYNOPSIS\n\n```\n#include <memstream/{header}>\n\n{function.prototype}\n```\n", "# DESCRIPTION\n"]
    for paragraph in ([rest] if rest else []) + function.paragraphs[1:]:
        if re.match(r" *-|   ", paragraph):
            parts.append(f"```\n{paragraph}\n```\n")
        else:
            parts.append(inline(" ".join(paragraph.split())) + "\n")
    if not rest and len(function.paragraphs) == 1:
        parts.append(inline(brief.rstrip(".")) + ".\n")
    given = [text.split(None, 1) for text in function.texts("param")]
    parts += ["# PARAMETERS\n"] if given else []
    parts += [f"*{plain(name)}*\n\t{inline(meaning)}\n" for name, meaning in given]
    parts += ["# RETURN VALUE\n"]
    parts += [f"{inline(text)}\n" for text in function.texts("return")]
    for text in function.texts("retval"):
        match = c_reference.STATUS.match(text)
        assert match, text
        parts.append(f"*{plain(match[1])}*\n\t{inline(match[2])}\n")
    for tag, title in (("threads", "THREADS"), ("processes", "PROCESSES"), ("ownership", "OWNERSHIP")):
        parts += [f"# {title}\n\n{inline(text)}\n" for text in function.texts(tag)]
    parts += ["# SEE ALSO\n\n*memstream*(7)\n"]
    return page(function.name, 3, brief.rstrip("."), *parts)


def pages_of(root: Path) -> Iterator[tuple[str, str]]:
    """File and text of each page."""
    for header in c_reference.HEADERS:
        text = (root / header).read_text(encoding="utf-8")
        name = header.rpartition("/")[2]
        for function in c_reference.read_functions(text):
            yield f"{function.name}.3.scd", function_page(function, "memstream.h" if "options" in name else name)
    command = (root / "docs" / "cli.md").read_text(encoding="utf-8")
    command = command.replace("`scripts/build.sh` makes `build/memstream`. It", "The command").replace(
        "build/memstream", "memstream"
    )
    synopsis = "# SYNOPSIS\n\n*memstream* [options] _command_ [arguments]\n\n# DESCRIPTION\n"
    brief = "look at, change and watch caches in shared memory"
    yield "memstream.1.scd", page("memstream", 1, brief, synopsis, *markdown(command), "# SEE ALSO\n\n*memstream*(7)\n")
    overview = (root / "docs" / "man" / "memstream.7.md").read_text(encoding="utf-8")
    functions = sorted(
        function.name
        for header in c_reference.HEADERS
        for function in c_reference.read_functions((root / header).read_text(encoding="utf-8"))
    )
    also = ", ".join(f"*{plain(name)}*(3)" for name in functions)
    brief = "a key-value cache in shared memory"
    yield "memstream.7.scd", page("memstream", 7, brief, *markdown(overview), f"# SEE ALSO\n\n*memstream*(1), {also}\n")


def main() -> int:
    folder = Path(sys.argv[1])
    root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parent.parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages_of(root):
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
