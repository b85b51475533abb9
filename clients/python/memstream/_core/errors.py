"""The exceptions of the package: one for each status of the C interface, in groups that callers can catch.

    MemStreamError
        CacheMiss               the key is not there (also a KeyError)
        KeyExists, Conflict     add and cas, where their answer cannot be a bool
        LeaseHeld               a lease, the same
        ArgumentError           this call's arguments (also a ValueError)
        ConfigurationError      an option or an environment variable (also a ValueError)
        UnavailableError        the moment: busy, destroyed, out of memory
        SegmentError            the segment that was found, or was not
        SystemCallError         the operating system refused something
        InternalError           a defect of the library
        LibraryError            libcache.so itself: not found, or of another version
        SerializerError         the value was stored in a way that this cache cannot decode (also a TypeError)

The text of an exception is the library's own: it names the values of the case and says what to do.
"""

from __future__ import annotations

from typing import ClassVar, Dict, Optional, Type

from memstream._core.abi import Status
from memstream._core.naming import present_as


class MemStreamError(Exception):
    """Anything that this package raises of its own accord.

    Attributes:
        status: the status of the C interface; None where no call was made (LibraryError).
        message: what happened, with names and numbers, and what to do.
    """

    # The status that a class stands for; None for groups.
    code: ClassVar[Optional[Status]] = None

    def __init__(self, status: Optional[Status], message: str) -> None:
        # Both go to Exception, so that pickling (multiprocessing) makes an equal exception again.
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message


class LibraryError(MemStreamError):
    """libcache.so was not found, could not be loaded, or is of a version that this package cannot use."""

    def __init__(self, message: str) -> None:
        super().__init__(None, message)

    def __reduce__(self) -> "tuple[Type[LibraryError], tuple[str]]":
        return (type(self), (self.message,))


class SerializerError(MemStreamError, TypeError):
    """A value was stored with a serializer that this cache was not opened with, or its bytes are damaged.

    Attributes:
        key: of the value; None where there is none. `message` goes on from "The value of 'KEY'".
    """

    def __init__(self, message: str, key: object = None) -> None:
        super().__init__(None, message)
        self.key = key

    def __str__(self) -> str:
        return self.message if self.key is None else f"The value of {self.key!r} {self.message}"

    def __reduce__(self) -> "tuple[Type[SerializerError], tuple[str, object]]":
        return (type(self), (self.message, self.key))


class UndecodableWarning(RuntimeWarning):
    """`get_many`, `items`, `values`, `popitem` or `pop` with a default took a value for missing that cannot be decoded.

    `warnings.simplefilter("error", UndecodableWarning)` makes it an exception, whose context names the key.
    """


class CacheMiss(MemStreamError, KeyError):
    """No live entry has this key."""

    code = Status.MISS


class KeyExists(MemStreamError):
    """The key is there already."""

    code = Status.EXISTS


class Conflict(MemStreamError):
    """The entry changed since its token was taken."""

    code = Status.CONFLICT


class LeaseHeld(MemStreamError):
    """Another thread or process holds the lease of this key."""

    code = Status.HELD


class ArgumentError(MemStreamError, ValueError):
    """This call was refused because of its arguments; another call may succeed."""


class InvalidArgument(ArgumentError):
    """A number out of range, a pointer that is missing, a struct of unknown size."""

    code = Status.INVALID


class BadKey(ArgumentError):
    """Key of 0 bytes or of more than 1,024."""

    code = Status.BAD_KEY


class ValueTooLarge(ArgumentError):
    """Value above the limit of the cache (`Stats.max_value_size`); nothing was evicted for it."""

    code = Status.TOO_LARGE


class BufferTooSmall(ArgumentError):
    """A buffer does not hold the value. The package asks again by itself; seen only through the C interface."""

    code = Status.TOO_SMALL


class ClosedError(ArgumentError):
    """The cache was closed, or never opened."""

    code = Status.NOT_CONNECTED


class NotNumeric(ArgumentError):
    """incr: the value is not a decimal integer, or the sum leaves 64 bits."""

    code = Status.NOT_NUMERIC


class ReadOnlyError(ArgumentError):
    """A write through a cache that was opened with `read_only=True`."""

    code = Status.READ_ONLY


class BadHandle(ArgumentError):
    """A view or a reservation that this process does not hold, or holds no more."""

    code = Status.BAD_HANDLE


class ConfigurationError(MemStreamError, ValueError):
    """An option or an environment variable has a value that cannot be."""


class BadBackend(ConfigurationError):
    """`backend` or MEMSTREAM_BACKEND is neither "sysv" nor "posix"."""

    code = Status.BAD_BACKEND


class BadName(ConfigurationError):
    """`name` or MEMSTREAM_NAME is not 1 to 64 characters of A-Z a-z 0-9 . _ -"""

    code = Status.BAD_NAME


class BadSize(ConfigurationError):
    """`size` or MEMSTREAM_SIZE does not parse or is out of range."""

    code = Status.BAD_SIZE


class BadShards(ConfigurationError):
    """`shards` or MEMSTREAM_SHARDS is not 1 to 64."""

    code = Status.BAD_SHARDS


class BadTimeout(ConfigurationError):
    """`timeout` or MEMSTREAM_TIMEOUT_MS is out of range."""

    code = Status.BAD_TIMEOUT


class BadAccelerator(ConfigurationError):
    """MEMSTREAM_PYTHON_ACCELERATOR is neither auto, require nor off."""


BadRoad = BadAccelerator  # Its old name, until the next release.


class AcceleratorWarning(RuntimeWarning):
    """Calls are slower than they could be in this interpreter."""


