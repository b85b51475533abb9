"""Until the next release: names that pickled caches of earlier versions refer to."""

from memstream.cache import _reopen, destroy

__all__ = ["_reopen", "destroy"]
