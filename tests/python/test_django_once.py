"""One of many processes computes what Django's get_or_set and cache_page need."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

import pytest
from conftest import Segment
from django_site import MakeDjango, MemStreamCache

from memstream import Cache, Lease, errors
from memstream.integrations import _turns
from memstream.integrations._turns import Turn, check_wait

# A site whose processes are forks of one that has imported everything, as those of gunicorn are. A line "index work" on
# its input starts one. It counts what it computes, and prints "index done seconds result".
SITE = """
import os, signal, sys, time
import django
from django.conf import settings
settings.configure(
    ALLOWED_HOSTS=["*"], SECRET_KEY="no secret", CACHE_MIDDLEWARE_SECONDS=60, ROOT_URLCONF="__main__",
    CACHES={"default": {"BACKEND": "memstream.django.MemStreamCache", "OPTIONS": {"wait": 20}}},
)
django.setup()
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.views.decorators.cache import cache_control, cache_page
from django.views.decorators.vary import vary_on_headers
from memstream import Cache

plain = Cache()

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # All at once, or not at all.

def compute():
    number = plain.incr("computed", initial=0)
    say(os.getpid(), "computes with", plain.incr("at once", initial=0))
    time.sleep(0.5)
    plain.incr("at once", -1)
    return f"made {number}"

def get_or_set():
    return cache.get_or_set("key", compute, 60)

def fails():
    def fail():
        compute()
        raise KeyError("no")
    try:
        return cache.get_or_set("key", fail, 60)
    except KeyError:
        return "failed"

def too_large():
    return cache.get_or_set("key", lambda: compute() + "x" * 40_000_000, 60)[:4]

def expired():
    return cache.get_or_set("key", compute, 0)

@cache_page(60)
def view(request):
    return HttpResponse(compute())

def page():
    return view(RequestFactory().get("/page?a=1")).content.decode()

@cache_page(60)
@vary_on_headers("X-Variant")
def varying(request):
    return HttpResponse(request.headers["X-Variant"] + " " + compute())

def variant(name):
    return varying(RequestFactory().get("/varying", HTTP_X_VARIANT=name)).content.decode()

@cache_page(60)
@cache_control(private=True)
def private(request):
    return HttpResponse(compute())

@cache_page(60)
def large(request):
    compute()
    return HttpResponse(b"x" * 40_000_000)

@cache_page(60)
def broken(request):
    compute()
    raise KeyError("no")

urlpatterns = [path(f"{view.__name__}", view) for view in (view, private, large, broken)]

def client(url):
    return Client(raise_request_exception=False).get(url).content[:6].decode().strip()

def lock():
    cache.lock("key").acquire()

def sleeper():
    # Holds everything that `interrupted` wants.
    lock()
    def make():
        compute()
        time.sleep(3)
        return HttpResponse("made")
    cache.get_or_set("key", lambda: cache_page(60)(lambda request: make())(RequestFactory().get("/page?a=1")).content)
    return "slept"

def interrupted(work):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    started = time.monotonic()
    try:
        work()
    except KeyboardInterrupt:
        return f"interrupted {time.monotonic() - started < 2}"

for line in sys.stdin:
    index, work = line.split(" ", 1)
    if os.fork() == 0:
        started = time.monotonic()
        result = eval(work)
        say(index, "done", time.monotonic() - started, result)
        os._exit(0)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
