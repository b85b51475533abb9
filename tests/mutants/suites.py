"""The suites that have to catch the mutants, and how one runs without leaving anything behind."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple, Optional


class Suite(NamedTuple):
    name: str
    target: str
    program: str  # Relative to the build directory.
    arguments: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("",)  # For MEMSTREAM_BACKEND.
    limit_seconds: int = 60


def unit(name: str, *backends: str, limit_seconds: int = 60) -> Suite:
    return Suite(name, name, f"tests/{name}", (), backends or ("",), limit_seconds)


def torture(name: str, *arguments: str) -> Suite:
    return Suite(name, "memstream-torture", "memstream-torture", arguments, limit_seconds=240)


def operations(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--operation", name))


# Cheapest first: a mutant is tried on them in this order, after those that its entry names.
SUITES = [
    unit("arena_test"),
    unit("block_test"),
    unit("processes_test"),
    unit("access_clock_test", "posix"),
    unit("in_flight_calls_test"),
    unit("reconnect_test", "posix"),
    unit("index_test"),
    unit("shard_test"),
    unit("quick_get_test"),
    unit("quick_put_test"),
    unit("shard_touch_test"),
    unit("shard_tags_test"),
    unit("wait_table_test"),
    unit("shard_stamp_test"),
    unit("watch_table_test"),
    unit("access_trace_test"),
    unit("shard_conditions_test"),
    unit("shard_overwrite_test"),
    unit("shard_overwrite_race_test"),
    unit("shard_pins_test"),
    unit("shard_retired_test"),
    unit("shard_pins_race_test"),
    unit("eviction_test"),
    unit("eviction_border_test"),
    unit("eviction_lag_test"),
    unit("shard_check_test"),
    unit("shard_rebuild_test"),
    unit("shard_damage_test"),
    unit("walks_test"),
    unit("shard_full_test"),
    unit("memory_share_test"),
    unit("shard_shrink_test"),
    unit("pin_places_test"),
    unit("format_test"),
    unit("shard_lock_test"),
    unit("shard_lock_race_test"),
    Suite("shard_lock_step_test", "shard_lock_step_test", "tests/torture/shard_lock_step_test"),
    unit("cache_overwrite_test"),
    unit("hold_time_test", "posix", limit_seconds=120),
    unit("liveness_test", "posix", limit_seconds=120),
    unit("namespaces_test", "posix"),
    unit("abi_cache_test", "sysv", "posix"),
    unit("abi_memstream_test", "sysv", "posix"),
    unit("checksum_test", "posix"),
    unit("view_race_test", "posix"),
    unit("segment_conformance_test"),
    unit("segment_sysv_test"),
    unit("segment_posix_test"),
    unit("segment_race_test"),
    unit("small_memory_test", "posix"),
    unit("holes_test", "posix", limit_seconds=300),
    Suite("histories", "memstream-histories", "memstream-histories", ("--histories", "150"), limit_seconds=150),
    Suite(
        "histories_evicting",
        "memstream-histories",
        "memstream-histories",
        ("--histories", "60", "--evict"),
        limit_seconds=150,
    ),
    unit("lease_test", "posix"),
    unit("tags_test", "posix"),
    unit("consistent_test", "posix"),
    unit("wait_test", "posix"),
    unit("watch_test", "posix"),
    Suite(
        "get_and_touch_step_test", "get_and_touch_step_test", "tests/torture/get_and_touch_step_test", limit_seconds=60
    ),
    unit("trace_test", "posix"),
    Suite("watch_step_test", "watch_step_test", "tests/torture/watch_step_test", limit_seconds=120),
    unit("limit_table_test"),
    unit("limits_test", "posix", limit_seconds=120),
    unit("lease_kill_test", "posix"),
    unit("kill_test", "sysv", "posix", limit_seconds=120),
    unit("stress_test", "sysv", "posix", limit_seconds=120),
    unit("resize_test", "sysv", "posix"),
    unit("resize_load_test", "sysv", "posix", limit_seconds=120),
    torture(
        "torture_step_put",
        "step",
        "--stride",
        "1",
        "--mode",
        "after",
        "--backend",
        "posix",
        *operations("put-new", "put-hole", "put-larger", "put-split"),
        *operations("put-replace", "put-replace-extras", "put-replace-long"),
    ),
    torture(
        "torture_step_overwriting",
        "step",
        "--stride",
        "19",
        "--mode",
        "after",
        "--backend",
        "posix",
        *operations("get-overwritten", "connect-overwriting", "recover-overwriting"),
    ),
    torture("torture_step_window", "step", "--stride", "19", "--backend", "posix", "--operation", "put-evict-window"),
    torture("torture_step_delete", "step", "--stride", "5", "--backend", "posix", "--operation", "delete"),
    torture("torture_step_create", "step", "--stride", "997", "--backend", "posix", "--operation", "create"),
    torture("torture_step", "step", "--stride", "499", "--backend", "posix"),
    torture("torture_kill", "kill", "--rounds", "300"),
]
SUITE_OF_NAME = {suite.name: suite for suite in SUITES}

# The line of a suite's output that says what it found.
TELLING = re.compile(r"FINDING|ERROR:|does not hold|instead of|error:|Assertion|terminate called|signal")

# A suite that fails leaves segments and processes behind. In namespaces of its own they go with it.
SANDBOX = ("unshare", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
IN_SANDBOX = ("sh", "-c", 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"', "sandbox")


def sandbox_works() -> bool:
    return subprocess.run([*SANDBOX, *IN_SANDBOX, "true"], capture_output=True).returncode == 0


def reason_of(output: str, code: int) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = next((line for line in lines if TELLING.search(line)), lines[-1] if lines else "")
    return f"exit code {code}: {telling[:160]}"


def failure_of(suite: Suite, build: Path) -> Optional[str]:
    """Runs a suite that is built. None if it passed, otherwise how it failed; a hang is a failure."""
    for backend in suite.backends:
        environment = dict(os.environ, **({"MEMSTREAM_BACKEND": backend} if backend else {}))
        command = [*SANDBOX, *IN_SANDBOX, str(build / suite.program), *suite.arguments]
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=suite.limit_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"no end within {suite.limit_seconds} s"
        if process.returncode != 0:
            return reason_of(output, process.returncode)
    return None
