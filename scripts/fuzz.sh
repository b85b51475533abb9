#!/usr/bin/env bash
# Builds memstream-fuzz with clang and lets it look for inputs that the library does not survive: "scripts/fuzz.sh
# --seconds 60 --target repair". The options are those of scripts/fuzz_targets.py; --help shows them.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

for argument; do
    case $argument in
        -h | --help | --list) exec "$python" scripts/fuzz_targets.py "$@" ;;
    esac
done
scripts/setup.sh test
cmake --preset fuzz --log-level=WARNING >/dev/null
cmake --build --preset fuzz --parallel "$jobs"
exec "$python" scripts/fuzz_targets.py "$@"
