#!/usr/bin/env bash
# Compares the C interface with the recorded one, or records it.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: abi.sh [check | record]

  check   compares the public headers with tests/abi/, by abidiff: functions and structs may be added to, not changed
  record  writes tests/abi/: after a release, so that a program of it runs with each later library
Exit code: 0; 1 if a program that was built against the record could break; 2 for wrong usage.
TEXT
}

case ${1:-check} in
    check | record) ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
command -v abidiff >/dev/null || die "there is no abidiff: run scripts/setup.sh test"
headers=(api/cache.h api/memstream.h api/memstream_limits.h api/memstream_metrics.h api/memstream_options.h
    api/memstream_tags.h api/memstream_watch.h near/memstream_near.h)
record=tests/abi/interface.abi

work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
mkdir "$work/headers"
cp "${headers[@]}" "$work/headers"
"$python" tests/abi/declared.py "$work/headers" "$work/libcache.so.1"
if [[ ${1:-check} == record ]]; then
    abidw --no-show-locs --no-corpus-path --no-comp-dir-path --type-id-style hash --out-file "$record" "$work/libcache.so.1"
    for header in "${headers[@]}"; do
        cp "$header" "tests/abi/include/$(basename "$header").recorded"
    done
    say "recorded $record and tests/abi/include"
elif abidiff --no-added-syms --no-show-locs --suppressions tests/abi/growing.abignore "$record" "$work/libcache.so.1"; then
    say "the C interface is that of $record, or more"
else
    die "Invalid change of the C interface: expected additions only. Undo it, or raise MEMSTREAM_ABI_VERSION and record"
fi
