#!/usr/bin/env python3
"""Runs memstream.programs.analytics from a source tree, without installing anything."""

import sys

from memstream.programs.analytics import main

if __name__ == "__main__":
    sys.exit(main())
