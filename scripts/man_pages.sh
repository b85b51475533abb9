#!/usr/bin/env bash
# Makes the manual: FOLDER/man1, man3 and man7, compressed. "man_pages.sh FOLDER SCDOC"; CMake runs it.
set -euo pipefail
source "$(dirname "$0")/common.sh"
folder=$1 scdoc=$2

rm -rf "$folder"
"$python" "$root/scripts/man_pages.py" "$folder/sources" "$root"
# Else the pages would carry the day on which they were made.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
for source in "$folder"/sources/*.scd; do
    name=$(basename "$source" .scd)
    mkdir -p "$folder/man${name##*.}"
    "$scdoc" <"$source" | gzip -9 --no-name >"$folder/man${name##*.}/$name.gz"
done
rm -rf "$folder/sources"
