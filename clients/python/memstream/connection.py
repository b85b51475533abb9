"""The life of an open cache: options, open, close, destroy."""

from __future__ import annotations

import gc
import math
import re
import warnings
from ctypes import byref, c_void_p, sizeof
from types import TracebackType
from typing import Any, Callable, Dict, List, NoReturn, Optional, Set, Tuple, Type, TypeVar, Union

from memstream import _abi
from memstream._abi import Status
from memstream._arguments import (
    Duration,
    Path,
    byte_count,
    c_text,
    check_bool,
    invalid,
    path_text,
    seconds,
    whole_number,
)
from memstream._callers import depth_of_user
from memstream._library import Library, load
from memstream.errors import (
    BadBackend,
    BadGroup,
    BadHugePages,
    BadMaxValue,
    BadMode,
    BadName,
    BadPrefault,
    BadShards,
    BadSize,
    BadTimeout,
    ClosedError,
    InvalidArgument,
    SegmentDiffers,
)

_Self = TypeVar("_Self", bound="Connection")

# What the options may be, for messages. The library has the last word.
_NAME = "a str of 1 to 64 characters of A-Z a-z 0-9 . _ -"
_BACKEND = 'a str, "posix" or "sysv"'
_SHARDS = "an int from 1 to 64"
_MODE = "permission bits that let the owner read and write as an int, such as 0o600 or 0o660"
_TIMEOUT = "seconds from 0 to 3600 as a number or a timedelta, or None"
_GROUP = "the name or the number of a group"
_OWNER = "the name or the number of a user"
_HUGE_PAGES = 'a str, "off", "try" or "require"'


