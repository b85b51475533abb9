"""`Cache`, the class that users see.

Each public method does its own checks and one call into the library, and is documented here. What several of them need
is in `_core/`: the open segment (`connection`), the bytes of values (`codec`), the native code (`accelerator`).
"""

from __future__ import annotations

import ctypes
import warnings
from contextlib import ExitStack
from ctypes import byref, c_int64, c_size_t, c_uint32, c_uint64, sizeof
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    MutableMapping,
    NoReturn,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from memstream._core import abi, accelerator
from memstream._core.abi import Status
from memstream._core.arguments import (
    FOR_EVER,
    NO_FLAGS,
    SIZES,
    BorrowedBytes,
    Duration,
    Key,
    Path,
    check_bool,
    check_int64,
    check_iterable,
    check_range,
    encode_key,
    encode_prefix,
    invalid,
    milliseconds,
)
from memstream._core.blocks import EndedByBlock
from memstream._core.codec import SerializerChoice, make_codec
from memstream._core.connection import BUFFER_SIZE, Connection, make_buffer, miss, return_buffer, take_buffer
from memstream._core.contents import ABSENT, CacheItems, CacheValues
from memstream._core.errors import CacheMiss, MemStreamError, SerializerError
from memstream._core.handle import Handle
from memstream._core.items import Items, read_consistent, read_each, snapshot
from memstream._core.kinds import FIRST_RESERVED, LAST_RESERVED, Kind, check_flags, flag_word
from memstream._core.library import Library
from memstream._core.options import Options
from memstream._core.records import (
    ENTRY_FORMAT,
    Entry,
    Info,
    Metrics,
    Process,
    Repair,
    Stats,
    entry_from_fields,
    info_from_struct,
    metrics_from_struct,
    process_from_struct,
    repair_from_struct,
    stats_from_struct,
)
from memstream._core.undecodable import warn_of_undecodable
from memstream._core.views import Reservation, View
from memstream.arrays import array_in_place, put_array
from memstream.leases import Lease, end_leases, wait_for_lease
from memstream.limits import CacheLimits, end_permits
from memstream.memo_results import Source
from memstream.memoize import MemoizedFunction, make_options, memoize
from memstream.tags import Tagged, Tags, invalidate, struct_of, take
from memstream.watches import CacheWatches, end_watches

if TYPE_CHECKING:
    from numpy.typing import NDArray

_T = TypeVar("_T")

# Plain numbers, because looking up a member of an enum costs as much as the call's own work.
_OK, _MISS, _EXISTS, _CONFLICT, _TOO_SMALL = map(
    int, (Status.OK, Status.MISS, Status.EXISTS, Status.CONFLICT, Status.TOO_SMALL)
)

# The default of `flags`. Compared by identity, because False and 0.0 equal it and must be refused.
_ZERO = 0

# Entries that one call of the library fills: about 140 KiB.
_SCAN_BATCH = 128

# Processes that one call lists; more of them take a second call.
_PROCESS_BATCH = 64


