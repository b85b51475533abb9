"""How a cache is to be opened: the options of `Cache`, checked and turned into the C struct."""

from __future__ import annotations

import math
import re
from ctypes import byref, sizeof
from dataclasses import dataclass
from typing import Any, Dict, Optional, Union

from memstream._core import abi
from memstream._core.abi import Status
from memstream._core.arguments import (
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
from memstream._core.errors import (
    BadBackend,
    BadChecksumChoice,
    BadGroup,
    BadHugePages,
    BadMaxValue,
    BadMode,
    BadName,
    BadPrefault,
    BadShards,
    BadSize,
    BadTimeout,
    InvalidArgument,
)
from memstream._core.library import Library, load

# What the options may be, for messages. The library has the last word.
_NAME = "a str of 1 to 64 characters of A-Z a-z 0-9 . _ -"
_BACKEND = 'a str, "posix" or "sysv"'
_SHARDS = "an int from 1 to 64"
_MODE = "permission bits that let the owner read and write as an int, such as 0o600 or 0o660"
_TIMEOUT = "seconds from 0 to 3600 as a number or a timedelta, or None"
_GROUP = "the name or the number of a group"
_OWNER = "the name or the number of a user"
_HUGE_PAGES = 'a str, "off", "try" or "require"'

# What another process needs besides backend and name to open the same segment in the same way.
_OF_THE_ATTACHMENT = ("timeout", "read_only", "any_owner", "hugepages", "prefault", "group", "owner")


@dataclass(frozen=True)
class Options:
    """The options of `Cache`, which describes them. None stands for "from the environment"."""

    name: Optional[str] = None
    backend: Optional[str] = None
    size: Union[int, str, None] = None
    shards: Optional[int] = None
    mode: Optional[int] = None
    timeout: Optional[Duration] = None
    read_only: bool = False
    create: bool = True
    any_owner: bool = False
    hugepages: Optional[str] = None
    prefault: Optional[bool] = None
    group: Union[str, int, None] = None
    max_value: Union[int, str, None] = None
    owner: Union[int, str, None] = None
    checksum: Optional[bool] = None
    library: Optional[Path] = None

    def load_library(self) -> Library:
        """Loads the libcache.so that the options name, or the one that is found.

        Returns:
            The library.

        Raises:
            LibraryError: it was not found or does not fit.
            TypeError, InvalidArgument: `library` is no path.
        """
        return load(None if self.library is None else path_text("library", self.library))

    def of_the_attachment(self) -> Dict[str, Any]:
        """Returns what another process needs besides backend and name to open the same segment in the same way."""
        return {name: getattr(self, name) for name in _OF_THE_ATTACHMENT}

    def to_struct(self, library: Library) -> abi.Options:
        """Fills `memstream_options_t`.

        The library checks what it is given. Checked here is what would not reach it: bits that the C type has no room
        for, and the values (0, -1) that mean "from the environment" there.

        Args:
            library: the library that gets the struct.

        Returns:
            The struct. It keeps the texts that it refers to.

        Raises:
            ConfigurationError: an option has a value that cannot be.
            TypeError: an option is of another type.
        """
        struct = abi.Options()
        library.c.memstream_options_init_sized(byref(struct), sizeof(abi.Options))
        self._fill_texts(struct)
        self._fill_numbers(struct)
        for chosen, flag in (
            (check_bool("read_only", self.read_only), abi.OpenFlags.READ_ONLY),
            (not check_bool("create", self.create), abi.OpenFlags.EXISTING),
            (check_bool("any_owner", self.any_owner), abi.OpenFlags.ANY_OWNER),
        ):
            if chosen:
                struct.flags |= flag
        return struct

    def _fill_texts(self, struct: abi.Options) -> None:
        if self.name is not None:
            remedy = "Give the size of a cache as size=" if isinstance(self.name, int) else ""
            struct.name = c_text("name", self.name, _NAME, BadName, Status.BAD_NAME, remedy)
        if self.backend is not None:
            struct.backend = c_text("backend", self.backend, _BACKEND, BadBackend, Status.BAD_BACKEND)
        if self.hugepages is not None:
            struct.hugepages = c_text("hugepages", self.hugepages, _HUGE_PAGES, BadHugePages, Status.BAD_HUGEPAGES)
        if self.prefault is not None:
            if not isinstance(self.prefault, bool):
                raise BadPrefault(Status.BAD_PREFAULT, invalid("prefault", self.prefault, "True, False or None"))
            struct.prefault = b"on" if self.prefault else b"off"
        if self.group is not None:
            if isinstance(self.group, bool) or not isinstance(self.group, (str, int)):
                raise TypeError(invalid("group", self.group, _GROUP))
            struct.group = c_text("group", str(self.group), _GROUP, BadGroup, Status.BAD_GROUP)
        if self.owner is not None:
            if isinstance(self.owner, bool) or not isinstance(self.owner, (str, int)):
                raise TypeError(invalid("owner", self.owner, _OWNER))
            struct.owner = c_text("owner", str(self.owner), _OWNER, InvalidArgument, Status.INVALID)
        if self.checksum is not None:
            if not isinstance(self.checksum, bool):
                message = invalid("checksum", self.checksum, "True, False or None")
                raise BadChecksumChoice(Status.BAD_CHECKSUM_CHOICE, message)
            struct.checksum = b"on" if self.checksum else b"off"

    def _fill_numbers(self, struct: abi.Options) -> None:
        if self.size is not None:
            struct.size_bytes = byte_count("size", self.size, BadSize, Status.BAD_SIZE)
        if self.shards is not None:
            if not 1 <= whole_number("shards", self.shards, _SHARDS) < 2**32:
                raise BadShards(Status.BAD_SHARDS, invalid("shards", self.shards, _SHARDS))
            struct.shards = self.shards
        if self.mode is not None:
            struct.mode = _permission_bits(self.mode)
        if self.timeout is not None:
            wait = seconds(self.timeout, "timeout", _TIMEOUT)
            if wait is None or not 0 <= wait <= 3600:
                raise BadTimeout(Status.BAD_TIMEOUT, invalid("timeout", self.timeout, _TIMEOUT))
            struct.timeout_ms = math.ceil(wait * 1000)
        if self.max_value is not None:
            struct.max_value = byte_count("max_value", self.max_value, BadMaxValue, Status.BAD_MAX_VALUE)


def _permission_bits(mode: int) -> int:
    """Returns permission bits that reach the library."""
    bits = whole_number("mode", mode, _MODE)
    if not 0o600 <= bits <= 0o777:
        remedy = f"Write it in octal: 0o{bits}" if re.fullmatch("[67][0-7][0-7]", str(bits)) else ""
        raise BadMode(Status.BAD_MODE, invalid("mode", mode, _MODE, remedy))
    return bits
