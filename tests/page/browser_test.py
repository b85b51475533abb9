"""The page of `memstream serve` in a real Chromium: what it shows, how it follows a writer, who can use it.

scripts/test.sh --only page runs it. It needs Node.js for the packages that drive the browser, and Debian's chromium.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))

from test_cli import Shell, stopped_under_lock  # noqa: E402  # The folder has to be in the path first.
from test_serve import Server  # noqa: E402

MODULES = ROOT / "build" / "page"


@pytest.fixture(name="page_tools", scope="module")
def install_page_tools() -> None:
    """What drives the browser; without Node.js there is none."""
    done = subprocess.run([str(ROOT / "scripts" / "page.sh"), "--install"], capture_output=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.decode().strip())
    assert done.returncode == 0, done.stderr.decode()


def test_the_page_in_the_repository_is_what_its_sources_give(page_tools: None) -> None:
    done = subprocess.run([str(ROOT / "scripts" / "page.sh"), "--check"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


class Browser:
    """Chromium with one page, driven over a pipe."""

    def __init__(self, profile: Path) -> None:
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("chromium is not installed: scripts/setup.sh test installs it")
        self.process = subprocess.Popen(
            ["node", str(Path(__file__).parent / "browser.mjs"), str(MODULES), chromium, str(profile)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._answer() == {"ready": True}

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the browser ended"
        return json.loads(line)

    def __call__(self, operation: str, **values: object) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"operation": operation, **values}).encode() + b"\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert "error" not in answer, (operation, values, answer["error"])
        return answer["result"]

    def see(self, script: str) -> Any:
        return self("evaluate", script=script)

    def wait(self, script: str) -> None:
        self("wait", script=script)

    def values(self) -> Dict[str, str]:
        """The exact numbers that the page shows, by the ids of their elements."""
        found: Dict[str, str] = self.see(
            "Object.fromEntries([...document.querySelectorAll('[data-value]')].map((e) => [e.id, e.dataset.value]))"
        )
        return found

    def column(self, number: int) -> List[str]:
        """The cells of a column of the table of keys that is in view."""
        rows = "[...document.querySelectorAll('#keys .scroll:not([hidden]) tbody tr')]"
        found: List[str] = self.see(f"{rows}.map((row) => row.cells[{number}].textContent)")
        return found

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(name="browser")
def start_browser(page_tools: None, tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture(name="shell")
def make_shell() -> Iterator[Shell]:
    shell = Shell(f"page-{os.getpid()}")
    yield shell
    shell.run("rm", "--yes")


def fill(shell: Shell) -> None:
    from memstream import Cache

    with Cache(shell.name, size=8 << 20) as cache:
        cache.set_many({f"user:{number:03}": b"x" * (number + 1) for number in range(200)})
        cache.set("img/large", b"y" * 90_000, ttl=3600)
        cache.set(b"odd\x1b\xff<b>", b"odd")
        for number in range(200):
            for _ in range(number % 7):
                cache.get(f"user:{number:03}")
        cache.get("absent")


def is_right(browser: Browser, shell: Shell) -> None:
    """Every exact number of the page is that of the C interface, which the Python package asks."""
    from memstream import Cache

    with Cache(shell.name, create=False) as cache:
        stats = cache.stats()
    values = browser.values()
    for field in ("hits", "misses", "puts", "deletes", "evictions", "expirations", "recoveries", "damaged"):
        assert int(values[f"total-{field}"]) == getattr(stats, field), field
    assert int(values["now-entries"]) == stats.entries
    assert int(values["now-memory"]) == stats.used_memory + stats.table_memory
    assert int(values["now-gets"]) == stats.hits + stats.misses
    assert int(values["now-puts"]) == stats.puts
    assert float(values["now-hit-ratio"]) == pytest.approx(stats.hits / (stats.hits + stats.misses))


def has_no_fault(browser: Browser, host: str) -> None:
    seen = browser("seen")
    assert seen["messages"] == []
    assert {urlsplit(url).netloc for url in seen["requests"] if not url.startswith("data:")} == {host}


def test_the_page_lives(browser: Browser, shell: Shell) -> None:
    from memstream import Cache

    fill(shell)
    with Server(shell, "--show-values", "--allow-writes") as server:
        browser("open", url=server.url)
        browser.wait("document.getElementById('state').textContent === 'live'")
        browser.wait("document.getElementById('keys-note').textContent !== '' && document.querySelector('.leaf')")
        assert server.token not in browser.see("location.href")
        is_right(browser, shell)
        assert browser.see("document.querySelector('h1').textContent").endswith(f":{shell.name}")

        # It follows a writer.
        with Cache(shell.name) as cache:
            for number in range(50):
                cache.set(f"new:{number}", b"v" * 10)
                cache.get(f"new:{number}")
        puts = shell.json("stat")["puts"]
        browser.wait(f"document.getElementById('total-puts').dataset.value === '{puts}'")
        is_right(browser, shell)

        # Sorting, also back to front, and what a screen reader is told of it.
        browser("click", selector="#tab-large")
        assert browser.column(1)[:2] == ["87.9 KiB", "200 B"]
        browser("click", selector="#keys .scroll:not([hidden]) th:nth-child(3) button")
        assert browser.column(2)[0] == "6"
        browser("click", selector="#keys .scroll:not([hidden]) th:nth-child(3) button")
        assert browser.column(2)[0] == "0"
        assert browser.see(
            "[...document.querySelectorAll('#keys .scroll:not([hidden]) th')].map((h) => h.ariaSort)"
        ) == ["none", "none", "ascending", "none", "none", "none"]

        # Filtering what is shown, and searching all keys.
        browser("fill", selector="#keys input", text="LARGE")
        assert browser.column(0) == ["img/large"]
        browser("fill", selector="#keys input", text="nothing like this")
        assert browser.column(0) == []
        assert "No row contains" in browser.see(
            "document.querySelector('#keys .scroll:not([hidden]) .empty').textContent"
        )
        browser("fill", selector="#keys input", text="user:19?")
        browser("press", key="Enter")
        browser.wait("document.getElementById('keys-note').textContent.startsWith('10 keys match')")
        assert sorted(browser.column(0)) == [f"user:{number}" for number in range(190, 200)]

        # One key: its value, its end; and keys that are no text.
        browser("click", selector="#keys .scroll:not([hidden]) tbody tr:first-child button")
        browser.wait("document.querySelector('dialog').open")
        browser("click", selector="dialog .actions button:first-child")
        browser.wait("document.querySelector('dialog pre')?.textContent.startsWith('xxx')")
        browser("click", selector="dialog .danger")
        browser("click", selector="dialog .danger")
        browser.wait("document.querySelector('dialog').textContent.includes('Deleted.')")
        browser("press", key="Escape")
        browser.wait("!document.querySelector('dialog').open")
        browser.wait("document.getElementById('total-deletes').dataset.value === '1'")
        browser("fill", selector="#keys input", text="odd*")
        browser("press", key="Enter")
        browser.wait("document.getElementById('keys-note').textContent.startsWith('1 keys match')")
        assert browser.column(0) == ["odd\\x1b\\xff<b>"]
        is_right(browser, shell)

        # Without the server the page says so, and goes on when the cache is back.
        has_no_fault(browser, urlsplit(server.url).netloc)
        shell.ok("rm", "--yes")
        browser.wait("!document.getElementById('problem').hidden")
        fill(shell)
        browser.wait("document.getElementById('problem').hidden")
        server.stop()
        browser.wait("document.getElementById('state').textContent === 'no connection'")


def test_the_page_shows_what_is_in_use_and_who_holds_a_lock(browser: Browser, shell: Shell) -> None:
    from memstream import Cache

    def use(name: str) -> str:
        return f"document.getElementById('use-{name}')?.dataset.value"

    with Cache(shell.name, size=16 << 20, shards=1) as cache, Server(shell) as server:
        for number in range(5):
            cache.limit(f"user{number}", rate=2, period=3600)
        browser("open", url=server.url)
        with cache.semaphore("pool", 3), cache.semaphore("pool", 3), cache.lock("one"), cache.lock("two"):
            waiter = threading.Thread(target=cache.wait, args=("key", None))
            waiter.start()
            browser.wait(f"{use('permits')} === '4' && {use('change')} === '1'")
            values, usage = browser.values(), cache.usage()
            for name in ("rates", "semaphores", "locks", "permits", "holders"):
                assert int(values[f"use-{name}"]) == getattr(usage, name) > 0, name
            assert browser.see("document.getElementById('use-rates').textContent") == f"5 of {usage.rate_capacity}"
            cache.set("key", b"value")
            waiter.join()
        browser.wait(f"{use('permits')} === '0' && {use('change')} === '0'")
        with stopped_under_lock(shell) as child:
            rows = "[...document.querySelectorAll('#processes tbody tr')].map((row) => row.textContent)"
            holds = "text.includes('write lock of shard 0')"
            shown = f"{rows}.some((text) => text.startsWith('{child.pid}stopped') && {holds})"
            browser.wait(shown)
        browser.wait(f"!{rows}.some((text) => text.includes('write lock'))")
        assert browser("axe") == []
        has_no_fault(browser, urlsplit(server.url).netloc)


def test_everybody_can_use_the_page(browser: Browser, shell: Shell) -> None:
    fill(shell)
    with Server(shell) as server:
        browser("scheme", scheme="light")
        browser("open", url=server.url)
        browser.wait("document.getElementById('state').textContent === 'live' && document.querySelector('.leaf')")
        light = browser.see("getComputedStyle(document.body).backgroundColor")
        assert browser("axe") == []
        browser("scheme", scheme="dark")
        browser.wait("document.documentElement.dataset.theme === 'dark'")
        assert browser.see("getComputedStyle(document.body).backgroundColor") != light
        assert browser("axe") == []
        browser("click", selector="#theme")
        assert browser.see("getComputedStyle(document.body).backgroundColor") == light
        assert browser.see("document.getElementById('theme').ariaLabel") == "Light colours"

        # With the keyboard alone: past the bar, and through a table.
        browser("open", url=server.url)
        browser.wait("document.getElementById('state').textContent === 'live' && document.querySelector('.leaf')")
        assert browser.see("document.documentElement.dataset.theme") == "light"
        browser("press", key="Tab")
        assert browser.see("document.activeElement.textContent") == "Skip to the numbers"
        browser("press", key="Enter")
        assert browser.see("document.activeElement.id") == "main"
        browser("click", selector="#tab-large")
        browser("press", key="Tab")
        for _ in range(30):
            if browser.see("document.activeElement.className") == "link":
                break
            browser("press", key="Tab")
        browser("press", key="Enter")
        browser.wait("document.querySelector('dialog').open")
        browser.wait("document.querySelector('dialog').textContent.includes('Values are hidden')")
        assert browser.see("document.querySelectorAll('dialog .danger').length") == 0
        assert browser("axe") == []
        browser("press", key="Escape")

        # A phone.
        browser("size", width=390, height=844)
        browser.wait("document.documentElement.scrollWidth <= 390")
        assert browser.see("document.querySelectorAll('#charts canvas').length") == 4
        assert browser("axe") == []

        # Standing still.
        browser("click", selector="#pause")
        assert browser.see("document.getElementById('state').textContent") == "paused"
        puts = browser.values()["total-puts"]
        shell.ok("put", "more", "x")
        browser.see("new Promise((resolve) => setTimeout(resolve, 1000))")
        assert browser.values()["total-puts"] == puts
        browser("click", selector="#pause")
        browser.wait(f"document.getElementById('total-puts').dataset.value === '{int(puts) + 1}'")
        has_no_fault(browser, urlsplit(server.url).netloc)


def test_a_report_shows_the_same_without_a_server(browser: Browser, shell: Shell, tmp_path: Path) -> None:
    fill(shell)
    path = tmp_path / "report.html"
    shell.ok("report", str(path), "--seconds", "0.1")
    browser("open", url=path.as_uri())
    browser.wait("document.getElementById('state').textContent.startsWith('saved ')")
    is_right(browser, shell)
    assert len(browser.column(0)) == 100
    assert browser.see("document.querySelectorAll('.leaf').length") >= 2
    assert browser("axe") == []
    seen = browser("seen")
    assert seen["messages"] == []
    assert {url for url in seen["requests"] if not url.startswith("data:")} == {path.as_uri()}
