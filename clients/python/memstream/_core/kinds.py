"""What the flag word of a value says about its bytes.

The library keeps 32 bits with every value and gives them no meaning. This package reserves the words from 0xE0000000 to
0xEFFFFFFF: their upper byte says how the value was made, and their lower 24 bits are the caller's own. Every other word
stands for plain bytes and is the caller's own as a whole, so values of C programs are plain bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Optional

from memstream._core.abi import Status
from memstream._core.arguments import check_range, invalid
from memstream._core.errors import InvalidArgument, SerializerError

FIRST_RESERVED = 0xE000_0000
LAST_RESERVED = 0xEFFF_FFFF

# The bits of a reserved word that stay the caller's own.
OWN_BITS = 0x00FF_FFFF

_SHIFT = 24


def is_reserved(flags: int) -> bool:
    """Returns whether a flag word says how the value was made: it is no plain bytes then."""
    return FIRST_RESERVED <= flags <= LAST_RESERVED


class Kind(IntEnum):
    """How a value was made: the upper byte of a reserved flag word. BYTES stands for every other word.

    Numbers are never used again for something else: values outlive the processes that stored them.
    """

    BYTES = 0
    INTEGER = 0xE1
    """Decimal text, as `incr` wants it."""
    PICKLE = 0xE2
    PICKLE_PARTS = 0xE3
    """A pickle, and the large buffers of its objects after it."""
    JSON = 0xE4
    CUSTOM = 0xE5
    """The serializer's name, then what its `dumps` made."""
    ARRAY = 0xE6
    """The .npy format of numpy."""
    RESULT = 0xE7
    """Until when it is fresh, then a value of any other kind: what `memoize` with `stale` or `refresh_ahead` stores."""


_REMEDIES = {
    Kind.BYTES: "is plain bytes. Read it with get(), or store arrays with put_array()",
    Kind.INTEGER: "is a number from a cache with a serializer. Open the cache with the same serializer",
    Kind.PICKLE: 'was stored with serializer="pickle". Open the cache with it',
    Kind.PICKLE_PARTS: 'was stored with serializer="pickle". Open the cache with it',
    Kind.JSON: 'was stored with serializer="json". Open the cache with it',
    Kind.CUSTOM: "was stored with a serializer of its own. Open the cache with it",
    Kind.ARRAY: "is an array. Read it with array()",
    Kind.RESULT: "is a result of a memoized function. Call the function",
}


def kind_of(flags: int) -> Optional[Kind]:
    """Returns what a flag word says; None for a reserved word that this version does not know."""
    if not is_reserved(flags):
        return Kind.BYTES
    try:
        return Kind(flags >> _SHIFT)
    except ValueError:
        return None


def flag_word(kind: Kind, own: int) -> int:
    """Puts kind and the caller's own bits together.

    Raises:
        InvalidArgument: the caller's bits take more room than there is beside this kind.
    """
    if kind is Kind.BYTES:
        return check_flags(own)
    return kind << _SHIFT | check_range("flags", own, 0, OWN_BITS, "Beside a serialized value use 24 bits")


def check_flags(flags: int) -> int:
    """Returns the flag word of plain bytes: all 32 bits are the caller's own.

    Raises:
        InvalidArgument: there are more bits, or they say "serialized".
    """
    word = check_range("flags", flags, 0, 2**32 - 1)
    if is_reserved(word):
        expected = "none of 0xe0000000 to 0xefffffff, which say how a value was serialized"
        raise InvalidArgument(Status.INVALID, invalid("flags", f"{word:#x}", expected))
    return word


def refusal(key: object, flags: int) -> SerializerError:
    """Makes the exception for a value that the reader has no means to decode; says what would."""
    kind = kind_of(flags)
    if kind is None:
        reason = f"has the unknown kind {flags >> _SHIFT:#x}. Install the newer version of memstream that stored it"
    else:
        reason = _REMEDIES[kind]
    return SerializerError(f"{reason}, or read its bytes with view().", key)
