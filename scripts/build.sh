#!/usr/bin/env bash
# Builds everything that users need into build/, optimised: libcache.so, and libmemstream_python.so, which makes the calls
# of the Python package fast. Quick when nothing has changed. What CMake installs must be among the targets.
# The tests are built by scripts/test.sh, or by: cmake --build --preset release
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

cmake --preset release --log-level=WARNING >/dev/null
cmake --build --preset release --parallel "$jobs" --target cache memstream_python memstream_cli
