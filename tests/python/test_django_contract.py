"""More of Django's contract for caches: keys, counting, and sessions in the database beside the cache."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
from conftest import Segment

pytest.importorskip("django", reason="Django is not installed (Debian: python3-django)")

from django.core.cache.backends.base import CacheKeyWarning  # noqa: E402
from django_site import MemStreamCache  # noqa: E402


@pytest.mark.parametrize("key", ["with space", "new\nline", "\x7f", "x" * 251])
@pytest.mark.parametrize(
    "call",
    [
        lambda cache, key: cache.add(key, 1),
        lambda cache, key: cache.get(key),
        lambda cache, key: cache.set(key, 1),
        lambda cache, key: cache.incr(key),
        lambda cache, key: cache.decr(key),
        lambda cache, key: cache.touch(key),
        lambda cache, key: cache.delete(key),
        lambda cache, key: cache.has_key(key),
        lambda cache, key: cache.get_many([key]),
        lambda cache, key: cache.set_many({key: 1}),
        lambda cache, key: cache.delete_many([key]),
        lambda cache, key: cache.get_or_set(key, 1),
        lambda cache, key: cache.incr_version(key),
        lambda cache, key: cache.ttl(key),
    ],
)
def test_every_method_warns_of_such_keys(django: MemStreamCache, call: Callable[..., Any], key: str) -> None:
    with pytest.warns(CacheKeyWarning, match="will cause errors"):
        try:
            call(django, key)
        except ValueError:
            pass  # Counts and versions need a key that is there.


def test_a_key_that_is_no_text_works(django: MemStreamCache) -> None:
    number: Any = 7
    django.set(number, "seven")
    assert django.get("7") == "seven" and django.get_many([number]) == {7: "seven"}


def test_counting_keeps_the_timeout_and_starts_from_nothing_else(django: MemStreamCache) -> None:
    django.set("count", 1, 60)
    assert django.incr("count") == 2 and django.ttl("count") in (59, 60)
    django.set("float", 1.5)
    for value in ("float", "text"):
        with pytest.raises(ValueError):
            django.incr(value)


def test_set_many_takes_a_snapshot_of_its_data(django: MemStreamCache) -> None:
    class Changing(Dict[str, Any]):
        """Another thread removes a key between two looks at it."""

        def items(self) -> Any:
            raise AssertionError("read twice")

    data = Changing(a=1, b=2)
    assert django.set_many(data) == [] and django.get_many(["a", "b"]) == {"a": 1, "b": 2}


SESSIONS = """
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="no secret", INSTALLED_APPS=["django.contrib.sessions"], DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CACHES={"default": {"BACKEND": "memstream.django.MemStreamCache"}},
)
django.setup()
from django.core.management import call_command
from django.contrib.sessions.backends.cached_db import SessionStore
call_command("migrate", verbosity=0)
session = SessionStore()
session["cart"] = "old"
session.save()
session["cart"] = "x" * 20_000_000
session.save()
print(len(SessionStore(session.session_key)["cart"]))
"""


def test_a_session_that_became_too_large_for_the_cache_is_read_from_the_database(segment: Segment) -> None:
    assert segment.code(SESSIONS) == b"20000000\n"
