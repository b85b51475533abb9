"""What the memstream command shows of a cache at work, held against what the test did."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_cli import COMMAND, Shell


@pytest.fixture(name="shell")
def make_shell() -> Iterator[Shell]:
    shell = Shell(f"metrics-{os.getpid()}")
    yield shell
    shell.run("rm", "--yes")


def fill(shell: Shell, count: int, value: bytes = b"x" * 100) -> None:
    from memstream import Cache

    with Cache(shell.name, size=8 << 20) as cache:
        cache.set_many({f"key{number}": value for number in range(count)})


def read(shell: Shell, rounds: int, count: int) -> None:
    from memstream import Cache

    with Cache(shell.name) as cache:
        for number in range(rounds):
            cache.get(f"key{number * 7 % count}")


def read_at_random(shell: Shell, rounds: int, count: int) -> None:
    from memstream import Cache

    numbers = random.Random(1)
    with Cache(shell.name) as cache:
        for _ in range(rounds):
            cache.get(f"key{numbers.randrange(count)}")


def families(text: str) -> Dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]


def value_of(family: Any, **labels: str) -> float:
    found = [sample.value for sample in family.samples if labels.items() <= sample.labels.items()]
    assert len(found) == 1, (labels, family)
    return float(found[0])


def test_metrics_are_read_by_the_official_parser_and_agree_with_stat(shell: Shell) -> None:
    fill(shell, 80_000)
    read(shell, 3000, 1000)
    shell.run("get", "absent")
    page, report = families(shell.ok("metrics")), shell.json("stat")
    commands = page["memstream_commands"]
    assert value_of(commands, command="get", status="ok") == report["hits"]
    assert value_of(commands, command="get", status="miss") == report["misses"]
    assert value_of(commands, command="set", status="ok") == report["puts"] == report["operations"]["set"]["ok"]
    evicted = page["memstream_evicted"]
    assert sum(sample.value for sample in evicted.samples) == report["evictions"] > 0
    assert value_of(page["memstream_entries"]) == report["entries"]
    assert value_of(page["memstream_limit_bytes"]) == report["max_memory"]
    assert value_of(page["memstream_current_bytes"]) == report["used_memory"] + report["table_memory"]
    labels = page["memstream_entries"].samples[0].labels
    assert labels == {"cache": shell.name, "backend": report["backend"]}
    for family in page.values():
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family


def test_invalidations_of_tags_are_counted_everywhere(shell: Shell) -> None:
    fill(shell, 1)
    assert shell.json("stat")["invalidations"] == 0 and "invalidations" not in shell.ok("stat")
    shell.ok("put", "page", "x", "--tag", "pages")
    for _ in range(3):
        shell.ok("invalidate", "pages")
    assert shell.json("stat")["invalidations"] == 3
    assert "3 invalidations" in shell.ok("stat")
    assert value_of(families(shell.ok("metrics"))["memstream_invalidations"]) == 3


def test_limits_permits_and_waiters_are_the_same_everywhere(shell: Shell) -> None:
    from memstream import Cache

    fill(shell, 1)
    assert shell.json("stat")["limits"]["rate_capacity"] == 0  # A small segment has none.
    assert "rates" not in shell.ok("stat") and "0 for a change, 0 for a permit, 0 for a lease" in shell.ok("stat")
    shell.ok("rm", "--yes")
    with Cache(shell.name, size=16 << 20) as cache, Cache(shell.name) as other:
        for number in range(6):
            cache.limit(f"user{number}", rate=2, period=3600)
        lease = cache.lease("computed")
        assert lease
        wait = "import sys; from memstream import Cache; cache = Cache(sys.argv[1]); print(1, flush=True); "
        waits = ["cache.wait('absent', None)"]
        waits += ["cache.lock('one').acquire()"] * 2 + ["cache.wait_for_lease('computed')"] * 3
        with ExitStack() as held:
            for name, permits in (("pool", 3), ("pool", 3), ("one", 1), ("two", 1)):
                held.enter_context(cache.semaphore(name, permits))
            held.enter_context(other.semaphore("pool", 3))
            children = [
                subprocess.Popen(["/usr/bin/python3", "-c", wait + one, shell.name], stdout=subprocess.PIPE)
                for one in waits
            ]
            try:
                for child in children:
                    assert child.stdout is not None and child.stdout.readline() == b"1\n"
                deadline = time.monotonic() + 30
                while tuple(cache.usage())[-3:] != (1, 2, 3) and time.monotonic() < deadline:
                    time.sleep(0.001)
                for child in children:  # Python looks at its signals in between. A stopped process waits.
                    os.kill(child.pid, signal.SIGSTOP)
                usage, report, text = cache.usage(), shell.json("stat"), shell.ok("stat")
                page = families(shell.ok("metrics"))
                served = shell.json("report", "--seconds", "0.1")["stat"]
                environment = {**os.environ, "MEMSTREAM_NAME": shell.name}
                script = Path(__file__).parents[2] / "clients" / "python" / "analytics.py"
                analysed = json.loads(
                    subprocess.check_output(["/usr/bin/python3", str(script), "--json"], env=environment)
                )
                screen = subprocess.check_output(["/usr/bin/python3", str(script)], env=environment).decode()
            finally:
                for child in children:
                    child.kill()
                    child.wait()
    limits = report["limits"]
    assert limits == {
        "rates": 6,
        "rate_capacity": 512,
        "semaphores": 1,
        "locks": 2,
        "permits": 5,
        "holders": 4,
        "holder_capacity": 508,
    }
    waiters = report["waiters"]
    assert waiters == {"change": 1, "permit": 2, "lease": 3}
    assert (served["limits"], served["waiters"]) == (limits, waiters)
    assert usage._asdict() == {**limits, **{f"{what}_waiters": count for what, count in waiters.items()}}
    assert {name: analysed[name] for name in usage._fields} == usage._asdict() and analysed["invalidations"] == 0
    for shown in (text, screen):
        assert "6 of 512 rates, 1 semaphores, 2 locks; 5 permits in 4 of 508 places" in shown
        assert "1 for a change, 2 for a permit, 3 for a lease" in shown
    names = {
        "rates": "rate_limits",
        "rate_capacity": "rate_limit_capacity",
        "holders": "permit_holders",
        "holder_capacity": "permit_holder_capacity",
    }
    for name, count in limits.items():
        assert value_of(page[f"memstream_{names.get(name, name)}"]) == count, name
    assert {sample.labels["for"]: sample.value for sample in page["memstream_waiters"].samples} == waiters


def test_alert_rules_name_metrics_and_labels_that_exist(shell: Shell) -> None:
    fill(shell, 1000)
    rules = (Path(__file__).parents[2] / "docs" / "prometheus-alerts.yml").read_text()
    samples = {sample.name for family in families(shell.ok("metrics")).values() for sample in family.samples}
    named = set(re.findall(r"memstream_[a-z_]+", rules))
    assert len(named) >= 6 and named <= samples, named - samples


def test_histograms_of_the_metrics_are_cumulative_and_complete(shell: Shell) -> None:
    fill(shell, 80_000)
    page, report = families(shell.ok("metrics")), shell.json("stat")
    for name in ("memstream_eviction_age_seconds", "memstream_eviction_idle_seconds"):
        samples = page[name].samples
        buckets = [sample.value for sample in samples if sample.name.endswith("_bucket")]
        assert buckets == sorted(buckets) and len(buckets) > 20
        assert [sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")][-1] == "+Inf"
        count = [sample.value for sample in samples if sample.name.endswith("_count")]
        assert count == [buckets[-1]] == [report["evictions"]]


def test_removals_have_a_cause_and_sum_up(shell: Shell) -> None:
    fill(shell, 80_000)
    shell.ok("del", "key79999")
    report = shell.json("stat")
    removals = report["removals"]
    assert sum(removals[cause] for cause in ("room", "large_value", "table", "chain")) == report["evictions"]
    assert removals["delete"] == 1
    entries = report["entries"]
    shell.ok("clear", "--yes")
    assert shell.json("stat")["removals"]["clear"] == entries
    assert "for room" in shell.ok("stat")


def test_advise_says_that_too_little_was_seen_or_what_a_size_would_do(shell: Shell) -> None:
    shell.ok("put", "key", "x")
    assert "Too little was sampled" in shell.ok("advise")
    assert shell.json("advise")["curve"]["points"] == []
    fill(shell, 60_000)
    read_at_random(shell, 500_000, 60_000)
    report = shell.json("advise")
    points = report["curve"]["points"]
    ratios = [point["hit_ratio"] for point in points]
    assert ratios == sorted(ratios) and [point["factor"] for point in points if point["factor"] == 1]
    assert 0 < report["curve"]["error"] < 0.2
    assert re.search(r"Twice the memory \(16\.0 MiB\): \d+\.\d points more hits", report["advice"][0]["what"])
    # Keys that are equally likely: a cache with a part of them hits that part.
    stat = shell.json("stat")
    expected = min(1.0, stat["entries"] / 60_000)
    assert abs(ratios[3] - expected) < 0.2, (ratios, expected)


def test_hotkeys_finds_the_rate_of_what_is_read_now(shell: Shell) -> None:
    fill(shell, 1000)
    code = (
        "import sys; from memstream import Cache; cache = Cache(sys.argv[1]); print(1, flush=True)\n"
        "while True:\n    for number in range(1000): cache.get('key5'); cache.get(f'key{number}')"
    )
    with subprocess.Popen(["/usr/bin/python3", "-c", code, shell.name], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == b"1\n"
            deadline = time.monotonic() + 30
            rows: List[Any] = []
            while (not rows or rows[0]["key"] != "key5") and time.monotonic() < deadline:
                done = shell.run("hotkeys", "--rate", "0.5", "--json")
                rows = json.loads(done.stdout)["keys"]
            assert rows[0]["key"] == "key5" and rows[0]["gets_per_s"] > 100
        finally:
            child.kill()
    shell.fails(2, "hotkeys", "--rate", "-1")


def test_scan_visits_every_key_once(shell: Shell) -> None:
    fill(shell, 1000)
    keys: List[str] = []
    cursor = 0
    while True:
        part = shell.json("scan", "--cursor", str(cursor), "--count", "300")
        keys += part["keys"]
        cursor = part["cursor"]
        if cursor == 0:
            break
    assert sorted(keys) == sorted(f"key{number}" for number in range(1000))
    assert shell.ok("scan", "--count", "1000", "--match", "key99?").count("key99") == 10
    shell.fails(2, "scan", "--count", "0")


def test_map_adds_up(shell: Shell) -> None:
    fill(shell, 10_000)
    report, stat = shell.json("map"), shell.json("stat")
    assert report["live_bytes"] == stat["used_memory"]
    assert report["live_bytes"] + report["table_bytes"] + report["pinned_bytes"] + report["other_bytes"] == 8 << 20
    drawn = sum(report["fill"]) * (8 << 20) / len(report["fill"])
    assert abs(drawn - report["live_bytes"]) < report["live_bytes"] / 100
    lines = shell.ok("map", "--rows", "4").splitlines()
    assert all(len(line) == 66 and line[0] == line[-1] == "|" for line in lines[:4])
    shell.fails(2, "map", "--rows", "0")


def test_bench_measures_and_leaves_nothing(shell: Shell) -> None:
    report = shell.json("bench", "--seconds", "0.1", "--keys", "1000", "--processes", "2")
    assert report["gets_per_s"] > 1000 and report["sets_per_s"] > 1000
    assert not [row for row in shell.json("ls")["segments"] if row["name"].startswith("bench-")]
    shell.fails(2, "bench", "--processes", "0")


def test_completion_completes_commands_and_options(shell: Shell) -> None:
    script = shell.ok("completion") + (
        'COMP_WORDS=(memstream hotk); COMP_CWORD=1; _memstream; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(memstream hotkeys --ra); COMP_CWORD=2; _memstream; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split() == ["hotkeys", "--rate"]


def test_top_prints_plain_lines_without_a_terminal(shell: Shell) -> None:
    fill(shell, 100)
    text = shell.ok("top", "--count", "2", "--seconds", "0.1")
    assert text.count("hit ratio") == 2 and "LARGE KEY" in text and "PROCESS" in text
    assert "gets_per_s" in shell.json("top", "--seconds", "0.1")
    shell.fails(2, "top", "--seconds", "0")
    shell.fails(3, "top", "--name", "absent-" + shell.name)


class Tmux:
    """A terminal of its own, of a server that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self.words = ["tmux", "-S", str(folder / "socket"), "-f", "/dev/null"]

    def run(self, *words: str) -> str:
        done = subprocess.run([*self.words, *words], capture_output=True, check=True, timeout=30)
        return done.stdout.decode()

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + 30
        screen = ""
        while text not in screen and time.monotonic() < deadline:
            time.sleep(0.1)
            screen = self.run("capture-pane", "-p", "-t", "top")
        assert text in screen, screen
        return screen


