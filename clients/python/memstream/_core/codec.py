"""From objects to bytes and back: what `Cache(serializer=...)` means.

A codec turns an object into its kind and the pieces of its bytes, and back. Which kind a value has travels in its flag
word, so that a reader knows what it has before it decodes anything: nothing is ever unpickled by a cache that was not
opened with serializer="pickle".
"""

from __future__ import annotations

import json
import pickle
import struct
from types import ModuleType
from typing import Any, List, NamedTuple, Optional, Protocol, Tuple, Union, runtime_checkable

from memstream._core.arguments import Buffer, invalid
from memstream._core.errors import SerializerError
from memstream._core.kinds import Kind, flag_word, is_reserved, kind_of, refusal
from memstream._core.naming import present_as


@runtime_checkable
class Serializer(Protocol):
    """What a caller may bring along: an object or a module with these two functions.

    If it has a str `name`, that is kept with each value and compared by the reader; otherwise the name of the module or
    class is. Numbers and bytes pass through it like everything else.
    """

    def dumps(self, value: Any) -> Any:
        """Turns an object into bytes.

        Args:
            value: any object that the caller stores.

        Returns:
            bytes, any other buffer, or str.
        """

    def loads(self, data: bytes) -> Any:
        """Turns bytes back into an object.

        Args:
            data: what `dumps` has made.

        Returns:
            The object.
        """


present_as("memstream.serializers", Serializer)

SerializerChoice = Union[str, Serializer]


_REMEDY = "Delete it, or store it again."


class Encoded(NamedTuple):
    """A value ready to be stored: its pieces stand one after the other."""

    kind: Kind
    pieces: List[Any]
    size: int
    """Bytes of all pieces."""


class Codec:
    """What the built-in serializers share: bytes and whole numbers need no serializer.

    bytes are stored as they are, so that every reader sees them; an int of 64 bits as decimal text, so that `incr`
    works on it.
    """

    kinds: Tuple[Kind, ...] = ()

    keeps_bytes = True
    """Whether bytes are stored as they are."""
    stores_objects = True
    """Whether values may be other things than bytes."""

    def encode(self, value: Any) -> Encoded:
        """Turns an object into bytes. Exceptions of the serializer pass through."""
        kind = type(value)
        if kind is bytes:
            return Encoded(Kind.BYTES, [value], len(value))
        if kind is int and -(2**63) <= value < 2**63:
            return _encoded(Kind.INTEGER, b"%d" % value)
        return self.encode_object(value)

    def pack(self, value: Any, flags: int) -> Tuple[Buffer, int]:
        """Turns an object into one buffer, and the caller's flags into the flag word to be stored with it."""
        kind, pieces, _ = self.encode(value)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), flag_word(kind, flags)

    def unpack(self, key: object, memory: Buffer, flags: int) -> Any:
        """Turns the bytes of a value, with its flag word, into what the caller gets; `key` is for the message.

        Raises:
            SerializerError: the value is of a kind that the codec does not know, or it is damaged.
            Those of the serializer.
        """
        return decode(key, self, memoryview(memory), flags)

    def as_stored(self, value: Any) -> Any:
        """Returns what a reader will get for this value."""
        return value

    def encode_object(self, value: Any) -> Encoded:
        """Turns an object that is neither bytes nor a small int into bytes."""
        raise NotImplementedError

    def decode(self, kind: Kind, memory: memoryview) -> Any:
        """Turns bytes into an object.

        Args:
            kind: one of `kinds`.
            memory: the bytes; valid during the call only.
        """
        raise NotImplementedError


class BytesCodec(Codec):
    """No serializer: values are buffers, and come back as bytes."""

    stores_objects = False

    def encode(self, value: Any) -> Encoded:
        """Passes any buffer on as it is."""
        return Encoded(Kind.BYTES, [value], 0)

    def unpack(self, key: object, memory: Buffer, flags: int) -> Any:
        """Returns plain bytes; refuses what was serialized, and says what reads it."""
        if is_reserved(flags):
            raise refusal(key, flags)
        return bytes(memory)

    def as_stored(self, value: Any) -> Any:
        """Returns the bytes of a buffer."""
        return bytes(value)