"""


class Site:
    """The processes of a site."""

    def __init__(self, segment: Segment, cache: Cache) -> None:
        self._cache = cache
        self._server = segment.start("-c", SITE, stdin=subprocess.PIPE)
        self._count = 0
        self.most_at_once = 0
        """Processes that have been seen to compute at the same time."""

    def start(self, *works: str) -> None:
        """Starts a process for each work, all at once."""
        assert self._server.stdin is not None
        for work in works:
            self._server.stdin.write(f"{self._count} {work}\n".encode())
            self._count += 1
        self._server.stdin.flush()

    def wait_until_one_computes(self) -> int:
        """Returns the pid of the first that does."""
        assert self._server.stdout is not None
        pid, what, *_ = self._server.stdout.readline().split()
        assert what == b"computes"
        return int(pid)

    def results(self) -> List[str]:
        """Returns what the processes got that were not killed."""
        out, error = self._server.communicate(timeout=60)
        lines = [line.split(" ", 3) for line in out.decode().splitlines()]
        done = [(float(seconds), result) for _, what, seconds, result in lines if what == "done"]
        assert done and max(done)[0] < 15, (out, error)  # They would wait for 20 s.
        self.most_at_once = max((int(count) for _, what, _, count in lines if what == "computes"), default=0)
        return [result for _, result in done]

    def computed(self) -> int:
        """Returns how often something was computed."""
        return int(self._cache.get("computed", b"0"))


@pytest.fixture
def site(segment: Segment) -> Iterator[Site]:
    with Cache() as cache:  # Makes the segment.
        yield Site(segment, cache)


@pytest.mark.parametrize("work", ["get_or_set()", "page()", "client('/view')"])
def test_eight_processes_compute_once(site: Site, work: str) -> None:
    site.start(*[work] * 8)
    assert site.results() == ["made 1"] * 8 and site.computed() == 1


@pytest.mark.parametrize("work", ["get_or_set()", "page()"])
def test_another_one_takes_over_when_the_computing_process_is_killed(site: Site, work: str) -> None:
    site.start(work)
    first = site.wait_until_one_computes()
    site.start(*[work] * 7)
    time.sleep(0.2)
    os.kill(first, signal.SIGKILL)
    assert site.results() == ["made 2"] * 7 and site.computed() == 2


@pytest.mark.parametrize("work", ["get_or_set()", "page()", "lock()"])
def test_an_interrupt_ends_a_wait(site: Site, work: str) -> None:
    site.start("sleeper()")
    site.wait_until_one_computes()
    site.start(f"interrupted({work[:-2]})")
    assert sorted(site.results()) == ["interrupted True", "slept"]


def test_variants_of_a_page_are_made_once_each(site: Site) -> None:
    site.start(*["variant('a')", "variant('b')"] * 4)
    assert len(set(site.results())) == 2 and site.computed() == 2


@pytest.mark.parametrize(
    "work", ["fails()", "too_large()", "expired()", "client('/private')", "client('/large')", "client('/broken')"]
)
def test_what_is_never_stored_is_computed_side_by_side(site: Site, work: str) -> None:
    site.start(*[work] * 8)
    assert len(site.results()) == 8 and site.computed() == 8 and site.most_at_once >= 3


@pytest.fixture
def django(make_django: MakeDjango) -> Callable[..., MemStreamCache]:
    return lambda **options: make_django(OPTIONS=options)


def in_threads(count: int, work: Callable[[], Any]) -> List[Any]:
    results: List[Any] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_compute_once(django: Callable[..., MemStreamCache]) -> None:
    made: List[int] = []

    def make() -> int:
        made.append(1)
        time.sleep(0.2)
        return len(made)

    assert in_threads(8, lambda: django().get_or_set("key", make)) == [1] * 8
    assert made == [1]


def test_the_wait_for_others_is_bounded(django: Callable[..., MemStreamCache]) -> None:
    begun, end = threading.Event(), threading.Event()

    def make() -> str:
        begun.set()
        end.wait(20)
        return "slow"

    slow: List[Any] = []
    thread = threading.Thread(target=lambda: slow.append(django(wait=5).get_or_set("key", make)))
    thread.start()
    assert begun.wait(10)
    started = time.monotonic()
    assert django(wait=0.3).get_or_set("key", lambda: "fast") == "fast"
    assert 0.25 < time.monotonic() - started < 3
    started = time.monotonic()
    assert django(wait=0).get_or_set("other", lambda: "at once") == "at once"
    end.set()
    thread.join()
    assert slow == ["fast"]  # What was stored first counts.


def test_coroutines_compute_once_and_let_others_run(django: Callable[..., MemStreamCache]) -> None:
    begun, end = threading.Event(), threading.Event()

    def make() -> str:
        begun.set()
        end.wait(20)
        return "made"

    thread = threading.Thread(target=lambda: django().get_or_set("key", make))
    thread.start()
    assert begun.wait(10)

    async def use() -> List[Any]:
        waiting = [asyncio.ensure_future(django().aget_or_set("key", lambda: "again")) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(each.done() for each in waiting)
        end.set()
        return list(await asyncio.gather(*waiting))

    assert asyncio.run(use()) == ["made"] * 3
    thread.join()


def test_a_function_that_needs_its_own_value_does_not_wait_for_itself(django: Callable[..., MemStreamCache]) -> None:
    started = time.monotonic()
    outer = django().get_or_set("key", lambda: "outer " + django().get_or_set("key", lambda: "inner"))
    assert outer == "inner" and time.monotonic() - started < 5  # The inner one was stored first.


def test_a_value_that_cannot_be_decoded_is_made_again(django: Callable[..., MemStreamCache]) -> None:
    django(serializer="json").set("key", [1])
    made: List[int] = []
    for _ in range(2):
        assert django().get_or_set("key", lambda: made.append(1) or "made") == "made"
    assert made == [1]


def test_an_exception_reaches_its_caller_and_the_next_one_computes(django: Callable[..., MemStreamCache]) -> None:
    with pytest.raises(ZeroDivisionError):
        django().get_or_set("key", lambda: 1 // 0)
    assert django().get_or_set("key", lambda: 5) == 5


@pytest.mark.parametrize(
    "wait, shown",
    [("\x1b[31m", r"'\\x1b\[31m'"), ("x" * 5000, r"'x+\.\.\.x+'"), (10**5000, "of type int|10+\\.\\.\\.0+")],
    ids=["control", "long", "digits"],
)
def test_a_wait_is_shown_without_control_bytes_and_shortened(wait: Any, shown: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"Invalid wait ({shown}): expected 0 to 3600") as refused:
        check_wait(wait)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("wait", [-1, 3601, "30", None])
def test_a_wait_that_is_none_is_refused(django: Callable[..., MemStreamCache], wait: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="Invalid wait"):
        django(wait=wait).get_or_set("key", lambda: 1)


@contextmanager
def trouble(owner: Any, *methods: str) -> Iterator[None]:
    """Lets methods fail."""

    def fail(*_: Any, **__: Any) -> Any:
        raise errors.CacheBusy(errors.CacheBusy.code, "made to fail")

    with pytest.MonkeyPatch.context() as patch:
        for method in methods:
            patch.setattr(owner, method, fail)
        yield


def test_in_trouble_everybody_computes(django: Callable[..., MemStreamCache]) -> None:
    cache = django(ignore_errors=True)
    with trouble(cache.memstream, "lease", "get", "add", "set", "delete_many", "exists"):
        assert cache.get_or_set("key", lambda: 5) == 5
        with pytest.raises(errors.CacheBusy):
            django().get_or_set("key", lambda: 5)
    with trouble(cache.memstream, "lease"):
        with pytest.raises(errors.CacheBusy):
            django().get_or_set("key", lambda: 5)


def test_trouble_while_waiting_ends_the_wait(django: Callable[..., MemStreamCache]) -> None:
    cache = django(ignore_errors=True)
    held = cache.memstream.lease(Turn(cache._shared, b":1:key", 20, None)._key)
    assert held is not None
    with trouble(cache.memstream, "wait_for_lease"):
        started = time.monotonic()
        assert cache.get_or_set("key", lambda: 5) == 5 and time.monotonic() - started < 5
        cache.delete("key")
        with pytest.raises(errors.CacheBusy):
            django().get_or_set("key", lambda: 5)
    held.release()


def test_a_look_that_fails_leaves_no_turn_behind(django: Callable[..., MemStreamCache]) -> None:
    shared = django()._shared

    def look() -> Any:
        raise KeyboardInterrupt

    turn = Turn(shared, b"key", 20, None)
    with pytest.raises(KeyboardInterrupt):
        turn.is_decided(look)
    assert _turns._held == {} and shared.cache.wait_for_lease(turn._key, 0.01)


def test_a_turn_that_cannot_be_given_back_is_logged(
    django: Callable[..., MemStreamCache], caplog: pytest.LogCaptureFixture
) -> None:
    with trouble(Lease, "release"):
        assert django().get_or_set("key", lambda: 5) == 5
    assert "a lease could not be given back: made to fail" in caplog.text
