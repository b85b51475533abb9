"""The rooms of the package: which module may import which, and that no import leads back to where it came from."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set

import pytest
from conftest import CLIENT

# From the bottom up: each room may import from the ones before it. "" are the modules beside the rooms.
ROOMS = ("_core", "", "integrations", "cli")

# Modules beside the rooms that do nothing but give an earlier or shorter name to what is in a higher room.
OTHER_NAMES = {
    "memstream.django",
    "memstream.cachelib",
    "memstream.flask_caching",
    "memstream.dogpile",
    "memstream.redis",
    "memstream.limits_storage",
}


def modules(folder: Path) -> Dict[str, str]:
    """Returns the source of every module of a package, by name."""
    found = {}
    for path in (folder / "memstream").rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(source: str, known: Set[str]) -> Set[str]:
    """Returns the modules of the package that a source imports, at its top or later, also for type checkers only."""
    found: Set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in known else str(node.module) for name in names)
    return found & known


def graph(folder: Path) -> Dict[str, Set[str]]:
    sources = modules(folder)
    return {name: imports(source, set(sources)) - {name} for name, source in sources.items()}


def cycles(arrows: Dict[str, Set[str]]) -> Iterator[List[str]]:
    """Gives a cycle of each group of modules that import each other."""
    done: Set[str] = set()

    def walk(name: str, way: List[str]) -> Optional[List[str]]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return None
        for other in sorted(arrows[name]):
            found = walk(other, [*way, name])
            if found:
                return found
        done.add(name)
        return None

    for name in sorted(arrows):
        found = walk(name, [])
        if found:
            yield found
            done.update(found)


def room_of(name: str) -> int:
    """Returns the place of a module in ROOMS. memstream.programs is an earlier name of memstream.cli."""
    room = (name.split(".") + [""])[1]
    return ROOMS.index({"programs": "cli"}.get(room, room if room in ROOMS else ""))


def upward(arrows: Dict[str, Set[str]]) -> List[str]:
    """Returns the imports that lead from a room to a higher one."""
    return [
        f"{name} imports {other}"
        for name, others in sorted(arrows.items())
        for other in sorted(others)
        if room_of(other) > room_of(name) and name not in OTHER_NAMES
    ]


def test_no_import_leads_back_to_where_it_came_from() -> None:
    assert list(cycles(graph(CLIENT))) == []


def test_imports_lead_from_a_room_to_the_ones_below_it() -> None:
    arrows = graph(CLIENT)
    assert upward(arrows) == []
    assert len(arrows) > 30 and all(room_of(name) == 0 for name in arrows["memstream._core.connection"])


@pytest.mark.parametrize(
    "source, complaint",
    [
        ("import memstream.b\n", "memstream.b"),
        ("from memstream import b\n", "memstream.b"),
        ("def f():\n    from memstream.b import x\n", "memstream.b"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from memstream.b import x\n", "memstream.b"),
    ],
)
def test_a_cycle_is_found_wherever_the_import_stands(tmp_path: Path, source: str, complaint: str) -> None:
    package = tmp_path / "memstream"
    package.mkdir()
    (package / "a.py").write_text(source)
    (package / "b.py").write_text("from memstream.c import y\n")
    (package / "c.py").write_text("from memstream.a import z\n")
    (package / "d.py").write_text("import memstream.a\n")
    ((first, *_, last),) = cycles(graph(tmp_path))
    assert first == last and complaint in graph(tmp_path)["memstream.a"]


def test_an_import_upwards_is_found(tmp_path: Path) -> None:
    (tmp_path / "memstream" / "_core").mkdir(parents=True)
    (tmp_path / "memstream" / "_core" / "low.py").write_text("from memstream.high import x\n")
    (tmp_path / "memstream" / "high.py").write_text("")
    assert upward(graph(tmp_path)) == ["memstream._core.low imports memstream.high"]