class PickleCodec(Codec):
    """Protocol 5. Large buffers (numpy arrays, PickleBuffer) are copied once, straight into the segment.

    With buffers the value is, in little-endian 64-bit words: number of buffers, size of the pickle; for each buffer its
    size and whether it is read-only; then the pickle; then the buffers, each at a multiple of 64 bytes.
    """

    kinds = (Kind.PICKLE, Kind.PICKLE_PARTS)

    _WORDS = struct.Struct("<QQ")
    _ALIGNMENT = 64
    _LEAST_BUFFER = 4096
    """Bytes; smaller buffers are not worth a piece of their own."""

    def encode_object(self, value: Any) -> Encoded:
        """Pickles an object."""
        buffers: List[memoryview] = []

        def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
            try:
                raw = buffer.raw()
            except BufferError:  # Not contiguous.
                return True
            if raw.nbytes < self._LEAST_BUFFER:
                return True
            buffers.append(raw)
            return False

        stream = pickle.dumps(value, protocol=5, buffer_callback=keep_in_band)
        if not buffers:
            return _encoded(Kind.PICKLE, stream)
        words = [(len(buffers), len(stream)), *((raw.nbytes, int(raw.readonly)) for raw in buffers)]
        head = b"".join(self._WORDS.pack(*pair) for pair in words) + stream
        pieces: List[Any] = [head]
        size = len(head)
        for raw in buffers:
            gap = -size % self._ALIGNMENT
            pieces += [bytes(gap), raw]
            size += gap + raw.nbytes
        return Encoded(Kind.PICKLE_PARTS, pieces, size)

    def decode(self, kind: Kind, memory: memoryview) -> Any:
        """Unpickles. Buffers that could be written to before can be again: they are copies."""
        if kind is Kind.PICKLE:
            return pickle.loads(memory)
        try:
            count, stream_size = self._WORDS.unpack_from(memory)
            words = [self._WORDS.unpack_from(memory, number * self._WORDS.size) for number in range(1, count + 1)]
        except struct.error as error:
            raise SerializerError(f"is a damaged pickle with buffers: {error}. {_REMEDY}") from None
        position = self._WORDS.size * (count + 1) + stream_size
        stream = memory[position - stream_size : position]
        buffers: List[Union[bytes, bytearray]] = []
        for size, readonly in words:
            position += -position % self._ALIGNMENT
            part = memory[position : position + size]
            if part.nbytes != size:
                raise SerializerError(f"is a damaged pickle with buffers: one goes beyond the end of it. {_REMEDY}")
            buffers.append(bytes(part) if readonly else bytearray(part))
            position += size
        return pickle.loads(stream, buffers=buffers)


class JsonCodec(Codec):
    """JSON in ASCII, so that a program in any language can read it. NaN and the infinities are no JSON: refused."""

    kinds = (Kind.JSON,)

    def encode_object(self, value: Any) -> Encoded:
        """Writes JSON without blanks."""
        return _encoded(Kind.JSON, json.dumps(value, separators=(",", ":"), allow_nan=False).encode())

    def decode(self, kind: Kind, memory: memoryview) -> Any:
        """Parses JSON."""
        return json.loads(bytes(memory))


# Of a serializer of the caller's own: its length stands in one byte.
_LONGEST_NAME = 255


