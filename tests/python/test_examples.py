"""The examples that people copy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from memstream import Cache

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_rate_limiter_counts_for_all_processes(segment: Any, cache: Cache) -> None:
    time.sleep(max(0.0, 61 - time.time() % 60) if time.time() % 60 > 50 else 0.0)  # Not across two windows.
    script = str(EXAMPLES / "rate_limiter.py")
    lines = [segment.run(script, "ada", "ada").stdout.decode().split() for _ in range(2)]
    assert [word for words in lines for word in words if word != "ada"] == ["allowed"] * 3 + ["refused"]
    assert b"bob allowed" in segment.run(script, "bob").stdout


def test_sessions_lose_no_change(segment: Any) -> None:
    from sessions import Session, Sessions  # type: ignore[import-not-found]

    with Cache(serializer="json") as cache:
        sessions = Sessions(cache, seconds=60)
        name = sessions.create(user="ada", clicks=0)
        assert sessions.load(name) == {"user": "ada", "clicks": 0}

        def click(session: Session) -> None:
            session["clicks"] += 1

        def overtaken(session: Session) -> None:
            if session["clicks"] == 0:
                assert sessions.change(name, click)  # As another request would, before this one stores.
            click(session)

        assert sessions.change(name, overtaken)
        assert sessions.load(name) == {"user": "ada", "clicks": 2}
        sessions.end(name)
        assert sessions.load(name) is None
        assert not sessions.change(name, click)


def test_a_session_ends_and_a_visit_renews_it(segment: Any) -> None:
    from sessions import Sessions

    with Cache(serializer="json") as cache:
        left = Sessions(cache, seconds=0.05).create()
        visited = Sessions(cache, seconds=60).create()
        time.sleep(0.1)
        assert Sessions(cache).load(left) is None
        assert Sessions(cache, seconds=600).load(visited) == {}
        entry = cache.entry(f"session:{visited}")
        assert entry is not None and entry.expires_at is not None and entry.expires_at - time.time() > 300


def test_settings_follow_what_another_process_publishes(segment: Any, cache: Cache) -> None:
    from config_broadcaster import Settings  # type: ignore[import-not-found]

    script = str(EXAMPLES / "config_broadcaster.py")
    settings = Settings(cache, {"limit": 1})
    assert settings.now() == {"limit": 1}
    for limit in (2, 3):
        assert segment.run(script, f'{{"limit": {limit}}}').returncode == 0
        for _ in range(10):
            assert settings.now() == {"limit": limit}
    assert settings.decoded == 2
    assert segment.run(script).stdout == b'{"limit": 3}\n'
    cache.delete("config")
    assert settings.now() == {"limit": 1}


def test_features_are_computed_once_for_all_workers(segment: Any, cache: Cache) -> None:
    numpy = pytest.importorskip("numpy")
    from features import FeatureCache, spread  # type: ignore[import-not-found]

    script = str(EXAMPLES / "features.py")
    assert segment.run(script, "ada", "bob").stdout == b"ada 3.0 2.0\nbob 3.0 0.0\ncomputed 2\n"
    assert segment.run(script, "bob", "anna").stdout == b"bob 3.0 0.0\nanna 4.0 2.0\ncomputed 1\n"
    features = FeatureCache(cache, width=2, compute=spread)
    rows = features.rows(["anna", "ada", "anna", "eve", "eve"])
    assert rows.dtype == "f4"
    assert rows.tolist() == [[4, 2], [3, 2], [4, 2], [3, 0], [3, 0]]
    assert features.computed == 1
    assert features.rows([]).shape == (0, 2)
    another = FeatureCache(cache, width=3, compute=lambda users: numpy.zeros((len(users), 3)), version="2")
    assert another.rows(["ada"]).tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match=r"Invalid rows of shape \(1, 2\): expected \(1, 3\)"):
        FeatureCache(cache, width=3, compute=spread).rows(["zoe"])


def test_a_table_is_loaded_once_and_shared_in_place(segment: Any, cache: Cache) -> None:
    numpy = pytest.importorskip("numpy")
    from features import FeatureCache, spread

    worker = """if True:
        import sys, time, numpy
        sys.path.insert(0, sys.argv[1])
        from features import FeatureCache, spread
        from memstream import Cache
        loads = []
        def load():
            loads.append(1)
            time.sleep(0.3)
            return numpy.arange(6.0).reshape(2, 3)
        with Cache() as cache:
            table = FeatureCache(cache, 2, spread).table("embeddings", load)
            print(len(loads), table.sum(), table.flags.writeable)
            del table"""
    workers = [segment.start("-c", worker, str(EXAMPLES)) for _ in range(3)]
    printed = sorted(worker.communicate(timeout=60)[0] for worker in workers)
    assert printed == [b"0 15.0 False\n"] * 2 + [b"1 15.0 False\n"]
    table = FeatureCache(cache, 2, spread).table("embeddings", lambda: numpy.zeros(1))
    assert table.shape == (2, 3)
    with cache.lock("load:table:1:other"), pytest.raises(TimeoutError):
        FeatureCache(cache, 2, spread).table("other", lambda: numpy.zeros(1), patience=0.05)
