"""The exceptions of the package, under the name that users import them from."""

from memstream._core import errors as _errors
from memstream._core.errors import *  # noqa: F401,F403

__doc__ = _errors.__doc__