class Cache(EndedByBlock, CacheLimits, CacheWatches, MutableMapping[Key, Any]):
    """A cache that all processes of this machine share: a mapping from keys to bytes, or to objects.

        with Cache("thumbnails") as cache:
            cache["cat"] = b"..."
            cache.set("dog", b"...", ttl=60)
            value = cache.get("bird")           # None: not there

        with Cache("sessions", serializer="pickle") as cache:
            cache["user:1"] = {"name": "Ada", "visits": 3}
            cache.set("nobody", None)
            cache.get("nobody", "absent")       # None: that is stored, and no miss

    Keys are str (stored as UTF-8) or bytes, and come back as bytes. Without a serializer, values are bytes-like and
    come back as bytes. With one, values are objects. "pickle" and "json" store bytes and ints of 64 bits as they are,
    so that `incr` works on ints; a serializer of your own gets them too. Plain bytes of other writers come back as
    bytes. A value of another serializer raises SerializerError.

    Unpickling runs code: use serializer="pickle" only where you trust everybody who may write the segment.

    Threads: all of them may use one Cache; the interpreter's lock is free while a call waits. Fork: a child goes on
    with the Cache of its parent, but not with its views and reservations. Spawn, pools: a Cache may be handed to
    another process, which opens the same segment. A process may be killed at any time: what it had stored stays, and
    the others go on.

    Every method may raise ClosedError (after `close`), CacheBusy (others held the shard until the timeout), CacheGone
    (the segment was destroyed: open a new Cache) and CorruptError (the library met damaged bytes).
    """

    # Two caches are the same if they are one object: comparing all entries is not what == should cost.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    _accelerator: Optional[accelerator.Accelerator] = None

    # ---- opening and closing ----

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
        checksum: Optional[bool] = None,
        library: Optional[Path] = None,
        serializer: Optional[SerializerChoice] = None,
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
                `Stats.page_size` shows the result of "try".
            prefault: True: take all memory of a new segment at its creation, or raise NoMemory, and map what a segment
                has before it is needed; None: MEMSTREAM_PREFAULT, or False.
            group: of a new segment, the name or number of a group that its creator is in, for a mode such as 0o660;
                None: MEMSTREAM_GROUP, or the group of the creator.
            max_value: bytes of the largest value that a new segment must accept, up to a quarter of its size: a number,
                or text such as "64M". It chooses the number of shards. None: MEMSTREAM_MAX_VALUE, or at least a
                sixteenth of the size, up to 1 GiB.
            owner: id or name of the user whose segment is wanted; implies `read_only`. It gives no rights: root may
                look at every segment, others as far as its mode allows. None: this user's own, or one whose mode
                admits this user.
            checksum: of a new segment. True: each value has a checksum, so that a damaged one raises `CorruptError`.
                None: MEMSTREAM_CHECKSUM, or False.
            library: path of libcache.so; None: MEMSTREAM_LIBRARY, or the one beside the package, or the system's.
            serializer: "pickle" (protocol 5; the buffers of numpy arrays are copied only once), "json", or an object
                with `dumps` and `loads`; None: values are bytes.

        Raises:
            ConfigurationError: an argument or an environment variable has an invalid value.
            TypeError: an argument is of another type; the serializer is none of these.
            SegmentError: the segment cannot be used as it is; `create=False` and there is none.
            UnavailableError: no memory, no process slot, or another creator was too slow.
            LibraryError: libcache.so was not found or does not fit.

        Warns:
            SegmentDiffers: the segment existed already, and keeps another size, mode, number of shards or largest value
                than were asked for here or by the environment.

        Source: memstream_open, memstream_open_note.
        """
        retired, self._accelerator = self._accelerator, None
        if retired is not None:  # A second `__init__`. Kept, because another thread may be in a call of it.
            retired.end()
            self._retired = (retired, getattr(self, "_retired", None))
        self._codec = make_codec(serializer)
        self._serializer = serializer
        self._connection = Connection(
            Options(
                name=name,
                backend=backend,
                size=size,
                shards=shards,
                mode=mode,
                timeout=timeout,
                read_only=read_only,
                create=create,
                any_owner=any_owner,
                hugepages=hugepages,
                prefault=prefault,
                group=group,
                max_value=max_value,
                owner=owner,
                checksum=checksum,
                library=library,
            )
        )
        self._accelerator = accelerator.attach(Cache, self, self._connection, self._codec)

    @property
    def _library(self) -> Library:
        return self._connection.library

    @property
    def _handle(self) -> Optional[Handle]:
        return self._connection.handle

    @property
    def accelerated(self) -> bool:
        """Whether the native functions of libmemstream_python.so serve the frequent calls."""
        return self._accelerator is not None

    @property
    def road(self) -> str:
        """Deprecated: "fast" if the calls are accelerated, otherwise "plain"."""
        warnings.warn("Cache.road is deprecated: use Cache.accelerated", DeprecationWarning, 2)
        return "fast" if self.accelerated else "plain"

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._connection.handle is None

    def close(self) -> None:
        """Detaches from the segment, which stays, and ends this cache's leases, permits and watches.

        Closing twice is fine; every other call raises ClosedError then. The memory stays mapped until no thread is in a
        call, and no view or slice of one is in use. Safe from any thread; in a forked child it closes the child's own
        attachment only.

        Source: memstream_close.
        """
        end_leases(self)
        end_permits(self)
        end_watches(self)
        self._connection.handle = None
        if self._accelerator is not None:
            self._accelerator.end()

    def destroy(self) -> None:
        """Destroys the segment with all its entries, and closes. Other attached processes get CacheGone.

        Raises:
            NotOwner, NoPermission: the segment is another user's.
            ReadOnlyError: the cache was opened with `read_only=True`.
            CacheGone, NoSegment: another process was faster.

        Source: memstream_destroy.
        """
        self._check(self._library.c.memstream_destroy(self._handle))
        self.close()

    def __reduce__(self) -> Tuple[Any, ...]:
        """Lets a cache travel to another process of this machine, such as one of a pool: it opens the same segment."""
        raw = abi.Info(struct_size=sizeof(abi.Info))
        self._check(self._library.c.memstream_info(self._handle, byref(raw)))
        options = self._connection.options.of_the_attachment()
        options.update(backend=raw.backend.decode(), create=False, library=self._library.path)
        if self._serializer is not None:
            options["serializer"] = self._serializer
        return (_reopen, (type(self), raw.name.decode(), options))

    def _end_block(self) -> None:
        self.close()

    def _check(self, status: int) -> None:
        """Raises the exception of a status other than OK."""
        self._connection.check(status)

    def _fail(self, status: int) -> NoReturn:
        """Raises the exception of a status that the calling thread's last call returned. The accelerator calls this."""
        self._connection.fail(status)

    def _unpack(self, key: Key, value: bytes, flags: int) -> Any:
        """Turns the bytes of a value into what the caller gets. The accelerator calls this."""
        return self._codec.unpack(key, value, flags)

    # ---- one key: each method is one call into the library, and atomic among all processes ----

    @accelerator.accelerated
    def get(self, key: Key, default: Any = None, *, touch: Optional[Duration] = None) -> Any:
        """Returns the value of `key`, or `default` if it is not there.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            default: what a miss returns.
            touch: seconds until the entry expires, counted from now, above 0, or a timedelta: the same call gives it
                this time to live, also if that is shorter. An entry that replaces it meanwhile keeps its own. None:
                the time to live stays.

        Returns:
            The value: a copy, or a new object.

        Raises:
            BadKey: the key is empty or too long.
            SerializerError: this cache cannot decode the value; the text says what reads it.
            InvalidArgument: `touch` is out of range.
            TypeError: `touch` is neither a number nor a timedelta.
            ReadOnlyError: with `touch`, the cache was opened with `read_only=True`.
            ClosedError, UnavailableError, CorruptError: as for every method.
            Those of the serializer.

        Source: memstream_get; memstream_view for values above 32 KiB; memstream_get_and_touch.
        """
        connection = self._connection
        if touch is not None:
            renewed = connection.read_and_touch(encode_key(key), milliseconds(touch, "touch"))
            return default if renewed is None else self._codec.unpack(key, renewed.memory, renewed.flags)
        name = key if key.__class__ is bytes else encode_key(key)
        try:
            buffer = take_buffer()
        except IndexError:
            buffer = make_buffer()
        memory, size, size_reference, meta, meta_reference = buffer
        size.value = BUFFER_SIZE
        status = connection.raw_get(connection.handle, name, SIZES[len(name)], memory, size_reference, meta_reference)
        if status == _OK:
            value = memory[: size.value]
            flags = meta.flags
            return_buffer(buffer)
            if flags >= FIRST_RESERVED and flags <= LAST_RESERVED:
                return self._codec.unpack(key, value, flags)
            return value
        return_buffer(buffer)
        if status == _MISS:
            return default
        if status == _TOO_SMALL:
            found = connection.read_large(encode_key(key))
            return default if found is None else self._codec.unpack(key, found.memory, found.flags)
        connection.fail(status)

    def gets(self, key: Key, default: Any = None) -> Tuple[Any, Optional[int]]:
        """Returns the value of `key` and the token for `cas`; `(default, None)` if it is not there.

        Args:
            key: as for `get`.
            default: the value that a miss returns.

        Returns:
            The value (a copy, or a new object) and a token that every write of the entry changes.

        Raises:
            BadKey: the key is empty or too long.
            SerializerError: as for `get`.

        Source: memstream_get; memstream_view for values above 32 KiB.
        """
        found = self._connection.read(encode_key(key))
        if found is None:
            return default, None
        return self._codec.unpack(key, found.memory, found.flags), found.token

    @accelerator.accelerated
    def set(self, key: Key, value: Any, ttl: Optional[Duration] = None, flags: int = 0, *, tags: Tagged = None) -> None:
        """Stores `value` under `key` and replaces what was there. A full cache evicts entries to make room.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            value: what the serializer takes. Without one, any C-contiguous buffer (bytes, bytearray, memoryview, array,
                numpy). Its bytes, 0 to `Stats.max_value_size` of them, are copied straight into the segment.
            ttl: seconds until it expires, above 0, or a timedelta; None: never.
            flags: 32 bits of the caller's own, kept with the value; 0xE0000000 to 0xEFFFFFFF are the package's. Beside
                an object that went through the serializer: 24 bits.
            tags: up to four groups of the entry: `invalidate` ends all entries of one. What `tags` returned counts as
                taken then, names as taken now.

        Raises:
            BadKey, ValueTooLarge: the limits above; nothing was evicted for it.
            InvalidArgument: `ttl`, `flags` or `tags` out of range.
            TypeError: an argument is of another type; without a serializer, `value` has no buffer.
            BufferError: the buffer of `value` is not contiguous.
            ReadOnlyError: the cache was opened with `read_only=True`.
            UnavailableError: busy, destroyed, or no memory.
            Those of the serializer.

        Source: memstream_set; memstream_reserve and memstream_commit for large pickles; memstream_store_tagged.
        """
        connection, codec = self._connection, self._codec
        if tags is not None:
            kind, pieces, size = codec.encode(value)
            connection.set(key, pieces, size, ttl, flag_word(kind, flags), struct_of(connection, tags))
        elif value.__class__ is bytes and codec.keeps_bytes:
            if key.__class__ is not bytes:
                key = encode_key(key)
            status = connection.raw_set(
                connection.handle,
                key,
                SIZES[len(key)],
                value,
                SIZES[len(value)],
                FOR_EVER if ttl is None else c_uint64(milliseconds(ttl)),
                NO_FLAGS if flags is _ZERO else c_uint32(check_flags(flags)),
            )
            if status:
                connection.fail(status)
        else:
            kind, pieces, size = codec.encode(value)
            connection.set(key, pieces, size, ttl, flag_word(kind, flags))

    put = set

    def add(self, key: Key, value: Any, ttl: Optional[Duration] = None, flags: int = 0, *, tags: Tagged = None) -> bool:
        """Stores `value` only if `key` is absent.

        Args:
            key, value, ttl, flags, tags: as for `set`.

        Returns:
            Whether it was stored.

        Raises:
            Those of `set`.

        Source: memstream_add; memstream_store_tagged with tags.
        """
        function = self._library.c.memstream_add
        return self._store(function, key, value, ttl, flags, refusals=(_EXISTS,), tagged=(abi.ADD, tags)) == _OK

    def replace(
        self, key: Key, value: Any, ttl: Optional[Duration] = None, flags: int = 0, *, tags: Tagged = None
    ) -> bool:
        """Stores `value` only if `key` is present.

        Args:
            key, value, ttl, flags, tags: as for `set`.

        Returns:
            Whether it was stored.

        Raises:
            Those of `set`.

        Source: memstream_replace; memstream_store_tagged with tags.
        """
        function = self._library.c.memstream_replace
        return self._store(function, key, value, ttl, flags, refusals=(_MISS,), tagged=(abi.REPLACE, tags)) == _OK

    def cas(
        self,
        key: Key,
        value: Any,
        token: Optional[int],
        ttl: Optional[Duration] = None,
        flags: int = 0,
        *,
        tags: Tagged = None,
    ) -> bool:
        """Stores `value` only if the entry was not written since `gets` (compare and set).

        Args:
            token: from `gets`, `View.token` or `Entry.token`; None: the key must still be absent, as for `add`.
            key, value, ttl, flags, tags: as for `set`.

        Returns:
            Whether it was stored. False: the entry was changed or is gone; get it again.

        Raises:
            Those of `set`.

        Source: memstream_cas; memstream_add without a token; memstream_store_tagged with tags.
        """
        if token is None:
            return self.add(key, value, ttl, flags, tags=tags)
        check_range("token", token, 0, 2**64 - 1)
        function, refusals = self._library.c.memstream_cas, (_MISS, _CONFLICT)
        return self._store(function, key, value, ttl, flags, token, refusals=refusals, tagged=(abi.CAS, tags)) == _OK

    def _store(
        self,
        function: Any,
        key: Key,
        value: Any,
        ttl: Optional[Duration],
        flags: int,
        *more: int,
        refusals: Tuple[int, ...],
        tagged: Tuple[int, Tagged],
    ) -> int:
        """Calls a storing function; returns OK or one of `refusals`. `tagged`: its operation, and the tags."""
        data, word = self._codec.pack(value, flags)
        connection, token = self._connection, more[0] if more else 0
        if (tags := struct_of(connection, tagged[1])) is not None:
            return connection.store_tagged(tagged[0], key, data, ttl, word, tags, token, refusals)
        return connection.store(function, key, data, ttl, word, *more, refusals=refusals)

    @accelerator.accelerated
    def delete(self, key: Key) -> bool:
        """Removes `key`.

        Args:
            key: as for `get`.

        Returns:
            Whether it was there.

        Raises:
            BadKey, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_delete.
        """
        connection, name = self._connection, encode_key(key)
        return connection.is_there(connection.library.c.memstream_delete(connection.handle, name, len(name)))

    @accelerator.accelerated
    def touch(self, key: Key, ttl: Optional[Duration] = None) -> bool:
        """Gives the entry a new time to live and leaves its value alone.

        Args:
            key: as for `get`.
            ttl: seconds from now, above 0, or a timedelta; None: it never expires.

        Returns:
            Whether the key was there.

        Raises:
            BadKey, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.
            CacheFull: a small value without ttl and flags has to move to a block with room for a ttl. Views and
                reservations pin everything that could make room. Ttl and value stay as they were.

        Source: memstream_touch.
        """
        connection, name = self._connection, encode_key(key)
        status = connection.library.c.memstream_touch(connection.handle, name, len(name), milliseconds(ttl))
        return connection.is_there(status)

    @accelerator.accelerated
    def incr(self, key: Key, delta: int = 1, initial: Optional[int] = None, ttl: Optional[Duration] = None) -> int:
        """Adds `delta` to a number. Keeps its ttl and flags.

        A number is decimal text, such as b"-12". A cache with a serializer stores ints in this form.

        Args:
            key: as for `get`.
            delta: 64 bits, signed.
            initial: the number that an absent key starts from: it becomes `initial + delta`; None: it is a miss.
            ttl: seconds to live of a key that was absent, or a timedelta; None: for ever.

        Returns:
            The new number.

        Raises:
            CacheMiss: the key is absent, and there is no `initial`.
            NotNumeric: the value is not a decimal number, or the sum leaves 64 bits; it stays as it was.
            BadKey, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_incr; memstream_add for a new number of a cache with a serializer.
        """
        if initial is not None and self._codec.stores_objects:
            return self._incr_object(key, delta, check_int64("initial", initial), ttl)
        name = encode_key(key)
        start = None if initial is None else byref(c_int64(check_int64("initial", initial)))
        result = c_int64()
        status = self._library.c.memstream_incr(
            self._handle, name, len(name), check_int64("delta", delta), start, milliseconds(ttl), byref(result)
        )
        if status == _MISS:
            raise miss(key)
        self._check(status)
        return result.value

    def _incr_object(self, key: Key, delta: int, initial: int, ttl: Optional[Duration]) -> int:
        """As `incr`, where a new number has to be marked as an int."""
        milliseconds(ttl)  # Refuses an invalid ttl, also for a key that is there.
        function, word = self._library.c.memstream_add, flag_word(Kind.INTEGER, 0)
        while True:
            try:
                return Cache.incr(self, key, delta)
            except CacheMiss:
                total = check_int64("initial + delta", initial + delta)
            status = self._connection.store(function, key, b"%d" % total, ttl, word, refusals=(_EXISTS,))
            if status == _OK:
                return total

    def decr(self, key: Key, delta: int = 1, initial: Optional[int] = None, ttl: Optional[Duration] = None) -> int:
        """Subtracts `delta` from a number: `incr(key, -delta, initial, ttl)`.

        Args:
            key, delta, initial, ttl: as for `incr`.

        Returns:
            The new number.

        Raises:
            Those of `incr`.

        Source: memstream_incr.
        """
        return self.incr(key, -check_int64("delta", delta), initial, ttl)

    @accelerator.accelerated
    def exists(self, key: Key) -> bool:
        """Returns whether `key` is there. Counts no access.

        Args:
            key: as for `get`.

        Returns:
            Whether it is there.

        Raises:
            BadKey, UnavailableError: as for `get`.

        Source: memstream_exists.
        """
        connection, name = self._connection, encode_key(key)
        return connection.is_there(connection.library.c.memstream_exists(connection.handle, name, len(name)))

    # ---- tags ----

    def tags(self, *names: Key) -> Tags:
        """Takes tags as they are now, for entries that are stored later: an invalidation since then ends those too.

        Args:
            names: up to four: str or bytes of 1 to 1,024 bytes.

        Returns:
            What `set` and others take as `tags`. It may serve for many entries.

        Raises:
            InvalidArgument: a name is empty or too long, or there are more than four.
            TypeError: a name is neither str nor bytes.
            ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_tag.
        """
        return take(self._connection, names)

    def invalidate(self, tag: Key) -> None:
        """Makes all entries misses that have a tag, in constant time, however many there are.

        Args:
            tag: str or bytes of 1 to 1,024 bytes.

        Raises:
            InvalidArgument: it is empty or too long.
            TypeError: it is neither str nor bytes.
            ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_invalidate.
        """
        invalidate(self._connection, tag)

    # ---- many keys: each is done or not, by itself; the whole is not atomic ----

    @accelerator.accelerated
    def get_many(self, keys: Iterable[Key], *, consistent: bool = False) -> Dict[Key, Any]:
        """Returns the values of those of the keys that are there.

        Args:
            keys: each as for `get`.
            consistent: all values stood under their keys at one instant, and the other keys had none then. This reads
                the keys again while one of them changes, at most 16 times.

        Returns:
            A dict from the keys, as they were given, to copies of their values. A key that is not there is not in it,
            nor is one whose value cannot be decoded: an UndecodableWarning says why.

        Raises:
            BadKey: one of the keys is empty or too long.
            Conflict: with `consistent`, a key changed each time that they were read.
            TypeError, UnavailableError, CorruptError, ClosedError: as for `get`.

        Source: memstream_get_many; for values that are large or many, memstream_get and memstream_view. With
        `consistent`, memstream_get_many_consistent.
        """
        given = check_iterable("keys", keys)
        check_bool("consistent", consistent)
        items = Items(given)
        buffer = (read_consistent if consistent else read_each)(self._connection, items)
        start = ctypes.addressof(buffer)
        found: Dict[Key, Any] = {}
        with memoryview(buffer).cast("B") as memory:
            for key, address, size_of_value, flags, outcome in items.results():
                if outcome == _OK:
                    begin = address - start
                    value: Any = bytes(memory[begin : begin + size_of_value])
                    if not FIRST_RESERVED <= flags <= LAST_RESERVED:
                        found[key] = value
                        continue
                elif outcome == _TOO_SMALL:
                    alone = self._connection.read(encode_key(key))
                    if alone is None:
                        continue
                    value, flags = alone.memory, alone.flags
                else:
                    continue
                try:
                    found[key] = self._codec.unpack(key, value, flags)
                except MemoryError:
                    raise
                except Exception as error:
                    warn_of_undecodable(error, encode_key(key))
        return found

    @accelerator.accelerated
    def set_many(
        self, values: Mapping[Key, Any], ttl: Optional[Duration] = None, flags: int = 0, *, tags: Tagged = None
    ) -> None:
        """Stores every value under its key.

        Args:
            values: from keys to values, each as for `set`.
            ttl, flags, tags: of all of them, as for `set`.

        Raises:
            Those of `set`. The others are stored all the same, unless an argument has a wrong type.

        Source: memstream_set_many; memstream_set_many_sized where there is no accelerator, or with tags.
        """
        pairs = snapshot(values)
        items = Items([key for key, _ in pairs], struct_of(self._connection, tags))
        packed = [self._codec.pack(value, flags) for _, value in pairs]
        ttl_ms = milliseconds(ttl)
        with ExitStack() as stack:
            for index, (value, word) in enumerate(packed):
                address, size = stack.enter_context(BorrowedBytes(value))
                items.set_value(index, address.value or 0, size, ttl_ms, word)
            status = self._library.c.memstream_set_many_sized(self._handle, items.array, items.size, len(packed))
        self._check(status)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Stores the entries of a mapping, or of an iterable of (key, value) pairs, as `dict.update` does.

        Args:
            other: a mapping, or pairs.
            more: further values; their names are the keys.

        Raises:
            Those of `set_many`. The others are stored all the same.

        Source: memstream_set_many.
        """
        try:
            merged: Dict[Any, Any] = dict(snapshot(other) if isinstance(other, Mapping) else other)
        except (TypeError, ValueError) as error:
            raise TypeError(invalid("other", other, "a mapping, or an iterable of (key, value) pairs")) from error
        merged.update(more)
        self.set_many(merged)

    @accelerator.accelerated
    def delete_many(self, keys: Iterable[Key]) -> int:
        """Removes the keys.

        Args:
            keys: each as for `get`.

        Returns:
            How many of them were there.

        Raises:
            Those of `delete`. The others are removed all the same.

        Source: memstream_delete_many.
        """
        return sum(self._delete_each(keys))

    def _delete_each(self, keys: Iterable[Key]) -> List[bool]:
        """As `delete_many`, but returns of each key whether it was there."""
        items = Items(check_iterable("keys", keys))
        self._check(self._library.c.memstream_delete_many(self._handle, items.array, len(items.keys)))
        return [outcome == _OK for *_, outcome in items.results()]

    def clear(self) -> None:
        """Removes all entries. Views stay readable.

        Raises:
            ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_clear.
        """
        self._check(self._library.c.memstream_clear(self._handle))

    # ---- values in place: these deal in bytes, whatever the serializer ----

    @accelerator.accelerated
    def view(self, key: Key) -> View:
        """Gives the value of `key` in place, without a copy, for a with block.

            with cache.view("cat") as memory:
                digest = sha256(memory)

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.

        Returns:
            A context manager that gives a read-only memoryview. The end of the block raises BufferError if a slice or
            an array of it is still in use. With `read_only=True` the library makes a copy of its own.

        Raises:
            CacheMiss: the key is not there.
            BadKey: it is empty or too long.

        Source: memstream_view, memstream_release.
        """
        return self._connection.view(key)

    def reserve(self, key: Key, size: int, ttl: Optional[Duration] = None, flags: int = 0) -> Reservation:
        """Gives room for a value of `size` bytes in the segment, to be filled in place in a with block.

            with cache.reserve("cat", size) as memory:
                file.readinto(memory)

        The value appears whole when the block ends, and not at all if an exception ends it.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            size: bytes, 0 to `Stats.max_value_size`.
            ttl: seconds to live from the end of the block on, above 0; None: for ever.
            flags: 32 bits of the caller's own, kept with the value.

        Returns:
            A context manager that gives a writable memoryview; what is in it at first is undefined. The end of the
            block raises BufferError, and stores nothing, if a slice or an array of it is still in use.

        Raises:
            BadKey, ValueTooLarge, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_reserve, memstream_commit, memstream_abort.
        """
        return self._connection.reserve(key, size, ttl, check_flags(flags))

    # ---- numpy arrays: numpy is imported at the first call ----

    def put_array(self, key: Key, array: Any, ttl: Optional[Duration] = None, flags: int = 0) -> None:
        """Stores an array; its elements are copied once, straight into the segment.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            array: a numpy array of any shape and any dtype but objects, or what `numpy.asarray` takes. Fortran order is
                kept; an array that is not contiguous is stored in C order.
            ttl: seconds until it expires, above 0, or a timedelta; None: never.
            flags: 24 bits of the caller's own.

        Raises:
            SerializerError: the dtype holds Python objects, whose addresses mean nothing to others; its fields overlap
                or are not in the order of their bytes; or the array is masked.
            ImportError: numpy is not installed.
            BadKey, ValueTooLarge, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_reserve, memstream_commit.
        """
        put_array(self._connection, key, array, ttl, flags)

    def array(self, key: Key) -> "NDArray[Any]":
        """Gives an array in place: its elements are read from the segment, nothing is copied.

        Args:
            key: as for `get`.

        Returns:
            A read-only array, with the dtype, shape and order that were stored. Its bytes stay as they are, through
            replace, delete and eviction by anyone, until the last array made of it is gone. In a forked child an array
            of the parent's is not protected: take it again there, or `copy()` before the fork.

        Raises:
            CacheMiss: the key is not there.
            SerializerError: the value is no array.
            ImportError: numpy is not installed.

        Source: memstream_view; memstream_release, when the last array is gone.
        """
        return array_in_place(self.view, key)

    # ---- leases and memoized functions: one of many processes computes what is missing ----

    def lease(self, key: Key, token: Optional[int] = None, duration: Optional[Duration] = None) -> Optional[Lease]:
        """Asks for the right to compute the value of a key.

            while (value := cache.get("report")) is None:
                lease = cache.lease("report")
                if lease is None:
                    cache.wait_for_lease("report")
                    continue
                with lease:
                    lease.fulfil(make_report(), ttl=60)

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            token: from `gets`, of a value that is to be computed again; None: only if the key is absent.
            duration: seconds after which another caller may take the lease away, above 0; None: it lasts as long as
                this process.

        Returns:
            The lease, for a with block; None if another caller has it (also a thread of this process), or if the value
            is there by now.

        Raises:
            BadKey, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_lease.
        """
        stale = 0 if token is None else check_range("token", token, 0, 2**64 - 1)
        lease = Lease(self, encode_key(key))
        try:
            return lease if lease._ask(stale, milliseconds(duration, "duration")) == _OK else None
        except BaseException:  # A signal handler's, for instance. Its traceback may outlive it, and keep the lease.
            lease.give_back(None)
            raise

    def wait_for_lease(self, key: Key, timeout: Optional[Duration] = None) -> bool:
        """Waits until nobody holds a lease of a key. Returns soon after its holder fulfils or releases it, or dies.

        Signals are handled meanwhile. Under gevent and eventlet the other greenlets of the thread go on.

        Args:
            key: as for `lease`.
            timeout: seconds, above 0; None: as long as it takes.

        Returns:
            Whether nobody holds one; False at the timeout.

        Raises:
            BadKey, InvalidArgument, UnavailableError: as for `get`.

        Source: memstream_lease_wait.
        """
        return wait_for_lease(self._connection, key, timeout)

    def memoize(
        self,
        ttl: Optional[Duration] = None,
        *,
        stale: Duration = 0,
        ignore: Union[str, Iterable[str]] = (),
        key: Optional[Callable[..., Any]] = None,
        typed: bool = False,
        cache_if: Optional[Callable[[Any], bool]] = None,
        name: Optional[str] = None,
        version: Any = None,
        wait: Optional[Duration] = None,
        lease: Optional[Duration] = None,
        tags: Union[None, Iterable[Key], Callable[..., Iterable[Key]]] = None,
        jitter: float = 0,
        absent_ttl: Optional[Duration] = None,
        refresh_ahead: float = 0,
    ) -> Callable[[Callable[..., _T]], MemoizedFunction[_T]]:
        """Makes a decorator that keeps the results of a function, a method or a coroutine function.

            @cache.memoize(ttl=60, stale=30)
            def report(customer: int, month: str) -> dict: ...

        When a result is missing, one caller among all processes and threads computes it, and the others wait for it. If
        that caller stores nothing, for instance because it raises, all waiting callers compute immediately. If its
        process is killed, one of them takes over.

        Results belong to the function with everything that it carries: its name, file and code, the arguments bound to
        it, and the variables of its closure. These count as they were when it was decorated, or last assigned.

        Args:
            ttl: seconds for which a result is fresh, above 0; None: for ever.
            stale: seconds after that, during which all callers but the one that computes it again still get it.
            ignore: names that do not count: of parameters, such as "self" or ("connection", "verbose"), and of
                variables of the closure.
            key: called with the arguments; what it returns counts instead of them.
            typed: whether 1, 1.0 and True are different arguments.
            cache_if: called with a result; False: the result is returned but not stored.
            name: counts instead of the function's name, file and code: functions of one name share their results.
            version: counts too: change it when results change their meaning.
            wait: seconds after which a waiting caller computes by itself and stores nothing; None: as long as it takes.
            lease: seconds after which another caller may compute although the first one still does; None: never.
            tags: tags of all results, or a function that takes the arguments of a call and returns the tags of its
                result. They are taken before the function computes, so `invalidate` also ends what is being computed.
            jitter: share of the ttl, below 1, by which a result may be fresh for less, each by chance: results that are
                stored together are not computed again together.
            absent_ttl: ttl of the result None, so that what is absent is asked for again sooner; None: as `ttl`.
            refresh_ahead: share of the ttl, below 1: in this last part one caller among all processes computes the
                result again, in its own call. The others get the old one. If the function raises, that caller gets the
                old result too, even a stale one, and the logger "memstream.memoize" a warning.

        Returns:
            A decorator. What it makes is a `MemoizedFunction`: it has `refresh`, `forget`, `cache_clear`, `cache_info`
            and `__wrapped__`. Results are stored by the serializer of the cache; by pickle if it has none.
            A call raises RuntimeError if the function needs its own result for the same arguments.

        Raises:
            InvalidArgument, ValueError, TypeError: an option or the function is not as described above, or the
                function carries something that cannot be told apart by keys.

        Source: memstream_get, memstream_lease, memstream_lease_follow, memstream_lease_fulfil.
        """
        options = make_options(ttl, stale, cache_if, wait, lease, tags, jitter, absent_ttl, refresh_ahead)
        return memoize(Source(lambda: self), options, ignore, key, typed, name, version)

    # ---- looking: nothing here counts as an access or changes an entry ----

    def scan(self, prefix: Optional[Key] = None) -> Iterator[Entry]:
        """Walks over all live entries, in no order.

        An entry that is there during the whole walk is reported exactly once. One that is stored or removed meanwhile
        may be missing. A key that is removed and stored again may be reported twice. Other processes go on as usual
        between batches.

        Args:
            prefix: only keys that begin with this (str in UTF-8, or bytes); None: all. No pattern: a str must not end
                in an asterisk.

        Returns:
            An iterator of copies. One iterator belongs to one thread at a time.

        Raises:
            InvalidArgument: `prefix` is a pattern.
            ClosedError, UnavailableError, CorruptError: while iterating.

        Source: memstream_scan.
        """
        return self._scan(encode_prefix(prefix))

    def _scan(self, start: bytes) -> Iterator[Entry]:
        cursor = c_uint64(0)
        count = c_size_t()
        entries = (abi.Entry * _SCAN_BATCH)()
        while True:
            status = self._library.c.memstream_scan(self._handle, byref(cursor), entries, _SCAN_BATCH, byref(count))
            self._check(status)
            filled = memoryview(entries).cast("B")[: count.value * ENTRY_FORMAT.size]
            for fields in ENTRY_FORMAT.iter_unpack(filled):
                entry = entry_from_fields(fields)
                if entry.key.startswith(start):
                    yield entry
            if cursor.value == 0:
                return

    def entry(self, key: Key) -> Optional[Entry]:
        """Returns what is known of one entry; None if the key is not there.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.

        Returns:
            A copy; None for a miss.

        Raises:
            BadKey: the key is empty or too long.

        Source: memstream_entry_info.
        """
        name = encode_key(key)
        raw = abi.Entry()
        if not self._connection.is_there(
            self._library.c.memstream_entry_info(self._handle, name, len(name), byref(raw))
        ):
            return None
        return entry_from_fields(ENTRY_FORMAT.unpack_from(raw))

    def stats(self) -> Stats:
        """Returns counters and sizes of the whole segment.

        Returns:
            The numbers as they are now.

        Source: memstream_stats.
        """
        raw = abi.CacheStats(struct_size=sizeof(abi.CacheStats))
        self._check(self._library.c.memstream_stats(self._handle, byref(raw)))
        return stats_from_struct(raw)

    def metrics(self) -> Metrics:
        """Returns what the segment counts beside `stats`: outcomes, waits, latencies, ages, reuse distances.

        Returns:
            The numbers as they are now.

        Source: memstream_metrics, memstream_bucket_bound.
        """
        raw = abi.Metrics(struct_size=sizeof(abi.Metrics))
        self._check(self._library.c.memstream_metrics(self._handle, byref(raw)))
        return metrics_from_struct(raw, self._library.c.memstream_bucket_bound)

    def info(self) -> Info:
        """Returns which segment the cache is open on.

        Returns:
            Its backend, name, size and identity, and how this Cache uses it.

        Source: memstream_info.
        """
        raw = abi.Info(struct_size=sizeof(abi.Info))
        self._check(self._library.c.memstream_info(self._handle, byref(raw)))
        return info_from_struct(raw, self.accelerated)

    def invalidations(self) -> int:
        """Returns how often tags were invalidated, by all processes.

        Returns:
            The number of calls from the creation of the segment on.

        Source: memstream_invalidations.
        """
        count = c_uint64()
        self._check(self._library.c.memstream_invalidations(self._handle, byref(count)))
        return count.value

    def processes(self) -> List[Process]:
        """Returns the processes that are attached. Cleans up after those that have died.

        Returns:
            The live ones, this process among them.

        Source: memstream_processes.
        """
        count = c_size_t(_PROCESS_BATCH)
        while True:
            capacity = count.value
            processes = (abi.Process * capacity)()
            self._check(self._library.c.memstream_processes(self._handle, processes, capacity, byref(count)))
            if count.value <= capacity:
                return [process_from_struct(raw) for raw in processes[: count.value]]

    def check(self) -> None:
        """Verifies every invariant of the segment. Changes nothing; writers wait shard by shard.

        Raises:
            CorruptError: the text describes the first problems.

        Source: memstream_check.
        """
        problems = c_uint64()
        self._check(self._library.c.memstream_check(self._handle, byref(problems)))

    def repair(self) -> Repair:
        """Rebuilds every shard from its authoritative state, and drops what is damaged.

        In a segment with checksums (`Cache(checksum=True)`) it verifies all values. Other processes wait while their
        shard is rebuilt.

        Returns:
            What was found and dropped.

        Raises:
            ReadOnlyError: this attach may only read.
            UnavailableError: a shard was busy; those before it are done.

        Source: memstream_repair.
        """
        raw = abi.RepairReport(struct_size=sizeof(abi.RepairReport))
        self._check(self._library.c.memstream_repair(self._handle, byref(raw)))
        return repair_from_struct(raw)

    # ---- as a mapping ----

    def __getitem__(self, key: Key) -> Any:
        """Returns the value; raises CacheMiss, which is a KeyError, if the key is not there."""
        value = self.get(key, ABSENT)
        if value is ABSENT:
            raise miss(key)
        return value

    def __setitem__(self, key: Key, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise miss(key)

    def __contains__(self, key: object) -> bool:
        """Returns whether the key is there; counts no access. An object that cannot be a key is not there."""
        return isinstance(key, (str, bytes)) and self.exists(key)

    def __len__(self) -> int:
        """Returns the number of entries; an expired one counts until an operation notices it."""
        return self.stats().entries

    def __bool__(self) -> bool:
        """A cache is true, also an empty one: `cache or other` must not depend on what was evicted."""
        return True

    def __iter__(self) -> Iterator[bytes]:
        """Walks over the keys, as bytes, like `scan`."""
        return (entry.key for entry in self.scan())

    def values(self) -> CacheValues:
        """Returns the values; each is a get. Entries that go while it is walked over are left out.

        Returns:
            A view as of a dict.
        """
        return CacheValues(self)

    def items(self) -> CacheItems:
        """Returns (key, value) pairs; each is a get. Entries that go while it is walked over are left out.

        Returns:
            A view as of a dict.
        """
        return CacheItems(self)

    def pop(self, key: Key, default: Any = ABSENT) -> Any:
        """Removes the key and returns its value.

        Two steps: a value that another caller stores between them is removed unseen. If several callers pop one key at
        the same time, exactly one of them gets it.

        Args:
            key: as for `get`.
            default: returned for a miss, and for a value that cannot be decoded, which is removed as well. Without it
                a miss raises CacheMiss, and a value that cannot be decoded raises its error and stays.

        Returns:
            The value, or `default`.

        Raises:
            CacheMiss: the key is not there, and there is no `default`.
            Those of `get` and `delete`.

        Source: memstream_get, memstream_delete.
        """
        if default is ABSENT:
            value = self.get(key, ABSENT)
            if value is ABSENT or not self.delete(key):
                raise miss(key)
            return value
        value = self._get_decodable(key)
        return value if self.delete(key) and value is not ABSENT else default

    def popitem(self) -> Tuple[bytes, Any]:
        """Removes a key, any of them.

        Returns:
            The key and its value.

        Raises:
            CacheMiss: there is none that can be decoded.

        Source: memstream_scan, memstream_get, memstream_delete.
        """
        for key, value in self.items():
            if self.delete(key):
                return bytes(key), value
        raise CacheMiss(Status.MISS, "The cache has no value that can be decoded. Store one first.")

    def _get_decodable(self, key: Key) -> Any:
        """Returns a value as `get` does, and ABSENT, with a warning, for one that cannot be decoded."""
        try:
            return self.get(key, ABSENT)
        except Exception as error:
            if isinstance(error, MemStreamError) and not isinstance(error, SerializerError):
                raise
        # Warns, or raises an error that does not concern the value. For one key it takes longer than a get.
        return self.get_many([key]).get(key, ABSENT)

    def setdefault(self, key: Key, default: Any = b"") -> Any:
        """Returns the value of the key; stores `default` first if it is absent, unless another caller is faster.

        Args:
            key: as for `get`.
            default: as the value of `set`.

        Returns:
            The value that is there now.

        Raises:
            Those of `get` and `add`.

        Source: memstream_get, memstream_add.
        """
        while True:
            value = self.get(key, ABSENT)
            if value is not ABSENT:
                return value
            if self.add(key, default):
                return self._codec.as_stored(default)

    def __repr__(self) -> str:
        if self.closed:
            return "<memstream.Cache closed>"
        info = self.info()
        calls = "accelerated" if info.accelerated else "not accelerated"
        return f"<memstream.Cache {info.backend}:{info.name}, {calls}>"


def _reopen(cls: Type[Cache], name: str, options: Dict[str, Any]) -> Cache:
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
        SegmentError: it is another user's, or the name belongs to something that is not a segment.
        ConfigurationError, LibraryError: as for `Cache`.

    Source: memstream_destroy_named.
    """
    options = Options(name=name, backend=backend, any_owner=any_owner, library=library)
    loaded = options.load_library()
    loaded.check(loaded.c.memstream_destroy_named(byref(options.to_struct(loaded))))
