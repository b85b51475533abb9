"""Values as bytes, for keys: equal ones give equal bytes, in every process and every run.

`hash` would not do, since that of a str differs from run to run, and pickles would not, since equal objects may have
different ones. Values are written out instead, in an order of their own, and digested.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Callable, FrozenSet, List

from memstream.memo_callables import (
    MEMOIZED,
    closure_of,
    code_parts,
    file_of,
    function_name,
    has_python_call,
    held_by,
    parts_of_class,
    receiver_of,
    unfold,
)

DIGEST_SIZE = 40
_MAX_DEPTH = 200

_PLAIN = {str: b"s", bytes: b"b", bytearray: b"B", type(None): b"N"}


def digest(pieces: List[bytes]) -> bytes:
    """Returns a digest of what a Writer has written, in hexadecimal digits."""
    return hashlib.blake2b(b"".join(pieces), digest_size=DIGEST_SIZE // 2).hexdigest().encode()


@functools.lru_cache(maxsize=1024)
def _code_digest(code: CodeType) -> bytes:
    writer = Writer(typed=True)
    writer.write(code_parts(code), 0)
    return digest(writer.pieces)


class Writer:
    """Writes values out in such a way that different ones give different bytes."""

    def __init__(self, typed: bool) -> None:
        self.pieces: List[bytes] = []
        self._typed = typed
        # The functions and classes that are being written, outermost first: each may refer to those around it.
        self._open: List[Any] = []

    def write(self, value: Any, depth: int) -> None:
        """Appends a value to the pieces."""
        if depth > _MAX_DEPTH:
            raise TypeError("an argument contains itself, or is nested too deeply, for a key: give key= or ignore=")
        kind = type(value)
        if kind in _PLAIN:
            data = value.encode("utf-8", "surrogatepass") if kind is str else bytes(value or b"")
            self._sized(_PLAIN[kind], data)
        elif kind in (int, float, complex, bool):
            self._number(value)
        elif kind in (tuple, list):
            self._items(b"t" if kind is tuple else b"l", value, depth)
        elif kind is dict:
            pairs = [self._piece((key, item), depth) for key, item in value.items()]
            self._sized(b"d%d" % len(pairs), b"".join(sorted(pairs)))
        elif kind in (set, frozenset):
            members = [self._piece(item, depth) for item in value]
            self._sized(b"f%d" % len(members), b"".join(sorted(members)))
        elif kind is FunctionType:
            self.write_function(value, depth)
        elif kind in (functools.partial, MethodType):
            self._items(b"p", unfold(value), depth)
        elif kind is CodeType:
            self._sized(b"C", _code_digest(value))
        elif isinstance(value, ModuleType):
            self._sized(b"m", value.__name__.encode())
        elif isinstance(value, BuiltinFunctionType):
            self._items(b"u", (function_name(value), receiver_of(value)), depth)
        elif isinstance(value, type):
            self._class(value, depth)
        else:
            self._object(value, depth)

    def write_function(
        self, function: Callable[..., Any], depth: int, ignore: FrozenSet[str] = frozenset(), by_code: bool = True
    ) -> None:
        """Appends a function and what it carries.

        Args:
            ignore: variables of its closure that do not count.
            by_code: whether its name, file and code count.
        """
        if self._is_open(function):
            return
        if not isinstance(function, FunctionType):
            if by_code:
                self.write(function, depth + 1)
            return
        keys = vars(function).get(MEMOIZED)
        if keys is not None:
            self._sized(b"M", b"")
            keys.write_function(self, depth + 1)
            return
        self._open.append(function)
        try:
            if by_code:
                name, file = function_name(function), file_of(function)
                self._items(b"F", (name, file, function.__code__), depth)
            if len(self._open) > 1 or depth > 0:  # Those of the memoized function itself are arguments of each call.
                self.write((function.__defaults__, function.__kwdefaults__), depth + 1)
            for variable, cell in closure_of(function):
                if variable not in ignore:
                    self._carried(variable, held_by(cell), depth)
        finally:
            self._open.pop()

    def _carried(self, variable: str, held: Any, depth: int) -> None:
        self._sized(b"v", variable.encode())
        try:
            self.write(held, depth + 1)
        except TypeError as error:
            function = self._open[-1]
            raise TypeError(
                f"the variable {variable!r} in the closure of {function.__qualname__} is of type "
                f"{type(held).__qualname__}, which has no key ({error}): "
                f"name it in ignore= if results do not depend on it, or pass it as an argument"
            ) from None

    def _is_open(self, value: Any) -> bool:
        """Appends a reference to a function or class that is being written; returns whether it is one."""
        for place, outer in enumerate(self._open):
            if outer is value:
                self._sized(b"r", b"%d" % place)
                return True
        return False

    def _piece(self, value: Any, depth: int) -> bytes:
        outer, self.pieces = self.pieces, []
        try:
            self.write(value, depth + 1)
            return b"".join(self.pieces)
        finally:
            self.pieces = outer

    def _sized(self, mark: bytes, data: bytes) -> None:
        self.pieces.append(b"%b:%d:" % (mark, len(data)))
        self.pieces.append(data)

    def _number(self, value: Any) -> None:
        if self._typed:
            text = f"{type(value).__name__} {value!r}"
        else:
            if isinstance(value, complex) and value.imag == 0:
                value = value.real
            if isinstance(value, bool) or isinstance(value, float) and value.is_integer():
                value = int(value)
            text = repr(value)
        self._sized(b"n", text.encode())

    def _items(self, mark: bytes, items: Any, depth: int) -> None:
        self.pieces.append(b"%b%d:" % (mark, len(items)))
        for item in items:
            self.write(item, depth + 1)

    def _class(self, value: type, depth: int) -> None:
        """Classes count by name and file; those inside of functions, which cannot be found by name, by their parts."""
        if self._is_open(value):
            return
        self._items(b"c", (function_name(value), file_of(value)), depth)
        if "<" in value.__qualname__:
            self._open.append(value)
            try:
                self.write(parts_of_class(value), depth + 1)
            finally:
                self._open.pop()

    def _object(self, value: Any, depth: int) -> None:
        """Any other object counts by what pickle would take of it, its class and its state, and by what it calls."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception as error:
            raise TypeError(
                f"cannot make a key of an argument of type {type(value).__qualname__} ({error}): give key= or ignore="
            ) from None
        if has_python_call(value):
            self.write_function(type(value).__call__, depth + 1)
        wrapped = getattr(value, "__dict__", {}).get("__wrapped__")
        if wrapped is not None:  # By functools.lru_cache, for instance.
            self.write_function(wrapped, depth + 1)
        if isinstance(reduced, str):
            self._sized(b"g", f"{function_name(type(value))} {reduced}".encode())
            return
        parts = [list(part) if hasattr(part, "__next__") else part for part in reduced[:5]]
        if not isinstance(parts[0], type):
            parts[0] = function_name(parts[0])  # What makes such objects again, such as copyreg.__newobj__.
        if len(parts) > 4 and parts[4] is not None and not isinstance(value, OrderedDict):  # Mappings have no order.
            parts[4] = {self._piece(key, depth): item for key, item in parts[4]}
        self._items(b"o", parts, depth)
