#!/usr/bin/env bash
# Installs the Debian packages that are missing. Asks for root only if there is something to install.
set -euo pipefail
source "$(dirname "$0")/common.sh"

# To configure and build the tree, to run the Python programs, and to install the package with pip.
run_packages=(
    g++ cmake ninja-build python3 python3-venv python3-setuptools python3-wheel
    libfmt-dev libxxhash-dev libzstd-dev libncurses-dev pkg-config doctest-dev libcli11-dev nlohmann-json3-dev
    libcpp-httplib-dev libhiredis-dev
)
# To run every test and check as well.
test_packages=(
    redis-server libcli11-dev nlohmann-json3-dev spin gcovr tmux python3-prometheus-client
    python3-pytest python3-dbg python3-pytest-cov python3-numpy python3-hypothesis
    python3-pip mypy valgrind libc6-dbg util-linux ccache
    python3-redis python3-django python3-dogpile.cache python3-cachelib python3-flask python3-flask-caching python3-flask-limiter python3-limits python3-gunicorn python3-uvloop
    python3-gevent python3-eventlet python3-trio
    clang-14 libclang-rt-14-dev libfuzzer-14-dev
    scdoc
    clang-format-14 clang-tidy-14 black isort flake8 shellcheck codespell
    chromium
    abigail-tools musl-tools
)
# To test the bindings to languages of clients/ as well. Of Node.js, whatever version 18 or newer is installed is used.
languages_packages=(
    nginx-light libnginx-mod-http-lua lua-cjson
    php8.2-cli php8.2-dev php8.2-fpm php-psr-simple-cache
)
# For scripts/package.sh, and for the steps "packages" and "site" of "test.sh --full".
full_packages=(dpkg-dev lintian mkdocs mmdebstrap)
# What benchmarks/ compares with, and what it draws with.
bench_packages=(
    libboost-dev liblmdb-dev libtdb-dev memcached libmemcached-dev
    libbenchmark-dev python3-matplotlib
    python3-dev python3-lmdb python3-tdb python3-diskcache python3-pylibmc
)

usage() {
    cat <<TEXT
usage: setup.sh [run | test | languages | full | bench]

Installs what is missing of the packages for
  run    building, running and installing MemStream: ${run_packages[*]}
  test   that, and the test suite (the default): ${test_packages[*]}
  languages  test, and the bindings to nginx and PHP: ${languages_packages[*]}
  full   all that, and for scripts/package.sh and scripts/site.sh: ${full_packages[*]}
  bench  what test installs, and the benchmarks: ${bench_packages[*]}
TEXT
}

is_installed() {
    [[ $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]
}

# as_root COMMAND...: as it is if we are root, through sudo otherwise.
as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: run as root: $*"
    fi
}

install_packages() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$@"
}

case ${1:-test} in
    run) wanted=("${run_packages[@]}") ;;
    test) wanted=("${run_packages[@]}" "${test_packages[@]}") ;;
    languages) wanted=("${run_packages[@]}" "${test_packages[@]}" "${languages_packages[@]}") ;;
    full) wanted=("${run_packages[@]}" "${test_packages[@]}" "${full_packages[@]}") ;;
    bench) wanted=("${run_packages[@]}" "${test_packages[@]}" "${bench_packages[@]}") ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac

command -v dpkg-query >/dev/null || die "this is not a Debian system; install the like of: ${wanted[*]}"
missing=()
for package in "${wanted[@]}"; do
    is_installed "$package" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    exit 0
fi

say "installing: ${missing[*]}"
# The package lists may be absent (a fresh container) or stale; they are fetched only when the first attempt fails.
install_packages "${missing[@]}" || {
    say "fetching the package lists"
    as_root apt-get update --quiet
    install_packages "${missing[@]}"
}
