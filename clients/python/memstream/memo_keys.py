"""Keys for calls of functions: equal arguments give equal keys, in every process and every run.

A key is the function's name, a digest of what the function is and carries, and a digest of the arguments.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from memstream._core.abi import MAX_KEY_SIZE
from memstream._core.arguments import check_iterable, invalid
from memstream.memo_callables import closure_of, function_name, held_by, unfold
from memstream.memo_writer import DIGEST_SIZE, Writer, digest

_PREFIX = b"memoize:"
_MAX_NAME_SIZE = MAX_KEY_SIZE - len(_PREFIX) - 2 * (1 + DIGEST_SIZE)

_EMPTY = inspect.Parameter.empty


class KeyMaker:
    """Makes the keys of one function's calls."""

    def __init__(
        self,
        function: Callable[..., Any],
        ignore: Union[str, Iterable[str]] = (),
        key: Optional[Callable[..., Any]] = None,
        typed: bool = False,
        name: Optional[str] = None,
        version: Any = None,
    ) -> None:
        """Looks at the function: its parameters, its code, what it carries.

        Args:
            function: what is called.
            ignore: names of parameters, and of variables of the function's closure, that do not count.
            key: what to call with the arguments instead of looking at them; its result is what counts.
            typed: whether 1, 1.0 and True are different arguments.
            name: counts instead of the function's name, file and code.
            version: counts too.

        Raises:
            ValueError: `ignore` names what is no parameter, and no variable of the closure.
            TypeError: the function carries something that cannot be written out.
        """
        bound = unfold(function)
        self.function = bound.function
        self._bound_arguments, self._bound_options = bound.arguments, bound.options
        self._key = key
        self._typed = typed
        self._name = name
        self._version = version
        self._signature = _signature_of(bound.function)
        parameters: Mapping[str, inspect.Parameter] = {}
        if self._signature is not None:
            parameters = self._signature.parameters
        names = [ignore] if isinstance(ignore, str) else check_iterable("ignore", ignore, "names of parameters")
        self._ignore: FrozenSet[str] = frozenset(names)
        variables = [variable for variable, _ in closure_of(bound.function)]
        unknown = sorted(self._ignore.difference(parameters, variables))
        if unknown:
            why = f"{function_name(bound.function)} has no parameter {unknown[0]!r}, and its closure no such variable"
            raise ValueError(invalid("ignore", ignore, "names of parameters", why))
        # Parameters that can be told apart without Signature.bind, which takes five times as long; None: not these.
        kinds = [parameter.kind for parameter in parameters.values()]
        is_plain = set(kinds) <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        self._names = tuple(parameters) if self._signature and is_plain else None
        self._positional_count = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._counted = [
            (name, parameter.default) for name, parameter in parameters.items() if name not in self._ignore
        ]
        # The cells of the closure with what they held when the prefix was made, and the prefix.
        self._held: List[Tuple[Any, Any]] = []
        self._prefix = b""
        self._make_prefix()

    @property
    def prefix(self) -> bytes:
        """What all keys of the function begin with, and those of no other. Follows the variables of its closure."""
        for cell, known in self._held:  # Which object it holds; what has become of the object does not count.
            if held_by(cell) is not known:
                self._make_prefix()
                break
        return self._prefix

    def _make_prefix(self) -> None:
        held = [(cell, held_by(cell)) for name, cell in closure_of(self.function) if name not in self._ignore]
        name = (self._name or function_name(self.function)).encode("utf-8", "surrogatepass")
        if len(name) > _MAX_NAME_SIZE:
            name = name[: _MAX_NAME_SIZE - DIGEST_SIZE] + digest([name])
        writer = Writer(typed=True)
        self.write_function(writer, 0)
        self._prefix = _PREFIX + name + b":" + digest(writer.pieces) + b":"
        self._held = held  # Behind the prefix: another thread that finds this unchanged takes the prefix as it is.

    def write_function(self, writer: "Writer", depth: int) -> None:
        """Writes out the function without the arguments that are bound to it."""
        writer.write((self._name, self._version), depth)
        try:
            writer.write_function(self.function, depth, self._ignore, self._name is None)
        except TypeError as error:
            raise TypeError(f"cannot memoize {function_name(self.function)}: {error}") from None

    def key_of(self, arguments: Tuple[Any, ...], options: Dict[str, Any]) -> bytes:
        """Returns the key of a call.

        Args:
            arguments, options: positional and keyword arguments, as they were passed.

        Raises:
            TypeError: the arguments are not those of the function, or one of them cannot be written out.
        """
        if self._key is not None:
            counted: Any = self._key(*arguments, **options)
            if self._bound_arguments or self._bound_options:
                counted = (counted, self._bound_values())
        elif self._bound_arguments or self._bound_options:
            counted = self._counted_values(self._bound_arguments + arguments, {**self._bound_options, **options})
        else:
            counted = self._counted_values(arguments, options)
        writer = Writer(self._typed)
        writer.write(counted, 0)
        return self.prefix + digest(writer.pieces)

    def _bound_values(self) -> Dict[Any, Any]:
        """Returns the arguments that are bound to the function and count, by name or, without a name, by position."""
        names = self._names or ()
        values: Dict[Any, Any] = dict(enumerate(self._bound_arguments))
        values = {names[place] if place < len(names) else place: value for place, value in values.items()}
        values.update(self._bound_options)
        return {name: value for name, value in values.items() if name not in self._ignore}

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


def _signature_of(function: Callable[..., Any]) -> Optional[inspect.Signature]:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):  # Some built-in functions do not tell.
        return None
