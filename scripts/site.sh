#!/usr/bin/env bash
# Makes the documentation site, with search, of README and docs/: build/site/index.html.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

case ${1:-} in
    '') ;;
    -h | --help)
        echo "usage: site.sh    makes build/site, and checks that each link in it leads somewhere"
        exit 0
        ;;
    *)
        echo "usage: site.sh" >&2
        exit 2
        ;;
esac
command -v mkdocs >/dev/null || die "there is no mkdocs: run scripts/setup.sh full"
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
"$python" scripts/site.py pages "$root" "$work"
mkdocs build --quiet --strict --config-file "$work/mkdocs.yml"
"$python" scripts/site.py check "$work/site"
rm -rf build/site
mkdir -p build
mv "$work/site" build/site
say "build/site/index.html"
