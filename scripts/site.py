#!/usr/bin/env python3
"""Lays the pages of the tree out for mkdocs, and checks the site that it makes of them.

    site.py pages ROOT FOLDER    FOLDER/docs with the pages and the files that they link to, and FOLDER/mkdocs.yml
    site.py check SITE           each link within SITE leads to a file and an anchor, and the search knows the pages
"""

import html
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
# Pages by the question of their reader. Pages that are not named come last.
SECTIONS = {
    "Start": ("README.md", "docs/installing.md", "docs/comparison.md", "docs/embedding.md"),
    "Use": ("docs/python.md", "docs/frameworks.md", "docs/abi.md", "docs/cli.md", "docs/near_cache.md"),
    "Run": ("docs/configuration.md", "docs/operations.md", "docs/troubleshooting.md", "SECURITY.md"),
    "Reference": ("docs/reference-c.md", "docs/reference-python.md", "CHANGELOG.md"),
    "Evidence": ("docs/performance.md", "docs/reliability.md"),
    "Inside": (
        "docs/tour.md",
        "docs/design.md",
        "docs/layout.md",
        "docs/locking.md",
        "docs/eviction.md",
        "docs/backends.md",
    ),
}


def pages_of(root: Path) -> dict[str, str]:
    """The pages, by their place in the tree, with their place in the site."""
    places = {"README.md": "index.md"}
    places.update({name: name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")})
    for page in sorted((root / "docs").rglob("*.md")):
        if page.parent.name != "man":
            path = page.relative_to(root / "docs").as_posix()
            places[f"docs/{path}"] = path.replace("README.md", "index.md")
    return places


def lay_out(root: Path, folder: Path) -> None:
    places = pages_of(root)
    for source, place in places.items():
        here = (root / source).parent

        def link(found: "re.Match[str]", here: Path = here, place: str = place) -> str:
            target = found[1]
            if re.match(r"[a-z]+:", target):
                return target
            file = (here / target).resolve()
            if file.is_dir():
                file = file / "README.md"
            path = file.relative_to(root).as_posix()
            goal = places.get(path, f"tree/{path}")
            if path not in places:
                copy = folder / "docs" / goal
                copy.parent.mkdir(parents=True, exist_ok=True)
                # A page of the tree that is none of the site stays a text.
                shutil.copy(file, copy.with_name(copy.name + ".txt") if file.suffix == ".md" else copy)
                goal += ".txt" if file.suffix == ".md" else ""
            return os.path.relpath(goal, Path(place).parent)

        parts = FENCE.split((root / source).read_text(encoding="utf-8"))
        parts[::2] = [LINK.sub(link, part) for part in parts[::2]]
        page = folder / "docs" / place
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("".join(parts), encoding="utf-8")
    named = {page for pages in SECTIONS.values() for page in pages}
    sections = {**SECTIONS, "More": tuple(page for page in places if page not in named)}
    settings = {
        "site_name": "MemStream",
        "docs_dir": "docs",
        "site_dir": "site",
        "theme": {"name": "mkdocs", "highlightjs": False},
        "plugins": ["search"],
        "use_directory_urls": False,
        "nav": [{name: [places[page] for page in pages if page in places]} for name, pages in sections.items()],
    }
    # JSON is YAML too.
    (folder / "mkdocs.yml").write_text(json.dumps(settings), encoding="utf-8")


def problems_of(site: Path) -> Iterator[str]:
    texts = {page: page.read_text(encoding="utf-8") for page in sorted(site.rglob("*.html"))}
    anchors = {page: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for page, text in texts.items()}
    for page, text in texts.items():
        if page.name == "404.html":  # Its links are from the root of a server.
            continue
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            path, _, anchor = html.unescape(link).partition("#")
            if re.match(r"[a-z]+:|//", path):
                continue
            file = (page.parent / unquote(path)).resolve() if path else page
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                yield f"{page.relative_to(site)}: {link} leads nowhere"
            elif anchor and file in anchors and anchor not in anchors[file]:
                yield f"{page.relative_to(site)}: {link} has no such heading"
    index = site / "search/search_index.json"
    found = {entry["location"].partition("#")[0] for entry in json.loads(index.read_text(encoding="utf-8"))["docs"]}
    for page in texts:
        name = page.relative_to(site).as_posix()
        if name not in found and page.name not in ("404.html", "search.html"):
            yield f"the search does not know {name}"


def main() -> int:
    if sys.argv[1] == "pages":
        lay_out(Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve())
        return 0
    site = Path(sys.argv[2]).resolve()
    problems = list(problems_of(site))
    print("\n".join(problems[:40]))
    print(f"{len(list(site.rglob('*.html')))} pages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
