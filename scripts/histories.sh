#!/usr/bin/env bash
# Builds memstream-histories and runs it: "scripts/histories.sh --histories 5000 --backend posix". --help says what it can do.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

scripts/setup.sh test
cmake --preset release --log-level=WARNING
cmake --build --preset release --parallel "$jobs" --target memstream-histories
exec build/memstream-histories "$@"
