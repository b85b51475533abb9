#!/usr/bin/env python3
"""Runs memstream.programs.reader from a source tree, without installing anything."""

import sys

from memstream.programs.reader import main

if __name__ == "__main__":
    sys.exit(main())
