"""The storage for `limits` and Flask-Limiter does what MemoryStorage does, for all processes together."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from conftest import Segment

pytest.importorskip("limits", reason="limits is not installed (Debian: python3-limits)")

from limits import parse, strategies  # noqa: E402
from limits.storage import MemoryStorage, storage_from_string  # noqa: E402

from memstream import Cache, _shared  # noqa: E402
from memstream.limits_storage import MemStreamStorage  # noqa: E402

EXPIRY = 1
GUARD = 0.05


@pytest.fixture(autouse=True)
def attachments(segment: Segment) -> Iterator[None]:
    """Ends those of the storages: a System V segment stays as long as a process is attached."""
    yield
    while _shared._open:
        _shared._open.popitem()[1].close()


@pytest.fixture
def storage(cache: Cache) -> MemStreamStorage:
    return MemStreamStorage()


class Twins:
    """The two storages, asked one right after the other; never so near to the end of a window that they may differ."""

    def __init__(self, mine: MemStreamStorage) -> None:
        self._mine = mine
        self._model = MemoryStorage()
        self._ends: List[float] = []

    def ask(self, method: str, *arguments: Any) -> Tuple[Any, Any]:
        while any(abs(time.time() - end) < GUARD for end in self._ends):
            time.sleep(GUARD)
        begun = time.time()
        answers = getattr(self._mine, method)(*arguments), getattr(self._model, method)(*arguments)
        if method in ("incr", "acquire_entry"):
            self._ends.append(begun + EXPIRY)
            assert time.time() - begun < GUARD, "too slow a machine for this test"
        return answers


def test_generated_histories_are_those_of_the_memory_storage(storage: MemStreamStorage) -> None:
    twins, generator = Twins(storage), random.Random(25)
    keys = [f"key{number}" for number in range(12)]
    asked: Dict[str, int] = {}
    refused = 0
    for _ in range(600):
        key, amount = generator.choice(keys), generator.randint(1, 3)
        method = generator.choice(
            ["incr", "elastic", "get", "expiry", "acquire", "acquire", "window", "clear", "sleep"]
        )
        asked[method] = asked.get(method, 0) + 1
        if method == "sleep":
            time.sleep(generator.random() * 0.1)
        elif method in ("incr", "elastic"):
            # One limit of `limits` has one kind of window.
            kind = "elastic:" if method == "elastic" else "fixed:"
            mine, model = twins.ask("incr", kind + key, EXPIRY, method == "elastic", amount)
            assert mine == model
        elif method == "get":
            for kind in ("elastic:", "fixed:"):
                mine, model = twins.ask("get", kind + key)
                assert mine == model
        elif method == "expiry":
            mine, model = twins.ask("get_expiry", "fixed:" + key)
            assert abs(mine - model) <= 1  # Whole seconds of instants that are milliseconds apart.
        elif method == "acquire":
            mine, model = twins.ask("acquire_entry", key, 5, EXPIRY, amount)
            assert mine == model
            refused += 0 if mine else 1
        elif method == "window":
            mine, model = twins.ask("get_moving_window", key, 5, EXPIRY)
            assert mine[1] == model[1] and abs(mine[0] - model[0]) <= 1
        else:
            for kind in ("", "fixed:"):
                twins.ask("clear", kind + key)
    assert len(asked) == 8 and refused > 0


def test_the_strategies_of_limits_use_it_by_its_uri(cache: Cache, segment: Segment) -> None:
    storage = storage_from_string(f"memstream://{segment.name}")
    assert isinstance(storage, MemStreamStorage)
    assert storage.check()
    limit = parse("3/minute")
    for strategy in (
        strategies.FixedWindowRateLimiter,
        strategies.FixedWindowElasticExpiryRateLimiter,
        strategies.MovingWindowRateLimiter,
    ):
        limiter = strategy(storage)
        assert [limiter.hit(limit, strategy.__name__) for _ in range(4)] == [True, True, True, False]
        assert not limiter.test(limit, strategy.__name__)
        assert limiter.get_window_stats(limit, strategy.__name__)[1] == 0
    cache["other"] = b"stays"
    assert storage.reset() == 3
    assert strategies.MovingWindowRateLimiter(storage).hit(limit, "MovingWindowRateLimiter")
    assert cache["other"] == b"stays"


def test_more_than_a_window_holds_is_refused(storage: MemStreamStorage) -> None:
    assert not storage.acquire_entry("key", 2, EXPIRY, 3)
    assert storage.get_moving_window("key", 2, EXPIRY)[1] == 0


def test_keys_of_any_length_and_alphabet(storage: MemStreamStorage) -> None:
    for key in ("k" * 5000, "ключ", ""):
        assert storage.incr(key, 60) == 1
        assert storage.get(key) == 1
        assert storage.acquire_entry(key, 1, 60)
        assert not storage.acquire_entry(key, 1, 60)
        storage.clear(key)
        assert storage.get(key) == 0


def test_threads_and_processes_lose_no_request_and_let_none_through_too_many(
    storage: MemStreamStorage, segment: Segment
) -> None:
    code = """
import sys
from memstream.limits_storage import MemStreamStorage
storage = MemStreamStorage()
storage.check()
print("ready", flush=True)
sys.stdin.readline()
print(sum(storage.acquire_entry("window", 1000, 60) for _ in range(400)), flush=True)
for _ in range(60): storage.incr("counter", 60)
"""
    children = [segment.start("-c", code, stdin=subprocess.PIPE) for _ in range(3)]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    acquired: List[int] = []

    def acquire() -> None:
        acquired.append(sum(storage.acquire_entry("window", 1000, 60) for _ in range(400)))

    threads = [threading.Thread(target=acquire) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for child in children:
        out, error = child.communicate(timeout=60)
        assert child.returncode == 0, error.decode()
        acquired.append(int(out))
    assert sum(acquired) == 1000
    assert storage.get("counter") == 180


def test_a_cache_that_cannot_be_opened_is_not_healthy(segment: Segment) -> None:
    assert not MemStreamStorage(f"memstream://{segment.name}-absent", create=False).check()


def test_flask_limiter_limits_an_application(cache: Cache, segment: Segment) -> None:
    flask = pytest.importorskip("flask", reason="Flask is not installed (Debian: python3-flask)")
    limiter = pytest.importorskip(
        "flask_limiter", reason="Flask-Limiter is not installed (Debian: python3-flask-limiter)"
    )
    app = flask.Flask("limited")
    uri = f"memstream://{segment.name}"
    limiter.Limiter(lambda: "one", app=app, default_limits=["2/minute"], storage_uri=uri, strategy="moving-window")
    app.add_url_rule("/", "page", lambda: "page")
    client = app.test_client()
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