class Handle(c_void_p):
    """A `memstream_t *` that is closed when nobody refers to it any more.

    Calls under way and views refer to it, so that closing a cache never takes the memory away beneath them.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.library = library
        # Who has memory of this handle: ids, since references would be a circle.
        self.holders: Set[int] = set()

    def __del__(self) -> None:
        if not self.value:
            return
        if self.holders:
            # The garbage collector has found this handle and its views in one circle, and it finalizes them in any
            # order: until it is done, the views' finalizers and the user's own may still need the memory.
            _close_after_collection(self.library, self.value)
        else:
            self.library.c.memstream_close(self.value)


_to_close: List[Tuple[Library, int]] = []


def _close_after_collection(library: Library, address: int) -> None:
    _to_close.append((library, address))
    if _on_collection not in gc.callbacks:
        gc.callbacks.append(_on_collection)


def _on_collection(phase: str, _: Any) -> None:
    while phase == "stop" and _to_close:
        library, address = _to_close.pop()
        library.c.memstream_close(address)


class Connection:
    """An open cache without its operations: see `Cache`, which has them."""

    _accelerator: Optional[object] = None
    _end_acceleration: Callable[[object], None]

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        backend: Optional[str] = None,
        size: Union[int, str, None] = None,
        shards: Optional[int] = None,
        mode: Optional[int] = None,
        timeout: Optional[Duration] = None,
        read_only: bool = False,
        create: bool = True,
        any_owner: bool = False,
        hugepages: Optional[str] = None,
        prefault: Optional[bool] = None,
        group: Union[str, int, None] = None,
        max_value: Union[int, str, None] = None,
        owner: Union[int, str, None] = None,
        library: Optional[Path] = None,
        serializer: None = None,
    ) -> None:
        """Opens the cache of that name; creates its segment if it is absent.

        Args:
            name: 1 to 64 characters of A-Z a-z 0-9 . _ -; None: MEMSTREAM_NAME, or "default".
            backend: "posix" or "sysv"; None: MEMSTREAM_BACKEND, or "posix".
            size: bytes of a new segment, from 1 MiB, or text such as "64M" or "2G"; None: MEMSTREAM_SIZE, or 256 MiB.
            shards: of a new segment, 1 to 64; None: MEMSTREAM_SHARDS, or as many as suit its size and `max_value`.
            mode: permission bits of a new segment, such as 0o660; None: MEMSTREAM_MODE, or 0o600.
            timeout: seconds that a call waits for others at most, 0 to 3,600, or a timedelta; None:
                MEMSTREAM_TIMEOUT_MS, or 1 second.
            read_only: map the segment for reading only; nothing is ever written to it, no access is counted.
            create: False: raise NoSegment if the segment is absent.
            any_owner: accept a segment that belongs to another user.
            hugepages: "off", "try" or "require" huge pages for the segment; None: MEMSTREAM_HUGEPAGES, or "off".
                What came of "try" is `Stats.page_size`.
            prefault: True: take all memory of a new segment at once, or raise NoMemory, and map what a segment has
                before it is needed; None: MEMSTREAM_PREFAULT, or False.
            group: of a new segment, the name or number of a group that its creator is in, for a mode such as 0o660;
                None: MEMSTREAM_GROUP, or the group of the creator.
            max_value: bytes of the largest value that a new segment must accept, up to a quarter of its size: a number,
                or text such as "64M". It chooses the number of shards. None: MEMSTREAM_MAX_VALUE, or at least a
                sixteenth of the size, up to 1 GiB.
            owner: id or name of the user whose segment is wanted; implies `read_only`. It gives no rights: root may
                look at every segment, others as far as its mode allows. None: this user's own, or one that lets this
                user in.
            library: path of libcache.so; None: see `memstream._library`.
            serializer: None: values are bytes. Anything else makes an `ObjectCache`, which see.

        Raises:
            ConfigurationError: an argument or an environment variable has a value that cannot be.
            TypeError: an argument is of another type.
            SegmentError: the segment cannot be used as it is; `create=False` and there is none.
            UnavailableError: no memory, no process slot, or another creator was too slow.
            LibraryError: libcache.so was not found or does not fit.

        Warns:
            SegmentDiffers: the segment existed already, and keeps another size, mode, number of shards or largest value
                than were asked for here or by the environment.

        Source: memstream_open, memstream_open_note.
        """
        self._retire_accelerator()
        self._library = _load(library)
        options = make_options(
            self._library,
            name,
            backend,
            size,
            shards,
            mode,
            timeout,
            read_only,
            create,
            any_owner,
            hugepages,
            prefault,
            group,
            max_value,
            owner,
        )
        handle = Handle(self._library)
        self._raw_get, self._raw_set = self._library.raw_get, self._library.raw_set
        self._library.check(self._library.c.memstream_open(byref(options), byref(handle)))
        note = self._library.c.memstream_open_note(handle).decode()
        if note:
            warnings.warn(note, SegmentDiffers, stacklevel=depth_of_user())
        # What another process needs besides the name to open the same.
        self._options: Dict[str, Any] = {
            "timeout": timeout,
            "read_only": read_only,
            "any_owner": any_owner,
            "hugepages": hugepages,
            "prefault": prefault,
            "group": group,
            "owner": owner,
        }
        # None once it is closed. Functions take None as NULL and refuse it, so that no call has to look first.
        self._handle: Optional[Handle] = handle
        self._accelerate(handle)

    def _accelerate(self, handle: Handle) -> None:
        """Lets native code serve the common calls, where there is any."""

    @property
    def accelerated(self) -> bool:
        """Whether the native functions of libmemstream_python.so serve the frequent calls."""
        return self._accelerator is not None

    @property
    def road(self) -> str:
        """Deprecated: "fast" if the calls are accelerated, otherwise "plain"."""
        warnings.warn("Cache.road is deprecated: use Cache.accelerated", DeprecationWarning, 2)
        return "fast" if self.accelerated else "plain"

    def _retire_accelerator(self) -> None:
        """Ends what an earlier `__init__` opened, and keeps it: another thread may be in a native call of it."""
        retired = self._accelerator
        self._accelerator = None
        if retired is not None:
            self._end_acceleration(retired)
            self._retired = (retired, getattr(self, "_retired", None))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._handle is None

    def close(self) -> None:
        """Detaches from the segment, which stays. Closing twice is fine; every other call raises ClosedError then.

        If another thread is in a call, or a view or a slice of one is still in use, the memory stays mapped until the
        last of them is done. Safe from any thread; in a forked child it closes the child's own attachment only.

        Source: memstream_close.
        """
        self._handle = None
        if self._accelerator is not None:
            self._end_acceleration(self._accelerator)

    def destroy(self) -> None:
        """Destroys the segment with all that is in it, and closes. Others who are attached get CacheGone.

        Raises:
            NotOwner, NoPermission: the segment is another user's.
            ReadOnlyError: the cache was opened with `read_only=True`.
            CacheGone, NoSegment: somebody else was faster.

        Source: memstream_destroy.
        """
        self._check(self._library.c.memstream_destroy(self._handle))
        self.close()

    def __reduce__(self) -> Tuple[Any, ...]:
        """Lets a cache travel to another process of this machine, such as one of a pool: it opens the same segment."""
        raw = _abi.Info(struct_size=sizeof(_abi.Info))
        self._check(self._library.c.memstream_info(self._handle, byref(raw)))
        segment = {"backend": raw.backend.decode(), "create": False, "library": self._library.path}
        return (_reopen, (type(self), raw.name.decode(), {**self._options, **segment}))

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def _check(self, status: int) -> None:
        """Raises the exception of a status other than OK."""
        if status:
            self._fail(status)

    def _fail(self, status: int) -> NoReturn:
        """Raises the exception of `status`, which the calling thread's last call returned."""
        if self._handle is None:
            raise ClosedError(Status.NOT_CONNECTED, "This cache was closed. Open a new Cache.")
        self._library.check(status)
        raise AssertionError("only a status other than OK gets here")


