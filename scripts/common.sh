# Sourced by the other scripts: where the repository is, which Python runs, and how they speak.
# shellcheck shell=bash

# shellcheck disable=SC2034  # Used by the scripts that source this file.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The system's Python, whose version and modules we know, and not whatever comes first in PATH.
# shellcheck disable=SC2034
python=${MEMSTREAM_PYTHON:-/usr/bin/python3}
# shellcheck disable=SC2034
jobs=$(nproc)

# ccache, where it is installed, spares whoever switches between the presets; CMake reads these variables.
if command -v ccache >/dev/null; then
    export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
    # Without this it does not store what is compiled with precompiled headers.
    export CCACHE_SLOPPINESS=pch_defines,time_macros
    # One clone uses what another has compiled: it counts where a file lies in the clone, not where the clone lies.
    export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
fi

# say TEXT...: a line about what happens now.
say() {
    printf '== %s\n' "$*"
}

# die TEXT...: why the script cannot go on.
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}
