#!/usr/bin/env bash
# Builds everything that users need into build/, optimised: libcache.so; libmemstream_python.so, which makes the calls
# of the Python package fast; the command; and, where hiredis is installed, libmemstream_near.so. Quick when nothing has
# changed. The target is all that CMake installs.
# The tests are built by scripts/test.sh, or by: cmake --build --preset release
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

cmake --preset release --log-level=WARNING >/dev/null
cmake --build --preset release --parallel "$jobs" --target memstream_install