def _load(library: Optional[Path]) -> Library:
    return load(None if library is None else path_text("library", library))


def _reopen(cls: Type[_Self], name: str, options: Dict[str, Any]) -> _Self:
    return cls(name, **options)


def destroy(
    name: Optional[str] = None,
    *,
    backend: Optional[str] = None,
    any_owner: bool = False,
    library: Optional[Path] = None,
) -> None:
    """Destroys the segment of that name without opening it first: also one that is damaged.

    Args:
        name, backend, any_owner, library: as for `Cache`.

    Raises:
        NoSegment: there is none.
        SegmentError: it is another user's, or something that is not a segment stands there.
        ConfigurationError, LibraryError: as for `Cache`.

    Source: memstream_destroy_named.
    """
    loaded = _load(library)
    options = make_options(loaded, name, backend, any_owner=any_owner)
    loaded.check(loaded.c.memstream_destroy_named(byref(options)))


def make_options(
    library: Library,
    name: Optional[str] = None,
    backend: Optional[str] = None,
    size: Union[int, str, None] = None,
    shards: Optional[int] = None,
    mode: Optional[int] = None,
    timeout: Optional[Duration] = None,
    read_only: bool = False,
    create: bool = True,
    any_owner: bool = False,
    hugepages: Optional[str] = None,
    prefault: Optional[bool] = None,
    group: Union[str, int, None] = None,
    max_value: Union[int, str, None] = None,
    owner: Union[int, str, None] = None,
) -> _abi.Options:
    """Fills `memstream_options_t`. What is None stays "from the environment".

    The library checks what it is given. Checked here is what would not reach it: bits that the C type has no room for,
    and the values (0, -1) that mean "from the environment" there.
    """
    options = _abi.Options()
    library.c.memstream_options_init_sized(byref(options), sizeof(_abi.Options))
    if name is not None:
        remedy = "Give the size of a cache as size=" if isinstance(name, int) else ""
        options.name = c_text("name", name, _NAME, BadName, Status.BAD_NAME, remedy)
    if backend is not None:
        options.backend = c_text("backend", backend, _BACKEND, BadBackend, Status.BAD_BACKEND)
    if size is not None:
        options.size_bytes = byte_count("size", size, BadSize, Status.BAD_SIZE)
    if shards is not None:
        if not 1 <= whole_number("shards", shards, _SHARDS) < 2**32:
            raise BadShards(Status.BAD_SHARDS, invalid("shards", shards, _SHARDS))
        options.shards = shards
    if mode is not None:
        options.mode = _permission_bits(mode)
    if timeout is not None:
        wait = seconds(timeout, "timeout", _TIMEOUT)
        if wait is None or not 0 <= wait <= 3600:
            raise BadTimeout(Status.BAD_TIMEOUT, invalid("timeout", timeout, _TIMEOUT))
        options.timeout_ms = math.ceil(wait * 1000)
    if hugepages is not None:
        options.hugepages = c_text("hugepages", hugepages, _HUGE_PAGES, BadHugePages, Status.BAD_HUGEPAGES)
    if prefault is not None:
        if not isinstance(prefault, bool):
            raise BadPrefault(Status.BAD_PREFAULT, invalid("prefault", prefault, "True, False or None"))
        options.prefault = b"on" if prefault else b"off"
    if group is not None:
        if isinstance(group, bool) or not isinstance(group, (str, int)):
            raise TypeError(invalid("group", group, _GROUP))
        options.group = c_text("group", str(group), _GROUP, BadGroup, Status.BAD_GROUP)
    if max_value is not None:
        options.max_value = byte_count("max_value", max_value, BadMaxValue, Status.BAD_MAX_VALUE)
    if owner is not None:
        if isinstance(owner, bool) or not isinstance(owner, (str, int)):
            raise TypeError(invalid("owner", owner, _OWNER))
        options.owner = c_text("owner", str(owner), _OWNER, InvalidArgument, Status.INVALID)
    for chosen, flag in (
        (check_bool("read_only", read_only), _abi.OpenFlags.READ_ONLY),
        (not check_bool("create", create), _abi.OpenFlags.EXISTING),
        (check_bool("any_owner", any_owner), _abi.OpenFlags.ANY_OWNER),
    ):
        if chosen:
            options.flags |= flag
    return options


def _permission_bits(mode: int) -> int:
    """Returns permission bits that reach the library."""
    bits = whole_number("mode", mode, _MODE)
    if not 0o600 <= bits <= 0o777:
        remedy = f"Write it in octal: 0o{bits}" if re.fullmatch("[67][0-7][0-7]", str(bits)) else ""
        raise BadMode(Status.BAD_MODE, invalid("mode", mode, _MODE, remedy))
    return bits
