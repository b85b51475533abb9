#!/usr/bin/env bash
# Builds what users need into build/: libcache.so, optimised. Quick when nothing has changed.
# The tests are built by scripts/test.sh, or by: cmake --build --preset release
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

cmake --preset release --log-level=WARNING >/dev/null
cmake --build --preset release --parallel "$jobs" --target cache
