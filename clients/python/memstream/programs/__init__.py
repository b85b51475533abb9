"""Until the next release: the earlier name of `memstream.cli`."""
