"""What the Django backend has beyond Django's own words: those of django-redis, clear of one alias, system checks."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import warnings
from typing import Any, Dict, List

import pytest
from conftest import Segment

from memstream import Cache, errors

pytest.importorskip("django", reason="Django is not installed (Debian: python3-django)")

from django.core import checks  # noqa: E402
from django.core.cache.backends.base import CacheKeyWarning  # noqa: E402
from django.test import override_settings  # noqa: E402
from django_site import MakeDjango, MemStreamCache  # noqa: E402

from memstream.integrations._locks import LockError  # noqa: E402


def test_the_cache_behind_it_is_public(django: MemStreamCache) -> None:
    django.set("key", {"a": 1})
    assert isinstance(django.memstream, Cache) and django.memstream[django.make_key("key")] == {"a": 1}


def test_ttl(django: MemStreamCache) -> None:
    django.set("minute", 1, 60)
    django.set("eternal", 1, None)
    django.set("soon", 1, 0.05)
    django.set("other", 1, 60, version=2)
    assert django.ttl("minute") == 60 and django.ttl("eternal") is None and django.ttl("absent") == 0
    assert django.ttl("soon") == 1 and django.ttl("other") == 0 and django.ttl("other", version=2) == 60
    time.sleep(0.1)
    assert django.ttl("soon") == 0


def test_tags(django: MemStreamCache) -> None:
    django.set("one", 1, tags=["user:7"])
    django.set("other", 1, version=2, tags=["user:7", "pages"])
    assert django.add("two", 2, tags=["pages"]) and not django.add("two", 3, tags=["pages"])
    assert django.set_many({"three": 3, "four": 4}, tags=["user:7"]) == []
    django.set("none", 5)
    django.invalidate("user:7")
    assert django.get_many(["one", "two", "three", "four", "none"]) == {"two": 2, "none": 5}
    assert django.get("other", version=2) is None
    django.invalidate("pages")
    assert django.get("two") is None
    with pytest.raises(TypeError, match="Put a single one into a list"):
        django.set("one", 1, tags="user:7")


def test_values_that_are_too_large_keep_the_others_tags(django: MemStreamCache) -> None:
    too_large = bytes(django.memstream.stats().max_value_size + 1)
    assert django.set_many({"small": 1, "large": too_large}, tags=["t"]) == ["large"]
    assert django.get("small") == 1
    django.invalidate("t")
    assert django.get("small") is None


def test_an_invalidation_that_fails_is_an_error_also_where_errors_count_as_misses(make_django: MakeDjango) -> None:
    cache = make_django(OPTIONS={"ignore_errors": True})
    with pytest.raises(errors.InvalidArgument):
        cache.invalidate("")


KEYS = ["user:1", "user:2", "user:12", "user:a", "item:1", "line\nbreak", "snow ☃", "a[b]c*", "", "user:1:x"]


@pytest.fixture
def filled(django: MemStreamCache) -> MemStreamCache:
    warnings.simplefilter("ignore", CacheKeyWarning)
    django.set_many({key: 1 for key in KEYS})
    django.set("user:1", 1, version=2)
    django.memstream.set_many({b"foreign": 1, b"\xff:1:user:1": 1, b"site:1:user:1": 1})
    return django


@pytest.mark.filterwarnings("ignore::django.core.cache.backends.base.CacheKeyWarning")
@pytest.mark.parametrize(
    "search, found",
    [
        ("*", KEYS),
        ("user:*", ["user:1", "user:2", "user:12", "user:a", "user:1:x"]),
        ("user:?", ["user:1", "user:2", "user:a"]),
        ("user:[12]", ["user:1", "user:2"]),
        ("user:[0-9]", ["user:1", "user:2"]),
        ("user:[^12]", ["user:a"]),
        ("user:1", ["user:1"]),
        ("*:1", ["user:1", "item:1"]),
        ("line*break", ["line\nbreak"]),
        ("snow ?", ["snow ☃"]),
        (r"a\[b]c\*", ["a[b]c*"]),
        ("", [""]),
        ("(user|item):1", []),
        ("user:1$", []),
        ("User:1", []),
    ],
)
def test_keys_that_match_a_search(filled: MemStreamCache, search: str, found: List[str]) -> None:
    assert sorted(filled.keys(search)) == sorted(found) == sorted(filled.iter_keys(search, itersize=10))
    assert filled.delete_pattern(search, itersize=10) == len(found)
    assert sorted(filled.keys()) == sorted(set(KEYS) - set(found))
    assert filled.keys("*", version=2) == ["user:1"]
    assert {b"foreign", b"\xff:1:user:1", b"site:1:user:1"} < set(filled.memstream)


def test_expired_keys_are_not_listed(django: MemStreamCache) -> None:
    django.set("key", 1, 0.05)
    time.sleep(0.1)
    assert django.keys() == [] and django.delete_pattern("*") == 0


def test_many_keys_are_deleted(django: MemStreamCache) -> None:
    django.set_many({f"key-{number}": number for number in range(5000)})
    assert django.delete_pattern("key-*", version=2) == 0 and django.delete_pattern("key-*", version=1) == 5000


def version_first(key: str, key_prefix: str, version: int) -> str:
    return f"{version}/{key_prefix}/{key}!"


def digest(key: str, key_prefix: str, version: int) -> str:
    return key_prefix + hashlib.sha256(key.encode()).hexdigest()


def test_keys_of_a_key_function(make_django: MakeDjango) -> None:
    django = make_django(KEY_FUNCTION=version_first, KEY_PREFIX="site")
    django.set_many({"a": 1, "b": 2})
    make_django().set("a", 1)
    django.memstream[b"\xff is no text"] = b"of a C program"
    assert sorted(django.keys()) == ["a", "b"] and django.delete_pattern("b") == 1 and django.keys() == ["a"]
    django.set("a", 1, version=2)
    django.clear()
    assert set(django.memstream) == {b":1:a", b"\xff is no text"}


def test_a_key_function_that_hides_the_keys_is_refused_where_they_are_needed(make_django: MakeDjango) -> None:
    django = make_django(KEY_FUNCTION=digest, KEY_PREFIX="site")
    django.set("key", 1)
    for use in (django.clear, django.keys, lambda: django.delete_pattern("*")):
        with pytest.raises(errors.ConfigurationError, match="Invalid KEY_FUNCTION"):
            use()
    assert django.get("key") == 1
    make_django(KEY_FUNCTION=digest).clear()
    assert django.get("key") is None


@pytest.mark.parametrize("prefix", ["site", "a.b*", "é", "\ud800", "p" * 1000])
def test_clear_leaves_other_aliases_alone(make_django: MakeDjango, prefix: str) -> None:
    warnings.simplefilter("ignore", CacheKeyWarning)
    plain, site, longer = make_django(), make_django(KEY_PREFIX=prefix), make_django(KEY_PREFIX=f"{prefix}:sub")
    other = make_django(KEY_PREFIX="other", VERSION=3)
    for cache in (plain, site, longer, other):
        cache.set_many({"a": 1, "b": 2})
        cache.set("a", 3, version=7)
    site.clear()
    assert site.get_many(["a", "b"]) == {} and site.get("a", version=7) is None
    for cache in (plain, longer, other):
        assert cache.get_many(["a", "b"]) == {"a": 1, "b": 2} and cache.get("a", version=7) == 3
    plain.clear()
    assert len(plain.memstream) == 0


def test_clear_knows_versions_that_are_names(make_django: MakeDjango) -> None:
    named = make_django(KEY_PREFIX="site", VERSION="beta")
    named.set("key", 1)
    make_django(KEY_PREFIX="site:gamma").set("key", 2)
    named.clear()
    assert set(named.memstream) == {b"site:gamma:1:key"}


def test_trouble_with_keys_can_be_ignored(make_django: MakeDjango) -> None:
    def busy(*_: Any, **__: Any) -> Any:
        raise errors.CacheBusy(errors.CacheBusy.code, "made to fail")

    django = make_django(OPTIONS={"ignore_errors": True}, KEY_PREFIX="site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(django.memstream, "scan", busy)
        patch.setattr(django.memstream, "entry", busy)
        assert django.keys() == [] and django.delete_pattern("*") == 0 and django.ttl("key") == 0
        django.clear()
        with pytest.raises(errors.CacheBusy):
            make_django().keys()


def test_coroutines_have_these_too(django: MemStreamCache) -> None:
    async def use() -> Any:
        cache: Any = django
        await cache.aset("key", 1, 60)
        return await cache.attl("key"), await cache.akeys("*"), await cache.adelete_pattern("*")

    assert asyncio.run(use()) == (60, ["key"], 1)


# ---- locks ----


def test_a_lock_excludes_others(django: MemStreamCache) -> None:
    lock, other = django.lock("key"), django.lock("key", blocking=False)
    assert not lock.locked() and not lock.owned()
    with lock:
        assert lock.owned() and lock.locked() and other.locked() and not other.owned()
        with django.lock("key", version=2, blocking=False):
            assert other.acquire() is False
        with pytest.raises(LockError, match="Unable to acquire"):
            other.__enter__()
        started = time.monotonic()
        assert django.lock("key", blocking_timeout=0.1).acquire() is False
        assert lock.acquire(blocking_timeout=0.1) is False and 0.15 < time.monotonic() - started < 5
    assert not lock.locked() and other.acquire()
    other.release()
    with pytest.raises(LockError, match="not acquired"):
        other.release()
    assert django.get("key") is None and django.keys() == []


def test_a_lock_is_one_among_threads_that_share_it(django: MemStreamCache) -> None:
    lock, inside, most = django.lock("key"), [0], [0]

    def work() -> None:
        for _ in range(20):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_lock_ends_with_its_process_and_after_its_timeout(django: MemStreamCache, segment: Segment) -> None:
    code = (
        "import sys, time; from memstream.django import MemStreamCache\n"
        "MemStreamCache(sys.argv[1], {}).lock('key').acquire(); print(flush=True); time.sleep(60)"
    )
    child = segment.start("-c", code, segment.name)
    assert child.stdout is not None and child.stdout.readline() == b"\n"
    lock = django.lock("key", timeout=0.2)
    assert not lock.acquire(blocking=False)
    child.kill()
    assert lock.acquire(blocking_timeout=20)
    started = time.monotonic()
    next_lock = django.lock("key")
    assert next_lock.acquire(blocking_timeout=20) and time.monotonic() - started > 0.1
    next_lock.release()
    lock.release()


# ---- system checks ----


def messages(**alias: Any) -> List[checks.CheckMessage]:
    caches: Dict[str, Any] = {
        "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        "shared": {"BACKEND": "memstream.django.MemStreamCache", **alias},
    }
    with override_settings(CACHES=caches):
        return checks.run_checks(tags=[checks.Tags.caches])


@pytest.mark.parametrize(
    "alias, found",
    [
        ({}, []),
        ({"OPTIONS": {"size": 64 * 1024 * 1024, "ignore_errors": True, "wait": 0, "MAX_ENTRIES": 5}}, []),
        ({"OPTIONS": {"sizes": 1}}, ["memstream.E001"]),
        ({"OPTIONS": {"sizes": 1, "IGNORE_ERRORS": True}}, ["memstream.E001"] * 2),
        ({"OPTIONS": {"size": 1}}, ["memstream.E002"]),
        ({"OPTIONS": {"size": "many"}}, ["memstream.E002"]),
        ({"OPTIONS": {"shards": 1000}}, ["memstream.E002"]),
        ({"OPTIONS": {"backend": "nfs"}}, ["memstream.E002"]),
        ({"OPTIONS": {"serializer": "yaml"}}, ["memstream.E002"]),
        ({"OPTIONS": {"wait": -1}}, ["memstream.E002"]),
        ({"LOCATION": "not/a/name"}, ["memstream.E002"]),
        ({"KEY_FUNCTION": digest, "KEY_PREFIX": "site"}, ["memstream.W004"]),
        ({"KEY_FUNCTION": digest}, []),
    ],
)
def test_checks_find_what_is_wrong(segment: Segment, alias: Any, found: List[str]) -> None:
    seen = messages(**alias)
    assert [message.id for message in seen] == found
    assert all(message.msg.startswith("CACHES['shared']: ") for message in seen)
    with pytest.raises(errors.NoSegment):  # Looking makes nothing.
        Cache(create=False)


def test_a_check_names_what_was_meant(segment: Segment) -> None:
    (message,) = messages(OPTIONS={"sizes": 1})
    assert message.msg == "CACHES['shared']: Invalid option 'sizes' in OPTIONS." and message.hint == "Use 'size'."
    (message,) = messages(OPTIONS={"name": 1})
    assert message.hint is not None and "ignore_errors" in message.hint


def test_a_check_warns_of_a_cache_that_cannot_be_opened(segment: Segment) -> None:
    with Cache():
        pass
    with segment.bytes() as memory:
        magic = bytes(memory[0:8])
        memory[0:8] = b"\xff" * 8
    try:
        (message,) = messages()
        assert message.id == "memstream.W003" and isinstance(message, checks.Warning)
    finally:
        with segment.bytes() as memory:
            memory[0:8] = magic


def test_manage_py_check_has_them_when_the_backend_is_an_installed_app(segment: Segment) -> None:
    code = """
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(
    INSTALLED_APPS=["memstream.django"],
    CACHES={"default": {"BACKEND": "memstream.django.MemStreamCache", "OPTIONS": {"sizes": 1}}},
)
django.setup()
call_command("check")
"""
    done = segment.run("-c", code)
    assert done.returncode == 1 and b"(memstream.E001) CACHES['default']: Invalid option 'sizes'" in done.stderr
