"""Keys for calls of functions: equal arguments give equal keys, in every process and every run.

`hash` would not do, since that of a str differs from run to run, and pickles would not, since equal objects may have
different ones. Arguments are written out instead, in an order of their own, and digested.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections import OrderedDict
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from memstream._abi import MAX_KEY_SIZE
from memstream._arguments import check_iterable, invalid

_PREFIX = b"memoize:"
_DIGEST_BYTES = 20
_MAX_NAME_SIZE = MAX_KEY_SIZE - len(_PREFIX) - 1 - 2 * _DIGEST_BYTES
_MAX_DEPTH = 200

_EMPTY = inspect.Parameter.empty

_PLAIN = {str: b"s", bytes: b"b", bytearray: b"B", type(None): b"N"}


class KeyMaker:
    """Makes the keys of one function's calls.

    Attributes:
        prefix: what all keys of the function begin with, and those of no other.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        ignore: Union[str, Iterable[str]] = (),
        key: Optional[Callable[..., Any]] = None,
        typed: bool = False,
    ) -> None:
        """Looks at the function's parameters.

        Args:
            function: what is called.
            ignore: names of parameters that do not count.
            key: what to call with the arguments instead of looking at them; its result is what counts.
            typed: whether 1, 1.0 and True are different arguments.

        Raises:
            ValueError: `ignore` names what is no parameter.
        """
        self._key = key
        self._typed = typed
        self._signature = _signature_of(function)
        parameters: Mapping[str, inspect.Parameter] = {}
        if self._signature is not None:
            parameters = self._signature.parameters
        names = [ignore] if isinstance(ignore, str) else check_iterable("ignore", ignore, "names of parameters")
        unknown = [name for name in names if name not in parameters]
        if unknown:
            why = f"{function_name(function)} has no parameter {unknown[0]!r}"
            raise ValueError(invalid("ignore", ignore, "names of parameters", why))
        self._ignore: FrozenSet[str] = frozenset(names)
        # Parameters that can be told apart without Signature.bind, which takes five times as long; None: not these.
        kinds = [parameter.kind for parameter in parameters.values()]
        is_plain = set(kinds) <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        self._names = tuple(parameters) if self._signature and is_plain else None
        self._positional_count = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._counted = [
            (name, parameter.default) for name, parameter in parameters.items() if name not in self._ignore
        ]
        name = function_name(function).encode("utf-8", "surrogatepass")
        if len(name) > _MAX_NAME_SIZE:
            name = name[: _MAX_NAME_SIZE - 2 * _DIGEST_BYTES] + _digest([name])
        self.prefix = _PREFIX + name + b":"

    def key_of(self, arguments: Tuple[Any, ...], options: Dict[str, Any]) -> bytes:
        """Returns the key of a call.

        Args:
            arguments, options: positional and keyword arguments, as they were passed.

        Raises:
            TypeError: the arguments are not those of the function, or one of them cannot be written out.
        """
        if self._key is not None:
            counted: Any = self._key(*arguments, **options)
        else:
            counted = self._counted_values(arguments, options)
        pieces: List[bytes] = []
        _write(counted, pieces, self._typed, 0)
        return self.prefix + _digest(pieces)

    def _counted_values(self, arguments: Tuple[Any, ...], options: Dict[str, Any]) -> Tuple[Any, ...]:
        """Returns the values that count, in the order of the parameters, however they were passed."""
        if self._signature is None:
            return (arguments, options)
        if self._names is not None and len(arguments) <= self._positional_count:
            given = dict(zip(self._names, arguments))
            given.update(options)
            values = tuple([given.pop(name, default) for name, default in self._counted])
            for name in self._ignore:
                given.pop(name, None)
            is_doubled = options and not options.keys().isdisjoint(self._names[: len(arguments)])
            if not given and not is_doubled and not any(value is _EMPTY for value in values):
                return values
        bound = self._signature.bind(*arguments, **options)  # Or it raises what the call itself would.
        bound.apply_defaults()
        return tuple(value for name, value in bound.arguments.items() if name not in self._ignore)


