#!/usr/bin/env bash
# Makes the Debian packages, and checks them with lintian.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: package.sh [FOLDER]

Builds libcache1, libmemstream-dev, memstream-tools, python3-memstream and libmemstream-near1 for this machine's
architecture and Debian release, into FOLDER (default: build/packages). Then lintian checks them.
DEBFULLNAME and DEBEMAIL name the maintainer in the packages.
Exit code: 0; 1 if a package cannot be made or lintian finds an error; 2 for wrong usage.
TEXT
}

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
    -*)
        usage >&2
        exit 2
        ;;
esac
folder=${1:-build/packages}
for command in dpkg-shlibdeps lintian scdoc; do
    command -v "$command" >/dev/null || die "there is no $command: run scripts/setup.sh full"
done

say "building"
cmake --preset debian --log-level=WARNING >/dev/null
cmake --build --preset debian --parallel "$jobs"

say "packing"
# The time in the packages is that of the last change of the tree, so that two builds make the same files.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat --format=%Y CHANGELOG.md)
export SOURCE_DATE_EPOCH
packing=$(mktemp --directory --tmpdir="$root/build")
trap 'rm -rf "$packing"' EXIT
(umask 022 && cpack --config build/debian/CPackConfig.cmake -B "$packing" >"$packing/log" 2>&1) ||
    { cat "$packing/log" >&2 && die "CPack cannot make the packages"; }
mkdir -p "$folder"
rm -f "$folder"/*.deb
mv "$packing"/*.deb "$folder"

say "checking"
options=(--fail-on error)
# Without DEBEMAIL the packages have an address that leads nowhere.
[[ -n ${DEBEMAIL:-} ]] || options+=(--suppress-tags bogus-mail-host)
lintian "${options[@]}" "$folder"/*.deb
ls -l "$folder"/*.deb
