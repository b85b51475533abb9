#!/usr/bin/env python3
"""Runs memstream.cli.analytics from a source tree, without installing anything."""

import sys

from memstream.cli.analytics import main

if __name__ == "__main__":
    sys.exit(main())
