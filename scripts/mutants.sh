#!/usr/bin/env bash
# Seeds bugs into the library, one at a time, and sees that a suite catches each: "scripts/mutants.sh no-recovery".
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

scripts/setup.sh test
exec "$python" tests/mutants/run.py "$@"
