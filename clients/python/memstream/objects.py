"""A cache of objects: `Cache(serializer=...)`."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from memstream._abi import Status
from memstream._arguments import Duration, Key, check_int64, milliseconds
from memstream._kinds import Kind, flag_word
from memstream.cache import Cache
from memstream.errors import CacheMiss
from memstream.serializers import SerializerChoice, decode, make_codec


class ObjectCache(Cache):
    """A `Cache` whose values are objects.

        with Cache("sessions", serializer="pickle") as cache:
            cache["user:1"] = {"name": "Ada", "visits": 3}
            cache.set("nobody", None)
            cache.get("nobody", "absent")           # None: that is stored, and no miss

    bytes and ints of 64 bits are stored as they are, and `incr` works on ints; everything else goes through the
    serializer (one of your own gets bytes and ints too). Plain bytes of other writers come back as bytes. What another
    serializer has stored raises SerializerError.

    Unpickling runs code: use serializer="pickle" only where you trust everybody who may write the segment.
    """

    def __init__(self, name: Optional[str] = None, *, serializer: SerializerChoice = "pickle", **options: Any) -> None:
        """Opens the cache of that name.

        Args:
            name, options: as for `Cache`.
            serializer: "pickle" (protocol 5; the buffers of numpy arrays are copied only once), "json", or an object
                with `dumps` and `loads`.

        Raises:
            TypeError: the serializer is none of these.
            Those of `Cache`.

        Source: memstream_open.
        """
        self._codec = make_codec(serializer)
        super().__init__(name, **options)
        self._options["serializer"] = serializer

    def get(self, key: Key, default: Any = None) -> Any:
        """Returns the object of `key`, or `default` if it is not there.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            default: what a miss returns.

        Returns:
            A new object.

        Raises:
            SerializerError: it was stored with another serializer, or as an array.
            Those of the serializer, and of `Cache.get`.

        Source: memstream_get; memstream_view for values above 32 KiB.
        """
        return self._get(key, default)[0]

    def gets(self, key: Key, default: Any = None) -> Tuple[Any, Optional[int]]:
        """Returns the object of `key` and the token for `cas`; `(default, None)` if it is not there."""
        return self._get(key, default)

    def _get(self, key: Key, default: Any) -> Tuple[Any, Optional[int]]:
        found = self._locate(key)
        if found is None:
            return default, None
        return decode(key, self._codec, found.memory, found.flags), found.token

    def set(self, key: Key, value: Any, ttl: Optional[Duration] = None, flags: int = 0) -> None:
        """Stores an object under `key`, whatever was there.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            value: what the serializer takes; its bytes, 0 to `Stats.max_value_size` of them, are copied.
            ttl: seconds until it expires, above 0, or a timedelta; None: never.
            flags: the caller's own, kept with the value: 24 bits, or 32 beside plain bytes.

        Raises:
            Those of the serializer, and of `Cache.set`.

        Source: memstream_set; memstream_reserve and memstream_commit for pickles with large buffers.
        """
        encoded = self._codec.encode(value)
        word = flag_word(encoded.kind, flags)
        self._store_pieces(key, encoded.pieces, encoded.size, ttl, word)

    put = set

    def _unpack(self, key: Key, value: bytes, flags: int) -> Any:
        return decode(key, self._codec, memoryview(value), flags)

    def _pack(self, value: Any, flags: int) -> Tuple[bytes, int]:
        encoded = self._codec.encode(value)
        word = flag_word(encoded.kind, flags)
        return encoded.pieces[0] if len(encoded.pieces) == 1 else b"".join(encoded.pieces), word

    def incr(self, key: Key, delta: int = 1, initial: Optional[int] = None, ttl: Optional[Duration] = None) -> int:
        """Adds `delta` to an int. As `Cache.incr`; what it makes of an absent key is an int too.

        Raises:
            NotNumeric: the value is no int, or the sum leaves 64 bits.
            Those of `Cache.incr`.

        Source: memstream_incr, memstream_add.
        """
        if initial is not None:
            check_int64("initial", initial)
        milliseconds(ttl)  # Refuses what is no time to live, also for a key that is there.
        while True:
            try:
                return super().incr(key, delta)
            except CacheMiss:
                if initial is None:
                    raise
            total = check_int64("initial + delta", initial + delta)
            function, word = self._library.c.memstream_add, flag_word(Kind.INTEGER, 0)
            if self._store_packed(function, key, b"%d" % total, ttl, word, refusals=(Status.EXISTS,)) == Status.OK:
                return total

    def _as_stored(self, value: Any) -> Any:
        return value
