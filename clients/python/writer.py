#!/usr/bin/env python3
"""Runs memstream.cli.writer from a source tree, without installing anything."""

import sys

from memstream.cli.writer import main

if __name__ == "__main__":
    sys.exit(main())
