#!/usr/bin/env bash
# Everything that measures. Each subcommand builds what it needs, outside of what the tests build.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: bench.sh COMMAND [ARGUMENT]...

  c [--quick|--full] [--backend NAME] [--contender NAME] [--cell PARTS] [--fills N] [--json FILE]
                           throughput and latency beside the alternatives; "c --help" says it all
  yardstick [--processor-time] [--write]
                           MemStream beside the limit, fenced, seqlock and TDB, full caches, many keys in a call: 8 minutes;
                           --processor-time is for a machine that others use; --write makes the dated file of
                           benchmarks/results/, the table of docs/performance.md, and the plots
  evicting [--megabytes N] [--fills N] [--rounds N] [--processor-time] [--json FILE]
                           filling a cache, and a full one: puts of new keys, get or put over four times its size
  scale [--backend NAME] [--rounds N] [--most-entries N] [--most-processes N] [--largest-gib N] [--json FILE]
                           get, put, connect, scan and recovery by entries, processes and size of the segment
  python [--quick] [--contender NAME] [--size BYTES] [--json FILE]
                           the Python package, with and without its accelerator, beside what Python has; "python --help" says it all
  hit-ratio [--trace NAME] [--file TRACE] [--percent LIST] [--json FILE]
                           hit ratios of the library and of reference policies, by size of the cache
  memory [--backend NAME] [--megabytes N] [--json FILE]
                           bytes that an item costs, beside memcached; live part of the heap while sizes shift
  cold [--backend NAME] [--entries N] [--json FILE]
                           connect, create, first get, rebuild of a shard
  plots [--throughput FILE] [--hit-ratio FILE] [--scale FILE] [--output FOLDER] [--png]
                           SVG of what "c --json", "hit-ratio --json" and "scale --json" wrote
  parts [ARGUMENT]...      hash, locks, look-up and heap, each alone (Google Benchmark, with its arguments)
  self-test                the tests of what measures: a wrong value fails a run
  instructions [--record]  instructions per operation by callgrind, beside the recorded figures; --record replaces them
Exit code: 0 if all went well, 1 if a check failed, 2 for wrong usage.
TEXT
}

# build_benchmarks TARGET...
build_benchmarks() {
    scripts/setup.sh bench
    cmake --preset bench --log-level=WARNING -D MEMSTREAM_PYTHON="$python" >/dev/null
    cmake --build --preset bench --parallel "$jobs" --target "$@"
}

# Where others use the machine, a writer may lose its core for seconds in the middle of a put.
export MEMSTREAM_TIMEOUT_MS=${MEMSTREAM_TIMEOUT_MS:-60000}

# One function for each subcommand, named bench_COMMAND with _ for -. It gets the remaining arguments.

bench_c() {
    build_benchmarks memstream-bench
    build/bench/memstream-bench "$@"
}

# Everything goes to build/yardstick/, and the report is made of it.
bench_yardstick() {
    local write='' clock=() option folder=build/yardstick ours=() many='keys=1000000/size=64/dist=uniform/gets=100'
    for option in "$@"; do
        case $option in
            --processor-time) clock=("$option") ;;
            --write) write=yes ;;
            *)
                usage >&2
                exit 2
                ;;
        esac
    done
    build_benchmarks memstream-bench memstream-evicting
    rm -rf "$folder"
    mkdir -p "$folder"
    build/bench/memstream-bench --yardstick --fills 2 "${clock[@]}" --json "$folder/1-table.json"
    build/bench/memstream-bench --full --cell "$many/processes=1" --cell "$many/processes=2" --fills 2 --rounds 3 \
        --contender limit-batches --contender memstream-batches "${clock[@]}" --json "$folder/2-batches.json"
    ours=(--contender limit --contender memstream-posix-cache --contender memstream-sysv-cache)
    build/bench/memstream-bench --full --cell size=65536/dist=zipf/gets=100/processes=1 --rounds 3 --round-ms 1000 \
        "${ours[@]}" "${clock[@]}" --json "$folder/3-large.json"
    build/bench/memstream-evicting --fills 2 --megabytes 64 "${clock[@]}" --json "$folder/4-evicting.json"
    if [[ -n $write ]]; then
        "$python" benchmarks/reports/yardsticks.py "$folder"/*.json --page docs/performance.md \
            --output "benchmarks/results/$(date +%F)-yardsticks.md"
        "$python" benchmarks/plots/plots.py --throughput "$folder/1-table.json" --output docs/plots
    else
        "$python" benchmarks/reports/yardsticks.py "$folder"/*.json
    fi
}

bench_evicting() {
    build_benchmarks memstream-evicting
    build/bench/memstream-evicting "$@"
}

bench_scale() {
    build_benchmarks memstream-costs
    build/bench/memstream-costs scale "$@"
}

# with_bench_python COMMAND...: with the package, the libraries and the C extension that were built for it.
with_bench_python() {
    build_benchmarks cache memstream_python memstream_limit
    env MEMSTREAM_LIBRARY="$root/build/bench/libcache.so" PYTHONDONTWRITEBYTECODE=1 \
        PYTHONPATH="$root/clients/python:$root/benchmarks/python:$root/build/bench" "$@"
}

bench_python() {
    with_bench_python "$python" benchmarks/python/main.py "$@"
}

bench_hit_ratio() {
    build_benchmarks memstream-hit-ratio
    build/bench/memstream-hit-ratio "$@"
}

bench_memory() {
    build_benchmarks memstream-costs
    build/bench/memstream-costs memory "$@"
}

bench_cold() {
    build_benchmarks memstream-costs
    build/bench/memstream-costs cold "$@"
}

bench_plots() {
    scripts/setup.sh bench
    "$python" benchmarks/plots/plots.py "$@"
}

bench_parts() {
    build_benchmarks memstream-parts
    build/bench/memstream-parts "$@"
}

bench_self_test() {
    build_benchmarks bench_harness_test evicting_test hit_ratio_test
    ctest --test-dir build/bench --no-tests=error --output-on-failure "$@"
    with_bench_python "$python" -m pytest -q -p no:cacheprovider benchmarks/python/tests
    env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=benchmarks/reports \
        "$python" -m pytest -q -p no:cacheprovider benchmarks/reports/tests
}

bench_instructions() {
    local action=check
    case ${1:-} in
        '') ;;
        --record) action=record ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    scripts/setup.sh test
    cmake --preset release --log-level=WARNING >/dev/null
    cmake --build --preset release --parallel "$jobs" --target memstream-instructions
    "$python" benchmarks/instructions/instructions.py "$action" build/memstream-instructions
}

command=${1:-}
case $command in
    '' | -h | --help)
        usage
        [[ -n $command ]] || exit 2
        exit 0
        ;;
esac
shift
if ! declare -F "bench_${command//-/_}" >/dev/null; then
    usage >&2
    exit 2
fi
"bench_${command//-/_}" "$@"
