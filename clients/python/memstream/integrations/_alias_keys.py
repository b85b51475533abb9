"""The keys of one Django alias among all keys of a segment: which are its own, and what its users call them.

How a key is made (KEY_PREFIX, version, KEY_FUNCTION) is learned from what the alias makes of an example.
"""

from __future__ import annotations

import re
from typing import Callable, Optional, Union

from memstream._core.arguments import shown
from memstream._shared import bounded_prefix, key_text
from memstream.errors import ConfigurationError

# Unlike anything that a key function puts around them.
_KEY = "\ue000memstream\ue000"
_VERSION = 918273645
_ANY_VERSION = r"-?\d+"


class AliasKeys:
    """How an alias makes its keys."""

    def __init__(self, make_key: Callable[..., str], version: Union[int, str]) -> None:
        """Learns it.

        Args:
            make_key: that of the backend.
            version: the alias's own.

        Raises:
            ConfigurationError: the key function hides the keys, for example by a digest.
        """
        made = make_key(_KEY, version=_VERSION)
        if made.count(_KEY) != 1:
            raise ConfigurationError(
                None,
                f"Invalid KEY_FUNCTION: expected the key in what it returns, not {shown(made)}. "
                "Give the alias a cache of its own (LOCATION), and clear it without KEY_PREFIX",
            )
        self._version = str(version)
        self._example = made
        self._made = re.escape(made)

    def reader(self, search: str, version: Union[None, int, str]) -> Callable[[bytes], Optional[str]]:
        """Returns a function from a key of the segment to what users call it; to None if it is another one.

        Args:
            search: what the users' key is to match; may have *, ?, [abc], [^abc] and a backslash before what is meant
                as it is.
            version: only this one; None: all.
        """
        versions = f"{_ANY_VERSION}|{re.escape(self._version)}" if version is None else re.escape(str(version))
        expression = self._made.replace(str(_VERSION), f"(?:{versions})")
        pattern = re.compile(expression.replace(re.escape(_KEY), f"({_expression_of(search)})"), re.DOTALL)

        def read(name: bytes) -> Optional[str]:
            text = key_text(name)
            found = None if text is None else pattern.fullmatch(text)
            return None if found is None else found[1]

        return read

    def prefix(self) -> bytes:
        """Returns what all keys of the alias begin with in the segment."""
        return bounded_prefix(min(self._example.split(_KEY)[0], self._example.split(str(_VERSION))[0], key=len))


def _expression_of(search: str) -> str:
    """Turns a search with wildcards, as Redis has them, into a regular expression."""
    parts = re.findall(r"\\.|\[\^?[^]]+\]|.", search, re.DOTALL)
    return "".join(_part_of(part) for part in parts)


def _part_of(part: str) -> str:
    if part == "*":
        return ".*"
    if part == "?":
        return "."
    if len(part) > 2:
        # A set: of its signs, only - and a leading ^ have a meaning.
        return "[" + re.sub(r"([\\\[&~|])", r"\\\1", part[1:-1]) + "]"
    return re.escape(part[-1])
