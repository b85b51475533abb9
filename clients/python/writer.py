#!/usr/bin/env python3
"""Runs memstream.programs.writer from a source tree, without installing anything."""

import sys

from memstream.programs.writer import main

if __name__ == "__main__":
    sys.exit(main())