class BadMode(ConfigurationError):
    """`mode` or MEMSTREAM_MODE is not a set of permission bits."""

    code = Status.BAD_MODE


class BadHugePages(ConfigurationError):
    """`hugepages` or MEMSTREAM_HUGEPAGES is neither "off", "try" nor "require"."""

    code = Status.BAD_HUGEPAGES


class BadPrefault(ConfigurationError):
    """`prefault` is no bool, or MEMSTREAM_PREFAULT is neither "off" nor "on"."""

    code = Status.BAD_PREFAULT


class BadGroup(ConfigurationError):
    """`group` or MEMSTREAM_GROUP is neither the name nor the number of a group that exists."""

    code = Status.BAD_GROUP


class BadMaxValue(ConfigurationError):
    """`max_value` or MEMSTREAM_MAX_VALUE does not parse, or is more than a new segment can hold."""

    code = Status.BAD_MAX_VALUE


class BadChecksumChoice(ConfigurationError):
    """`checksum` is not a bool, or MEMSTREAM_CHECKSUM is neither "off" nor "on"."""

    code = Status.BAD_CHECKSUM_CHOICE


class SegmentDiffers(UserWarning):
    """The segment existed, with another size, mode, shard count, largest value or checksum choice than asked for."""


class UnavailableError(MemStreamError):
    """Not now: the same call may succeed later, or on a new `Cache`."""


class CacheBusy(UnavailableError):
    """Others held the shard until the deadline (`timeout`)."""

    code = Status.BUSY


class CacheGone(UnavailableError):
    """The segment was destroyed, or its name was removed (rm, ipcrm); open a new `Cache`."""

    code = Status.GONE


class NoMemory(UnavailableError):
    """The machine or the container has no memory left for this."""

    code = Status.NO_MEMORY


class ProcessTableFull(UnavailableError):
    """Every process slot of the segment is taken by a live process."""

    code = Status.PROCESS_TABLE_FULL


class CacheFull(UnavailableError):
    """Views and reservations hold so much that nothing can be evicted."""

    code = Status.FULL


class NoHugePages(UnavailableError):
    """Huge pages are required, and the system has none or the segment was made without. The text says what helps."""

    code = Status.NO_HUGE_PAGES


class SegmentError(MemStreamError):
    """The segment of that name cannot be used as it is."""


class NoSegment(SegmentError):
    """There is no such segment."""

    code = Status.NO_SEGMENT


class NotOwner(SegmentError):
    """It belongs to another user; `any_owner=True` accepts it."""

    code = Status.NOT_OWNER


class NoPermission(SegmentError):
    """The system refuses access to it."""

    code = Status.NO_PERMISSION


class BadMagic(SegmentError):
    """It is not a MemStream segment."""

    code = Status.BAD_MAGIC


class BadVersion(SegmentError):
    """It was made by a version with another layout."""

    code = Status.BAD_VERSION


class SizeMismatch(SegmentError):
    """Its header and the system disagree about its size."""

    code = Status.SIZE_MISMATCH


class NameMismatch(SegmentError):
    """It carries another name."""

    code = Status.NAME_MISMATCH


class BadChecksum(SegmentError):
    """Its header is damaged."""

    code = Status.BAD_CHECKSUM


class BadState(SegmentError):
    """Its state is none that exists."""

    code = Status.BAD_STATE


class Truncated(SegmentError):
    """It is smaller than its header says."""

    code = Status.TRUNCATED


class NotSharedMemory(SegmentError):
    """A directory, a FIFO or another file has its name."""

    code = Status.NOT_SHARED_MEMORY


class OtherNamespace(SegmentError):
    """It belongs to another IPC or time namespace, or to live processes of another pid namespace."""

    code = Status.OTHER_NAMESPACE


class OtherLibc(SegmentError):
    """It was made with another C library or other pthread types."""

    code = Status.OTHER_LIBC


class OtherByteOrder(SegmentError):
    """It was made on a machine of other byte order."""

    code = Status.OTHER_BYTE_ORDER


class OtherBoot(SegmentError):
    """It was made before the last reboot."""

    code = Status.OTHER_BOOT


class CorruptError(SegmentError):
    """Damaged bytes were met."""

    code = Status.CORRUPT


class SystemCallError(MemStreamError):
    """A system call failed; the message names it."""

    code = Status.OS_ERROR


class InternalError(MemStreamError):
    """A defect of the library: please report the message."""

    code = Status.INTERNAL


def _classes_by_status(group: Type[MemStreamError]) -> Dict[Status, Type[MemStreamError]]:
    """Maps the status of every class below `group` to the class."""
    classes: Dict[Status, Type[MemStreamError]] = {}
    for child in group.__subclasses__():
        if child.code is not None:
            classes[child.code] = child
        classes.update(_classes_by_status(child))
    return classes


_CLASSES = _classes_by_status(MemStreamError)

present_as(
    "memstream.errors",
    *(each for each in list(vars().values()) if isinstance(each, type) and issubclass(each, (MemStreamError, Warning))),
)


def error_of(status: int, message: str) -> MemStreamError:
    """Makes the exception that belongs to a status.

    Args:
        status: what a function of the C interface returned; not 0.
        message: what it said (`cache_last_error()`).

    Returns:
        An instance of the class for the status; of InternalError for a status that this package does not know.
    """
    try:
        known = Status(status)
    except ValueError:
        return InternalError(
            Status.INTERNAL,
            f"Unknown status {status}: {message}. Install the package and the library from one release.",
        )
    return _CLASSES[known](known, message)