def function_name(function: Any) -> str:
    """Returns a name that is the same in every process: module and qualified name.

    The module that a program was started with is always called `__main__`, so its file stands for it.
    """
    module = getattr(function, "__module__", None) or ""
    if module in ("__main__", "__mp_main__"):
        main = sys.modules.get(module)
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None and spec.name not in ("__main__", "__mp_main__"):
            module = spec.name
        elif file and os.path.exists(file):
            module = os.path.realpath(file)
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _signature_of(function: Callable[..., Any]) -> Optional[inspect.Signature]:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):  # Some built-in functions do not tell.
        return None


def _digest(pieces: List[bytes]) -> bytes:
    return hashlib.blake2b(b"".join(pieces), digest_size=_DIGEST_BYTES).hexdigest().encode()


def _write(value: Any, pieces: List[bytes], typed: bool, depth: int) -> None:
    """Appends `value` to `pieces` in such a way that different values give different bytes."""
    if depth > _MAX_DEPTH:
        raise TypeError("an argument contains itself, or is nested too deeply, for a key: give key= or ignore=")
    kind = type(value)
    if kind in _PLAIN:
        data = value.encode("utf-8", "surrogatepass") if kind is str else bytes(value or b"")
        _write_sized(_PLAIN[kind], data, pieces)
    elif kind in (int, float, complex, bool):
        _write_number(value, pieces, typed)
    elif kind in (tuple, list):
        _write_items(b"t" if kind is tuple else b"l", value, pieces, typed, depth)
    elif kind is dict:
        pairs = [_piece((key, item), typed, depth) for key, item in value.items()]
        _write_sized(b"d%d" % len(pairs), b"".join(sorted(pairs)), pieces)
    elif kind in (set, frozenset):
        members = [_piece(item, typed, depth) for item in value]
        _write_sized(b"f%d" % len(members), b"".join(sorted(members)), pieces)
    elif isinstance(value, (type, FunctionType, BuiltinFunctionType, ModuleType)):
        _write_named(value, pieces)
    else:
        _write_object(value, pieces, typed, depth)


def _piece(value: Any, typed: bool, depth: int) -> bytes:
    pieces: List[bytes] = []
    _write(value, pieces, typed, depth + 1)
    return b"".join(pieces)


def _write_sized(mark: bytes, data: bytes, pieces: List[bytes]) -> None:
    pieces.append(b"%b:%d:" % (mark, len(data)))
    pieces.append(data)


def _write_number(value: Any, pieces: List[bytes], typed: bool) -> None:
    if typed:
        text = f"{type(value).__name__} {value!r}"
    else:
        if isinstance(value, complex) and value.imag == 0:
            value = value.real
        if isinstance(value, bool) or isinstance(value, float) and value.is_integer():
            value = int(value)
        text = repr(value)
    _write_sized(b"n", text.encode(), pieces)


def _write_items(mark: bytes, items: Any, pieces: List[bytes], typed: bool, depth: int) -> None:
    pieces.append(b"%b%d:" % (mark, len(items)))
    for item in items:
        _write(item, pieces, typed, depth + 1)


def _write_named(value: Any, pieces: List[bytes]) -> None:
    """Classes, functions and modules count by their names."""
    name = value.__name__ if isinstance(value, ModuleType) else function_name(value)
    if "<" in getattr(value, "__qualname__", ""):
        raise TypeError(f"{name} has no name that other processes would know it by: give key= or ignore=")
    _write_sized(b"c", name.encode(), pieces)


def _write_object(value: Any, pieces: List[bytes], typed: bool, depth: int) -> None:
    """Any other object counts by what pickle would take of it: its class and its state."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        raise TypeError(
            f"cannot make a key of an argument of type {type(value).__qualname__} ({error}): give key= or ignore="
        ) from None
    if isinstance(reduced, str):
        _write_sized(b"g", f"{function_name(type(value))} {reduced}".encode(), pieces)
        return
    parts = [list(part) if hasattr(part, "__next__") else part for part in reduced[:5]]
    if len(parts) > 4 and parts[4] is not None and not isinstance(value, OrderedDict):  # Mappings have no order.
        parts[4] = {_piece(key, typed, depth): item for key, item in parts[4]}
    _write_items(b"o", parts, pieces, typed, depth)
