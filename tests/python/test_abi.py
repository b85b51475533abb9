"""The ctypes declarations against the C headers, by the text of the headers and by the C compiler."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest
from conftest import ROOT

from memstream._core import abi
from memstream._core import library as loading
from memstream._core.records import ENTRY_FORMAT

HEADERS = "".join(
    (ROOT / "api" / name).read_text()
    for name in (
        "cache.h",
        "memstream_options.h",
        "memstream.h",
        "memstream_limits.h",
        "memstream_metrics.h",
        "memstream_tags.h",
        "memstream_watch.h",
    )
)
# Without comments, so that nothing in them looks like a declaration.
CODE = re.sub(r"/\*.*?\*/", "", HEADERS, flags=re.DOTALL)

C_NUMBERS = {
    "int": ctypes.c_int,
    "size_t": ctypes.c_size_t,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
}


def struct_bodies() -> Dict[str, List[str]]:
    """The names of the fields of each struct, in order, as the headers spell them."""
    bodies = re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", CODE, flags=re.DOTALL)
    return {name: re.findall(r"(\w+)(?:\[[^\]]*\])*;", body) for body, name in bodies}


def prototypes() -> Dict[str, str]:
    """The arguments of each function, as text."""
    found = re.findall(r"CACHE_API [^;]*?(\w+)\(([^)]*)\);", CODE)
    return {name: " ".join(arguments.split()) for name, arguments in found}


def test_statuses_are_those_of_the_header() -> None:
    header = {name: int(value) for name, value in re.findall(r"CACHE_(\w+) = (-?\d+)", CODE)}
    assert len(header) > 30
    assert {status.name: status.value for status in abi.Status} == header


def test_open_flags_are_those_of_the_header() -> None:
    header = {name: int(value) for name, value in re.findall(r"MEMSTREAM_OPEN_(\w+) = (\d+)", CODE)}
    assert header and {flag.name: flag.value for flag in abi.OpenFlags} == header


def test_largest_key_is_that_of_the_header() -> None:
    assert re.findall(r"#define CACHE_MAX_KEY_SIZE (\d+)", CODE) == [str(abi.MAX_KEY_SIZE)]


def test_every_struct_has_the_fields_of_the_header_in_order() -> None:
    declared = {name: [field[0] for field in struct._fields_] for name, struct in abi.STRUCTS.items()}
    assert declared == struct_bodies()


def test_every_struct_lies_in_memory_as_the_compiler_lays_it_out(tmp_path: Path) -> None:
    lines = []
    ours = []
    for name, struct in abi.STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        ours.append(f"{name} {ctypes.sizeof(struct)}")
        for field in [field[0] for field in struct._fields_]:
            lines.append(
                f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
            )
            descriptor = getattr(struct, field)
            ours.append(f"{name}.{field} {descriptor.offset} {descriptor.size}")
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stdio.h>\n#include "api/memstream_limits.h"\n#include "api/memstream_metrics.h"\n'
        '#include "api/memstream_tags.h"\nint main(void) {\n' + "\n".join(lines) + "\n}\n"
    )
    program = tmp_path / "layout"
    subprocess.run(["cc", "-std=c11", f"-I{ROOT}", str(source), "-o", str(program)], check=True)
    assert subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines() == ours


def test_every_function_of_the_full_interface_is_declared() -> None:
    header = prototypes()
    assert {name for name in header if name.startswith("memstream_")} == {
        name for name in abi.PROTOTYPES if name.startswith("memstream_")
    }
    assert set(abi.PROTOTYPES) <= set(header)


@pytest.mark.parametrize("name", sorted(abi.PROTOTYPES))
def test_arguments_are_those_of_the_header(name: str) -> None:
    text = prototypes()[name]
    parameters = [] if text == "void" else text.split(", ")
    declared = abi.PROTOTYPES[name][1]
    assert len(declared) == len(parameters)
    for parameter, ours in zip(parameters, declared):
        type_name = re.sub(r"\bconst\b|\w+$", "", parameter).strip()
        if "*" not in type_name:
            assert ours is C_NUMBERS[type_name], parameter
            continue
        target = type_name.split("*")[0].strip()
        if target in abi.STRUCTS:
            assert ours is ctypes.POINTER(abi.STRUCTS[target]), parameter
        elif target in C_NUMBERS:
            assert ours is ctypes.POINTER(C_NUMBERS[target]), parameter
        elif type_name.count("*") == 2:
            assert ours is ctypes.POINTER(ctypes.c_void_p), parameter
        else:
            assert ours in (ctypes.c_void_p, ctypes.c_char_p), parameter


def test_entry_format_is_as_large_as_the_struct() -> None:
    assert ENTRY_FORMAT.size == ctypes.sizeof(abi.Entry)


def test_package_and_library_are_of_one_version(library: Path) -> None:
    assert loading.load(str(library)).version == abi.VERSION


def test_every_status_has_a_sentence_of_its_own(library: Path) -> None:
    c = loading.load(str(library)).c
    sentences = {c.cache_strerror(status) for status in abi.Status}
    assert len(sentences) == len(abi.Status) and b"" not in sentences
