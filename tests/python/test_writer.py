"""writer.py: what it stores under which key, what it refuses, what it logs."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
from pathlib import Path
from typing import List

import pytest
from conftest import CLIENT, MIB, Segment

from memstream import Cache
from memstream.cli import loading
from memstream.cli.files import SourceFile, Tree

WRITER = str(CLIENT / "writer.py")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of files: nested, empty, with NUL bytes, of several MiB, of odd names."""
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "text.txt").write_text("some text\n")
    (root / "empty").touch()
    (root / "deep" / "nul").write_bytes(b"\0a\0" * 100)
    (root / "deep" / "er" / "large").write_bytes(os.urandom(3 * MIB))
    (root / "deep" / "er" / "middle").write_bytes(os.urandom(70_000))
    (root / "with space").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(root) + b"/not-utf8-\xff")).write_bytes(b"y")
    return root


def files_of(root: Path) -> List[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


# ---- put ----


def test_put_stores_a_value(segment: Segment) -> None:
    done = segment.program("writer", "put", "key", "välue")
    assert (done.returncode, done.stdout) == (0, b"stored key: 6 B\n"), done.stderr
    with Cache(create=False) as cache:
        assert cache["key"] == "välue".encode()


@pytest.mark.parametrize("size", [0, 10, 64 * 1024, 5 * MIB])
def test_put_stores_a_file(segment: Segment, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size))
    assert segment.program("writer", "put", "key", "--file", tmp_path / "file").returncode == 0
    with Cache(create=False) as cache:
        assert cache["key"] == (tmp_path / "file").read_bytes()


def test_put_stores_standard_input(segment: Segment) -> None:
    assert segment.program("writer", "put", "key", "--file", "-", input=b"\0from a pipe\n\0").returncode == 0
    with Cache(create=False) as cache:
        assert cache["key"] == b"\0from a pipe\n\0"


def test_put_takes_keys_that_are_not_utf8(segment: Segment) -> None:
    assert segment.program("writer", "put", os.fsdecode(b"\xff"), "value").returncode == 0
    with Cache(create=False) as cache:
        assert cache[b"\xff"] == b"value"


def test_put_with_ttl_expires(segment: Segment) -> None:
    assert segment.program("writer", "put", "key", "value", "--ttl", "60").returncode == 0
    with Cache(create=False) as cache:
        entry = cache.entry("key")
        assert entry is not None and entry.expires_at is not None
        assert entry.expires_at - entry.created_at == pytest.approx(60, abs=1)


@pytest.mark.parametrize(
    "arguments", [("put", "key"), ("put", "key", "value", "--file", "x"), ("put",), (), ("nonsense",)]
)
def test_put_needs_one_source(segment: Segment, arguments: "tuple[str, ...]") -> None:
    done = segment.run(WRITER, *arguments)
    assert done.returncode == 2 and done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("ttl", ["0", "-1", "soon", "nan", "inf"])
def test_an_impossible_ttl_is_wrong_usage(segment: Segment, ttl: str) -> None:
    done = segment.program("writer", "put", "key", "value", f"--ttl={ttl}")
    assert done.returncode == 2 and b"--ttl" in done.stderr


def test_put_of_a_file_that_is_not_there_is_refused(segment: Segment) -> None:
    done = segment.program("writer", "put", "key", "--file", "/no/such/file")
    assert done.returncode == 4
    assert done.stderr == b"writer.py: /no/such/file: No such file or directory\n"


def test_put_of_too_large_a_value_is_refused_with_size_and_limit(segment: Segment, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(20 * MIB))
    for path, data in ((str(tmp_path / "file"), b""), ("-", bytes(20 * MIB))):
        done = segment.program("writer", "put", "key", "--file", path, input=data)
        assert done.returncode == 4
        assert str(20 * MIB).encode() in done.stderr and done.stderr.count(b"\n") == 1


# ---- load ----


def test_load_stores_every_file_below_the_name_of_the_folder(segment: Segment, tree: Path) -> None:
    done = segment.program("writer", "load", tree)
    assert done.returncode == 0, done.stderr
    files = files_of(tree)
    with Cache(create=False) as cache:
        assert len(cache) == len(files) == 7
        for path in files:
            assert cache[b"tree/" + os.fsencode(path.relative_to(tree))] == path.read_bytes()
    total = sum(path.stat().st_size for path in files)
    assert re.fullmatch(
        rb"stored 7 files, 3\.1 MiB \(%d bytes\) in \d+\.\d\d s: [\d.]+ MiB/s, \d+ files/s\n" % total, done.stdout
    )


def test_load_gives_the_same_keys_however_the_folder_is_named(segment: Segment, tree: Path) -> None:
    names = [(tree, "/"), (f"{tree}/", "/"), ("tree", tree.parent), (".", tree), ("../tree/.", tree)]
    expected = None
    for name, folder in names:
        assert segment.program("writer", "load", name, cwd=folder).returncode == 0
        with Cache(create=False) as cache:
            keys = sorted(cache)
            cache.clear()
        expected = expected or keys
        assert keys == expected and b"tree/text.txt" in keys


