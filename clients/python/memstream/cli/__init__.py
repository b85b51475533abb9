"""The command-line programs. `writer.py`, `reader.py` and `analytics.py` beside the package are their entry points."""
