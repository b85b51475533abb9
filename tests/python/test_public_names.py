"""The names that users import, and that settings files and pickles contain: they outlive every move of the code."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import pickletools
import subprocess
import sys
from typing import Dict, List

import pytest
from conftest import CLIENT, Segment

import memstream
from memstream import Cache, ObjectCache, errors

# Each module that users import, with what they import from it. A name leaves this table with a release that says so.
NAMES: Dict[str, str] = {
    "memstream": (
        "ArgumentError Cache CacheInfo CacheMiss ConfigurationError Entry Histogram Info InternalError Lease "
        "LibraryError LocalCache LocalInfo LockHolder MemStreamError MemoizedFunction Metrics ObjectCache "
        "Process Repair Reservation "
        "SegmentDiffers SegmentError Semaphore Serializer SerializerError Stats Status SystemCallError Tags "
        "UnavailableError UndecodableWarning Usage View Watch __version__ destroy local lru_cache"
    ),
    "memstream.errors": (
        "AcceleratorWarning ArgumentError BadAccelerator BadBackend BadChecksum BadChecksumChoice BadGroup "
        "BadHandle BadHugePages BadKey BadMagic BadMaxValue BadMode BadName BadPrefault BadRoad BadShards BadSize "
        "BadState BadTimeout BadVersion BufferTooSmall CacheBusy CacheFull CacheGone CacheMiss ClosedError "
        "ConfigurationError Conflict CorruptError InternalError InvalidArgument KeyExists LeaseHeld LibraryError "
        "MemStreamError NameMismatch NoHugePages NoMemory NoPermission NoSegment NotNumeric NotOwner "
        "NotSharedMemory OtherBoot OtherByteOrder OtherLibc OtherNamespace ProcessTableFull ReadOnlyError "
        "SegmentDiffers SegmentError SerializerError SizeMismatch SystemCallError Truncated UnavailableError "
        "UndecodableWarning ValueTooLarge"
    ),
    "memstream.cache": "Cache",
    "memstream.connection": "destroy",
    "memstream.leases": "Lease",
    "memstream.limits": "Semaphore",
    "memstream.local_cache": "LocalCache LocalInfo local",
    "memstream.lru": "lru_cache",
    "memstream.memo_results": "CacheInfo",
    "memstream.memoize": "MemoizedFunction",
    "memstream.objects": "ObjectCache",
    "memstream.records": "Entry Histogram Info LockHolder Metrics Process Repair Stats Usage",
    "memstream.serializers": "Serializer SerializerChoice",
    "memstream.views": "Reservation View",
    "memstream.watches": "Watch",
    "memstream.django": "MemStreamCache check_caches",
    "memstream.cachelib": "MemStreamCache",
    "memstream.flask_caching": "MemStreamCache",
    "memstream.limits_storage": "MemStreamStorage",
    "memstream.dogpile": "MemStreamBackend Mutex",
    "memstream.redis": "AsyncNearCache NearCache NearMemoized NearStats",
    "memstream.programs.writer": "main",
    "memstream.programs.reader": "main",
    "memstream.programs.analytics": "main",
    "memstream.cli.writer": "main",
    "memstream.cli.reader": "main",
    "memstream.cli.analytics": "main",
}
FRAMEWORKS = {
    "django": "django",
    "cachelib": "cachelib",
    "flask_caching": "flask_caching",
    "dogpile": "dogpile.cache",
    "redis": "redis",
}


@pytest.mark.parametrize("module", NAMES)
def test_a_module_has_the_names_that_users_import(module: str) -> None:
    framework = FRAMEWORKS.get(module.rpartition(".")[2])
    if framework is not None:
        pytest.importorskip(framework, reason=f"{framework} is not installed")
    code = f"from {module} import {', '.join(NAMES[module].split())}"
    done = subprocess.run([sys.executable, "-c", code], cwd=CLIENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_exports_these_names_and_no_others() -> None:
    assert sorted(memstream.__all__) == NAMES["memstream"].split()
    assert all(hasattr(memstream, name) for name in memstream.__all__)


def test_every_exception_has_its_place_in_the_table() -> None:
    named = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert named == set(NAMES["memstream.errors"].split())


@pytest.mark.parametrize("module", ["memstream", "memstream.errors", "memstream.records", "memstream.views"])
def test_public_classes_have_the_name_of_a_module_that_users_import(module: str) -> None:
    found = importlib.import_module(module)
    classes = [getattr(found, name) for name in NAMES[module].split() if isinstance(getattr(found, name), type)]
    assert classes
    for each in classes:
        assert "._" not in each.__module__
        assert getattr(importlib.import_module(each.__module__), each.__name__) is each


def pickled_by_version_0_1(segment: Segment, module: str, cls: str, serializer: str) -> bytes:
    """Returns what the first version made of a cache that travels, in the oldest protocol, which is text."""
    options = [("backend", f"V{segment.backend}"), ("create", "I00"), ("timeout", "N"), ("read_only", "I00")]
    options += [("serializer", f"V{serializer}")] if serializer else []
    texts: List[str] = [f"V{name}\n{value}\ns".replace("N\n", "N") for name, value in options]
    start = f"cmemstream.connection\n_reopen\n(cmemstream.{module}\n{cls}\nV{segment.name}\n(d"
    return (start + "".join(texts) + "tR.").encode()


@pytest.mark.parametrize(
    "module, cls, serializer, value", [("cache", "Cache", "", b"value"), ("objects", "ObjectCache", "json", [1, "two"])]
)
def test_a_cache_that_an_earlier_version_pickled_opens(
    segment: Segment, module: str, cls: str, serializer: str, value: object
) -> None:
    with Cache(serializer=serializer or None) as cache:
        cache["key"] = value
        with pickle.loads(pickled_by_version_0_1(segment, module, cls, serializer)) as other:
            assert other["key"] == value and isinstance(other, ObjectCache) == bool(serializer)


def test_a_pickle_names_only_modules_that_stay(segment: Segment) -> None:
    with Cache(serializer="json") as cache:
        data = pickle.dumps((cache, errors.BadKey(memstream.Status.BAD_KEY, "text"), cache.stats(), cache.info()), 0)
    found = {str(argument).split()[0] for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}
    named = {module for module in found if module.startswith("memstream")}
    assert named == {"memstream", "memstream.cache", "memstream.errors", "memstream.records"}