class CustomCodec(Codec):
    """The caller's own serializer. Its name stands before the data, after a byte with the name's length."""

    kinds = (Kind.CUSTOM,)
    keeps_bytes = False

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        name = getattr(serializer, "name", None)
        self._name = (name if isinstance(name, str) else _name_of(serializer)).encode("utf-8", "surrogatepass")
        if len(self._name) > _LONGEST_NAME:
            # Cut to the same length, two serializers would take each other's values for their own.
            remedy = "Give it a shorter attribute name"
            raise ValueError(invalid("serializer", serializer, f"a name of at most {_LONGEST_NAME} bytes", remedy))
        self._head = bytes([len(self._name)]) + self._name

    def encode(self, value: Any) -> Encoded:
        """Hands everything to `dumps`, also bytes and numbers: it may compress or encrypt."""
        dumped = self._serializer.dumps(value)
        try:
            data = memoryview(dumped.encode() if isinstance(dumped, str) else dumped).cast("B")
        except TypeError:
            expected = "bytes, another contiguous buffer, or str"
            raise TypeError(invalid("result of dumps()", dumped, expected, "Return bytes")) from None
        return Encoded(Kind.CUSTOM, [self._head, data], len(self._head) + data.nbytes)

    def decode(self, kind: Kind, memory: memoryview) -> Any:
        """Hands the data to `loads`, if the name before it is right."""
        data = bytes(memory)
        if not data.startswith(self._head):
            theirs = data[1 : 1 + data[0]] if data else b""
            raise SerializerError(
                f"was stored with the serializer {theirs.decode(errors='replace')!r}, and this cache was opened with "
                f"{self._name.decode(errors='replace')!r}. Open the cache with the first."
            )
        return self._serializer.loads(data[len(self._head) :])


def decode(key: object, codec: Codec, memory: memoryview, flags: int) -> Any:
    """Turns the bytes of a value into an object.

    Args:
        key: for the message.
        codec: of the cache that reads.
        memory: the bytes; valid during the call only.
        flags: the flag word of the value.

    Raises:
        SerializerError: the value is of a kind that the codec does not know, or it is damaged.
        Those of the serializer.
    """
    kind = kind_of(flags)
    if kind is Kind.BYTES:
        return bytes(memory)
    if kind is Kind.INTEGER:
        return int(bytes(memory))
    try:
        if kind is Kind.RESULT:
            return decode(key, codec, *split_result(memory)[1:])
        if kind is None or kind not in codec.kinds:
            raise refusal(key, flags)
        return codec.decode(kind, memory)
    except SerializerError as error:
        error.key = key
        raise


# The head of a result that may be served stale: until when it is fresh (CLOCK_MONOTONIC, seconds), and its kind.
_RESULT = struct.Struct("<dQ")


def result_head(fresh_until: float, kind: Kind) -> bytes:
    """Returns what stands before a result that has a time of its own."""
    return _RESULT.pack(fresh_until, kind)


def split_result(memory: memoryview) -> Tuple[float, memoryview, int]:
    """Returns until when a result is fresh, its own bytes and their flag word."""
    try:
        fresh_until, kind = _RESULT.unpack_from(memory)
        return fresh_until, memory[_RESULT.size :], flag_word(Kind(kind), 0)
    except (struct.error, ValueError) as error:
        raise SerializerError(f"is a damaged result of a function: {error}. {_REMEDY}") from None


def make_codec(serializer: Optional[SerializerChoice]) -> Codec:
    """Returns the codec of a choice.

    Args:
        serializer: "pickle", "json", or an object with `dumps` and `loads`; None: values are bytes.

    Raises:
        TypeError: it is none of these.
        ValueError: the name of the object is too long.
    """
    if serializer is None:
        return BytesCodec()
    if serializer == "pickle":
        return PickleCodec()
    if serializer == "json":
        return JsonCodec()
    if isinstance(serializer, Serializer):
        return CustomCodec(serializer)
    raise TypeError(invalid("serializer", serializer, '"pickle", "json", or an object with dumps and loads'))


def _name_of(serializer: object) -> str:
    """Returns the name of a module, or of the class of an object."""
    if isinstance(serializer, ModuleType):
        return serializer.__name__
    owner = serializer if isinstance(serializer, type) else type(serializer)
    return f"{owner.__module__}.{owner.__qualname__}"


def _encoded(kind: Kind, data: bytes) -> Encoded:
    return Encoded(kind, [data], len(data))
