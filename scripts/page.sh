#!/usr/bin/env bash
# Makes cli/page/page.html, the page of `memstream serve`, of the sources in cli/page/. Needs Node.js 20.19 or newer with npm;
# who only builds MemStream needs neither, for the page is in the repository. docs/decisions/0023 says why.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: page.sh [--check | --install]

Installs the packages that cli/page/package-lock.json names into build/page/, and builds the page.
  without an option  replaces cli/page/page.html
  --check            compares it with what the sources give; changes nothing
  --install          installs the packages alone
Exit code: 0 if done, 1 if the page is another one, 77 without Node.js.
TEXT
}

case ${1:-} in
    '' | --check | --install) ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac

# Vite and Playwright need at least this one.
if ! command -v npm >/dev/null || ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || (+a == 20 && +b >= 19) ? 0 : 1)'; then
    printf 'page.sh: Node.js 20.19 or newer with npm is not installed. Install it to change or check the page.\n' >&2
    exit 77
fi

folder=$root/build/page
mkdir -p "$folder"
if ! cmp --silent cli/page/package-lock.json "$folder/installed"; then
    say "installing what builds and tests the page"
    cp cli/page/package.json cli/page/package-lock.json "$folder/"
    # No package runs a script of its own.
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp cli/page/package-lock.json "$folder/installed"
fi
[[ ${1:-} != --install ]] || exit 0

rm -rf "$folder/src"
cp -r cli/page/src cli/page/index.html cli/page/tsconfig.json cli/page/vite.config.js "$folder/"
cd "$folder"
npm run --silent check
npm run --silent build -- --logLevel warn
if [[ ${1:-} == --check ]]; then
    cmp dist/index.html "$root/cli/page/page.html" || die "cli/page/page.html is not what its sources give: run scripts/page.sh"
else
    cp dist/index.html "$root/cli/page/page.html"
fi
