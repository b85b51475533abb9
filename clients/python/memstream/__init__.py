"""MemStream: a key-value cache that the processes of one machine share through one shared memory segment.

    from memstream import Cache

    with Cache() as cache:
        cache["key"] = b"value"
        print(cache["key"])

The frequent calls are native functions of libmemstream_python.so, the accelerator, which calls libcache.so. All others,
and all of them where there is no accelerator, call libcache.so through ctypes. Nothing is compiled when the package is
installed. MEMSTREAM_PYTHON_ACCELERATOR (auto, require or off) chooses, and `Cache.accelerated` tells.
"""

from memstream._core.abi import VERSION as __version__
from memstream._core.abi import Status
from memstream.cache import Cache, destroy
from memstream.errors import (
    ArgumentError,
    CacheMiss,
    ConfigurationError,
    InternalError,
    LibraryError,
    MemStreamError,
    SegmentDiffers,
    SegmentError,
    SerializerError,
    SystemCallError,
    UnavailableError,
    UndecodableWarning,
)
from memstream.leases import Lease
from memstream.limits import Semaphore
from memstream.local_cache import LocalCache, LocalInfo, local
from memstream.lru import lru_cache
from memstream.memo_results import CacheInfo
from memstream.memoize import MemoizedFunction
from memstream.objects import ObjectCache
from memstream.records import Entry, Histogram, Info, LockHolder, Metrics, Process, Repair, Stats, Usage
from memstream.serializers import Serializer
from memstream.tags import Tags
from memstream.views import Reservation, View
from memstream.watches import Watch

__all__ = [
    "ArgumentError",
    "Cache",
    "CacheInfo",
    "CacheMiss",
    "ConfigurationError",
    "Entry",
    "Histogram",
    "Info",
    "InternalError",
    "Lease",
    "LibraryError",
    "LocalCache",
    "LocalInfo",
    "LockHolder",
    "MemStreamError",
    "MemoizedFunction",
    "Metrics",
    "ObjectCache",
    "Process",
    "Repair",
    "Reservation",
    "SegmentDiffers",
    "SegmentError",
    "Semaphore",
    "Serializer",
    "SerializerError",
    "Stats",
    "Status",
    "SystemCallError",
    "Tags",
    "UnavailableError",
    "UndecodableWarning",
    "Usage",
    "View",
    "Watch",
    "__version__",
    "destroy",
    "local",
    "lru_cache",
]
