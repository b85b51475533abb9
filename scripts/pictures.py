#!/usr/bin/env python3
"""Draws docs/pictures/*.dot as SVG beside them, readable on light and on dark pages.

    pictures.py            draw all
    pictures.py --check    exit 1 if a picture is not what its text says

It needs Graphviz (`dot`). The numbers in an SVG depend on the version of Graphviz and on the fonts, so that --check
compares the texts and the arrows of a picture and not where they stand.
"""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
# Graphviz writes black on white. A page may be dark: the reader's browser chooses.
STYLE = """<style>
text { fill: #1c2128; font-family: system-ui, sans-serif; }
path, polygon, polyline, ellipse { stroke: #57606a; }
polygon[fill="black"] { fill: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  path, polygon, polyline, ellipse { stroke: #9198a1; }
  polygon[fill="black"] { fill: #9198a1; }
}
</style>
"""


def draw(source: Path) -> str:
    """The SVG of a picture, without the background, the version and the date that Graphviz adds."""
    made = subprocess.run(["dot", "-Tsvg", str(source)], check=True, capture_output=True, text=True).stdout
    made = re.sub(r"<!--.*?-->\n?", "", made, flags=re.DOTALL)
    made = re.sub(r'<polygon fill="white" stroke="(?:transparent|none)"[^>]*/>\n', "", made)
    made = re.sub(r'font-family="[^"]*" ', "", made)
    made = re.sub(r"<\?xml.*?<svg", "<svg", made, flags=re.DOTALL)
    return re.sub(r"(<svg[^>]*>\n)", lambda match: match[1] + STYLE, made, count=1)


def content(svg: str) -> list[str]:
    """What a picture says: its texts and the names of its boxes and arrows."""
    return re.findall(r"<(?:title|text)[^>]*>([^<]*)<", svg)


def main() -> int:
    stale = 0
    sources = sorted(FOLDER.glob("*.dot"))
    for source in sources:
        picture = source.with_suffix(".svg")
        made = draw(source)
        if "--check" not in sys.argv:
            picture.write_text(made, encoding="utf-8")
        elif not picture.exists() or content(picture.read_text(encoding="utf-8")) != content(made):
            print(f"{picture.name} is not what {source.name} says: run scripts/pictures.py")
            stale += 1
    print(f"{len(sources)} pictures, {stale} stale")
    return 1 if stale or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
