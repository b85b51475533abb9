#!/usr/bin/env bash
# Builds memstream-torture and runs it: "scripts/torture.sh step --stride 97". Without arguments, and with --help, it
# says what it can do.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

scripts/setup.sh test
cmake --preset release --log-level=WARNING
cmake --build --preset release --parallel "$jobs" --target memstream-torture
exec build/memstream-torture "${@:---help}"
