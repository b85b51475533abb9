#!/usr/bin/env bash
# The near cache of Redis at work: its rates beside redis-py, and a cluster that loses agents, masters and slots while an
# oracle judges what readers get.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: demo_near.sh [--quick] [--json FILE]

Builds what is needed. Starts a Redis, then three masters with replicas on 127.0.0.1, and two nodes (two segments) with eight
processes each. Compares rates with redis-py, kills agents, fails a master over and moves slots under load.
  --quick        half a minute, with four processes on each node
  --json FILE    write the figures and the verdict there
Exit code: 0 if the oracle's verdict is clean, 1 if it is not, 77 without redis-server. Servers, segments and temporary
files are removed in any case.
TEXT
}

arguments=()
while (($# > 0)); do
    case $1 in
        --quick) arguments+=(--quick) ;;
        --json)
            (($# > 1)) || { usage >&2; exit 2; }
            arguments+=(--json "$2")
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done

[[ -n ${MEMSTREAM_LIBRARY:-} ]] || scripts/build.sh >/dev/null
export MEMSTREAM_LIBRARY=${MEMSTREAM_LIBRARY:-$root/build/libcache.so} PYTHONPATH=$root/clients/python PYTHONDONTWRITEBYTECODE=1
near=$(dirname "$MEMSTREAM_LIBRARY")/libmemstream_near.so
[[ -e $near ]] || die "there is no $near: install hiredis (Debian: libhiredis-dev), then run scripts/build.sh"
exec "$python" tests/near/oracle/demo.py "${arguments[@]}"