def test_load_takes_files_and_several_paths(segment: Segment, tree: Path) -> None:
    assert segment.program("writer", "load", tree / "text.txt", tree / "deep" / "er", tree / "text.txt").returncode == 0
    with Cache(create=False) as cache:
        assert sorted(cache) == [b"er/large", b"er/middle", b"text.txt"]


def test_load_goes_in_the_order_of_the_names(tmp_path: Path) -> None:
    for name in ("b/2", "a/9", "b/1", "c", "a/0", "b/d/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    keys = [file.key.decode().partition("/")[2] for file in Tree([str(tmp_path)])]
    assert keys == ["c", "a/0", "a/9", "b/1", "b/2", "b/d/x"]


def test_load_of_the_root_folder_has_keys_without_a_leading_slash(tmp_path: Path) -> None:
    assert next(iter(Tree(["/bin/sh"]))).key == b"sh"
    first = next(iter(Tree(["/"])))
    assert not first.key.startswith(b"/") and first.path == "/" + os.fsdecode(first.key)


def test_load_puts_the_prefix_before_every_key(segment: Segment, tree: Path) -> None:
    assert segment.program("writer", "load", tree / "deep", "--prefix", "v2:", "--ttl", "60").returncode == 0
    with Cache(create=False) as cache:
        assert sorted(cache) == [b"v2:deep/er/large", b"v2:deep/er/middle", b"v2:deep/nul"]
        assert all(entry.expires_at is not None for entry in cache.scan())


def test_load_refuses_paths_whose_keys_would_collide(segment: Segment, tmp_path: Path) -> None:
    for folder in ("a/same", "b/same"):
        (tmp_path / folder).mkdir(parents=True)
    done = segment.program("writer", "load", tmp_path / "a/same", tmp_path / "b/same")
    assert done.returncode == 2 and b"a/same" in done.stderr and b"b/same" in done.stderr and b"--prefix" in done.stderr


def test_load_of_a_path_that_is_not_there_is_wrong_usage(segment: Segment) -> None:
    done = segment.program("writer", "load", "/no/such/folder")
    assert (done.returncode, done.stderr) == (2, b"writer.py: /no/such/folder: no such file or folder\n")


def test_load_follows_links_to_files_and_skips_what_is_no_file(segment: Segment, tree: Path) -> None:
    (tree / "link").symlink_to(tree / "text.txt")
    (tree / "dangling").symlink_to(tree / "nothing")
    (tree / "folder-link").symlink_to(tree / "deep")
    os.mkfifo(tree / "fifo")
    done = segment.program("writer", "load", tree)
    assert done.returncode == 0, done.stderr
    assert b"stored 8 files" in done.stdout and b"skipped 2" in done.stdout
    with Cache(create=False) as cache:
        assert cache["tree/link"] == b"some text\n"
        assert not list(cache.scan("tree/folder-link"))


def test_load_counts_what_is_refused_and_why_and_goes_on(segment: Segment, tree: Path) -> None:
    with (tree / "huge").open("wb") as file:
        file.truncate(20 * MIB)
    folder = tree
    for _ in range(5):
        folder = folder / ("n" * 250)
        folder.mkdir()
    (folder / "too-long-a-key").touch()
    done = segment.program("writer", "load", tree)
    assert done.returncode == 4
    assert b"refused tree/huge: " in done.stderr and str(20 * MIB).encode() in done.stderr
    assert b"stored 7 files" in done.stdout
    assert (
        b"refused 2: 1 ValueTooLarge, 1 BadKey" in done.stdout or b"refused 2: 1 BadKey, 1 ValueTooLarge" in done.stdout
    )


def give_up_reading_everything() -> None:
    """Takes from root, if that is who runs the tests, the right to read what its permission bits forbid."""
    drop_capability, dac_override, dac_read_search = (
        24,
        1,
        2,
    )  # PR_CAPBSET_DROP and two capabilities, as Linux has them.
    for capability in (dac_override, dac_read_search):
        ctypes.CDLL(None).prctl(drop_capability, capability, 0, 0, 0)


def test_load_says_when_the_cache_is_too_small_for_all_of_it(segment: Segment, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / str(number)).write_bytes(bytes(MIB))
    done = segment.program("writer", "load", tmp_path)
    assert done.returncode == 0
    with Cache(create=False) as cache:
        evictions = cache.stats().evictions
    lines = done.stdout.decode().splitlines()
    assert evictions > 8 and lines[0].startswith(f"evicted {evictions} entries meanwhile")
    assert lines[-1].startswith("stored 40 files, 40.0 MiB")


def test_load_names_files_and_folders_that_cannot_be_read(segment: Segment, tree: Path) -> None:
    (tree / "text.txt").chmod(0)
    (tree / "deep").chmod(0)
    done = segment.program("writer", "load", tree, preexec_fn=give_up_reading_everything)
    (tree / "deep").chmod(0o755)
    assert done.returncode == 4, done.stderr
    assert b"refused tree/text.txt: " in done.stderr and b"refused folder " in done.stderr
    assert b"refused 2: 2 Permission denied" in done.stdout


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_a_file_that_changes_while_it_is_read_is_stored_whole(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    size = 150_000 if change == "shrinks" else 80_000  # What the system says a moment before.
    fstat = os.fstat
    with Cache() as cache:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", lambda fd: os.stat_result([*fstat(fd)[:6], size, *fstat(fd)[7:]]))
            assert loading.store_file(cache, SourceFile(b"key", str(path)), None, wants_digest=False) == (100_000, "")
        assert cache["key"] == b"x" * 100_000
        assert cache.stats().puts == 1


def test_a_file_of_the_proc_kind_is_read_to_its_end(segment: Segment) -> None:
    assert segment.program("writer", "put", "version", "--file", "/proc/version").returncode == 0
    with Cache(create=False) as cache:
        assert cache["version"] == Path("/proc/version").read_bytes() != b""


@pytest.mark.parametrize(
    "arguments", [("load",), ("load", "x", "--jsonl", "y"), ("load", "--jsonl", "y"), ("load", "x", "--key", "k")]
)
def test_load_needs_one_source(segment: Segment, arguments: "tuple[str, ...]") -> None:
    done = segment.program("writer", *arguments)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1


# ---- load --jsonl ----


def test_load_jsonl_stores_each_line_under_its_field(segment: Segment, tmp_path: Path) -> None:
    lines = [
        b'{"id": "a", "n": 1}',
        '{"id": "ключ", "text": "ж"}'.encode(),
        b'{"id": 7}  ',
        b'{"other": 1, "id": "last"}',
    ]
    (tmp_path / "lines").write_bytes(lines[0] + b"\n\n" + lines[1] + b"\r\n" + lines[2] + b"\n" + lines[3])
    done = segment.program("writer", "load", "--jsonl", tmp_path / "lines", "--key", "id", "--prefix", "row:")
    assert done.returncode == 0 and b"stored 4 lines" in done.stdout
    with Cache(create=False) as cache:
        assert dict(cache.items()) == {
            b"row:a": lines[0],
            "row:ключ".encode(): lines[1],
            b"row:7": lines[2],
            b"row:last": lines[3],
        }


def test_load_jsonl_reads_standard_input(segment: Segment) -> None:
    done = segment.program("writer", "load", "--jsonl", "-", "--key", "id", input=b'{"id": "a"}\n')
    assert done.returncode == 0
    with Cache(create=False) as cache:
        assert cache["a"] == b'{"id": "a"}'


def test_load_jsonl_refuses_single_lines_by_number_and_reason(segment: Segment) -> None:
    lines = b'{"id": "good"}\nno json\n[1]\n{"id": null}\n{"id": true}\n{"x": 1}\n{"id": ""}\n{"id": "fine"}\n\xff\n'
    done = segment.program("writer", "load", "--jsonl", "-", "--key", "id", input=lines)
    assert done.returncode == 4
    for line in (
        b"line 2: not JSON",
        b"line 3: not a JSON object",
        b"line 4: no string",
        b"line 5: ",
        b"line 6: ",
        b"line 9: ",
    ):
        assert b"refused " + line in done.stderr
    assert b"stored 2 lines" in done.stdout and b"refused 7: 3 no string or whole number in field 'id'" in done.stdout


def test_load_jsonl_of_a_file_that_is_not_there_is_refused(segment: Segment) -> None:
    done = segment.program("writer", "load", "--jsonl", "/no/such/file", "--key", "id")
    assert (done.returncode, done.stderr) == (4, b"writer.py: /no/such/file: No such file or directory\n")


# ---- the log ----


def test_load_logs_each_key_that_was_accepted(segment: Segment, tree: Path, tmp_path: Path) -> None:
    with (tree / "huge").open("wb") as file:
        file.truncate(20 * MIB)
    assert segment.program("writer", "load", tree, "--log", tmp_path / "log").returncode == 4
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {os.fsencode(record["key"]) for record in records} == {
        b"tree/" + os.fsencode(path.relative_to(tree)) for path in files_of(tree) if path.name != "huge"
    }
    assert {"key": "tree/with space", "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()} in records


def test_a_log_goes_on_after_an_unfinished_line(segment: Segment, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"key": "half')
    assert segment.program("writer", "load", tree / "text.txt", "--log", tmp_path / "log").returncode == 0
    assert (tmp_path / "log").read_text().splitlines()[1:] == [(tmp_path / "log").read_text().splitlines()[-1]]
    done = segment.program("reader", "verify", "--log", tmp_path / "log")
    assert done.returncode == 0 and b"1 same" in done.stdout and b"passed over 1 unfinished" in done.stdout


def test_a_log_that_cannot_be_written_is_refused(segment: Segment, tree: Path) -> None:
    done = segment.program("writer", "load", tree, "--log", "/no/such/folder/log")
    assert done.returncode == 4 and b"/no/such/folder/log" in done.stderr
