"""When a page of Django's cache middleware is waited for, and by whom. Processes are in test_django_once.py."""

from __future__ import annotations

import threading
import time
from typing import Any, Iterator, List

import pytest
from conftest import Segment
from django_site import MemStreamCache, nothing_shared

from memstream.integrations import _turns


@pytest.fixture
def backend(segment: Segment) -> Iterator[Any]:
    """The backend that Django's middleware gets."""
    from django.core.cache import caches

    with nothing_shared():
        cache: Any = caches["default"]
        cache._pages.end()
        yield cache
        cache._pages.end()


def leases(cache: MemStreamCache) -> int:
    return len(cache._pages._turns)


def request(method: str = "get", **headers: str) -> Any:
    from django.test import RequestFactory

    return getattr(RequestFactory(), method)("/page", **headers)


def test_who_only_asks_what_is_cached_takes_no_turn(backend: Any) -> None:
    from django.utils.cache import get_cache_key

    assert get_cache_key(request(), cache=backend) is None
    assert backend.get("views.decorators.cache.cache_page.x") is None and leases(backend) == 0


def test_a_page_ends_its_turn(backend: Any) -> None:
    from django.http import HttpResponse
    from django.views.decorators.cache import cache_page

    turns: List[int] = []

    @cache_page(60)
    def view(_: Any) -> Any:
        turns.append(leases(backend))
        return HttpResponse("page")

    assert view(request()).content == view(request()).content == b"page"
    assert turns == [1] and leases(backend) == 0 and _turns._held == {}
    assert view(request("head")).content == b"page" and turns == [1]


def test_a_page_within_a_page_does_not_wait_for_itself(backend: Any) -> None:
    from django.http import HttpResponse
    from django.views.decorators.cache import cache_page

    started = time.monotonic()

    @cache_page(60)
    @cache_page(60)
    def view(_: Any) -> Any:
        return HttpResponse("page")

    assert view(request()).content == b"page" and time.monotonic() - started < 5
    assert leases(backend) == 0 and _turns._held == {}


def test_a_request_that_stores_no_page_ends_its_turn_when_it_is_over(backend: Any) -> None:
    from django.http import HttpResponseNotFound
    from django.views.decorators.cache import cache_page

    view = cache_page(60)(lambda _: HttpResponseNotFound())
    view(request())
    assert leases(backend) == 1
    backend.close()
    assert leases(backend) == 0 and _turns._held == {}
    view(request())
    assert _turns._held == {}  # Nobody waits for this page for a while.


def test_requests_of_one_event_loop_never_wait_for_each_other(backend: Any, segment: Segment) -> None:
    """Asynchronous servers run the middleware of all requests in one thread, each with a backend object of its own."""
    from django.middleware.cache import FetchFromCacheMiddleware

    def middleware() -> Any:
        made = FetchFromCacheMiddleware(lambda _: None)
        made.cache = MemStreamCache(segment.name, {})
        return made

    first, second = middleware(), middleware()
    started = time.monotonic()
    assert first.process_request(request()) is None and second.process_request(request()) is None
    assert time.monotonic() - started < 5 and leases(first.cache) == 1
    first.cache.close()


def test_a_page_after_its_header_names_is_waited_for(backend: Any, segment: Segment) -> None:
    """Another process may look between the two calls that store a page."""
    from django.http import HttpResponse
    from django.middleware.cache import CacheMiddleware

    maker = CacheMiddleware(lambda _: None, cache_timeout=60, key_prefix="")
    asked, response = request(), HttpResponse("page")
    assert maker.process_request(asked) is None
    between, go_on = threading.Event(), threading.Event()
    set_both = maker.cache.set

    def slowly(key: str, *arguments: Any, **options: Any) -> None:
        if "cache_page" in key:
            between.set()
            assert go_on.wait(10)
        set_both(key, *arguments, **options)

    found: List[Any] = []

    def ask() -> None:
        assert between.wait(10)
        threading.Timer(0.2, go_on.set).start()
        other = CacheMiddleware(lambda _: None, cache_timeout=60, key_prefix="")
        other.cache = MemStreamCache(segment.name, {})
        found.append(other.process_request(request()))

    thread = threading.Thread(target=ask)
    thread.start()
    maker.cache.set = slowly
    try:
        maker.process_response(asked, response)
    finally:
        del maker.cache.set
    thread.join()
    assert found[0] is not None and found[0].content == b"page"
