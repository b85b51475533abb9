#!/usr/bin/env bash
# Builds what one test needs and runs it, on both backends: "scripts/one_test.sh abi_cache_test".
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: one_test.sh NAME [OPTION]...

NAME is a test program, or a file of Python tests. Options go to the program (doctest's) or to pytest.
  one_test.sh abi_cache_test                          the C interface
  one_test.sh shard_test --test-case='*evict*'        some cases of a program
  one_test.sh tests/python/test_mapping.py -k delete  some of a file
Exit code: that of the test; 2 for wrong usage.
TEXT
}

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
    '')
        usage >&2
        exit 2
        ;;
esac
name=$1
shift

# refuse: NAME names no test.
refuse() {
    printf "Invalid test '%s': expected a test program such as abi_cache_test, or a file such as %s. %s\n" "$name" \
        tests/python/test_mapping.py "tests/CMakeLists.txt names the programs." >&2
    exit 2
}

if [[ $name == *.py ]]; then
    [[ -f $name ]] || refuse
    scripts/setup.sh test
    scripts/build.sh
    MEMSTREAM_LIBRARY=$root/build/libcache.so PYTHONPATH=$root/clients/python PYTHONDONTWRITEBYTECODE=1 \
        exec "$python" -m pytest -q -rs "$name" "$@"
fi

scripts/setup.sh run
cmake --preset release --log-level=WARNING -D MEMSTREAM_PYTHON="$python" >/dev/null
ninja -C build -t query "$name" >/dev/null 2>&1 || refuse
cmake --build --preset release --parallel "$jobs" --target "$name"
if (($# == 0)); then
    exec ctest --test-dir build --output-on-failure --no-tests=error --tests-regex "^$name(\.(sysv|posix))?\$"
fi
program=$(find build/tests -name "$name" -type f -executable | head -n 1)
[[ -n $program ]] || refuse
for backend in sysv posix; do
    say "backend $backend"
    MEMSTREAM_BACKEND=$backend "$program" "$@"
done