def test_top_draws_sorts_filters_pauses_and_resizes_in_a_terminal(shell: Shell, tmp_path: Path) -> None:
    fill(shell, 100)
    shell.ok("put", "whale", "x" * 5000)
    tmux = Tmux(tmp_path)
    environment = f"MEMSTREAM_BACKEND={os.environ.get('MEMSTREAM_BACKEND', 'posix')} LC_ALL=C.UTF-8"
    tmux.run(
        *("new-session", "-d", "-s", "top", "-x", "90", "-y", "30"),
        f"env {environment} {COMMAND} top --name {shell.name} --seconds 0.2; echo ended; sleep 60",
    )
    try:
        screen = tmux.wait_for("whale")
        assert "gets/s" in screen and "sort (rate)" in screen
        tmux.run("send-keys", "-t", "top", "s")
        tmux.wait_for("sort (gets)")
        tmux.run("send-keys", "-t", "top", "p")
        tmux.wait_for("PAUSED")
        tmux.run("send-keys", "-t", "top", "p")
        tmux.run("send-keys", "-t", "top", "/")
        tmux.wait_for("pattern")
        tmux.run("send-keys", "-t", "top", "key7*", "Enter")
        screen = tmux.wait_for("filter (key7*)")
        assert "key77" in screen and "whale" not in screen
        tmux.run("resize-window", "-t", "top", "-x", "50", "-y", "12")
        tmux.wait_for("hit ratio")
        tmux.run("send-keys", "-t", "top", "q")
        tmux.wait_for("ended")
    finally:
        tmux.run("kill-server")
