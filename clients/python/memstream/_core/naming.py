"""Names of public classes that are defined in this folder."""

from __future__ import annotations


def present_as(module: str, *classes: type) -> None:
    """Gives classes the name of the module that users import them from.

    Tracebacks show that name, and pickles contain it, so it outlives the place of the definition.

    Args:
        module: where users import the classes from, such as "memstream.errors".
        classes: the classes.
    """
    for each in classes:
        each.__module__ = module
