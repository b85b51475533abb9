#!/usr/bin/env python3
"""Runs memstream.cli.reader from a source tree, without installing anything."""

import sys

from memstream.cli.reader import main

if __name__ == "__main__":
    sys.exit(main())
