#!/usr/bin/env bash
# Real files from a writer process through one shared memory segment to a reader process, byte for byte, on each backend;
# then a writer killed with SIGKILL in the middle of its work, and everything that it was told is stored is there.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: demo.sh [--quick] [--backend sysv|posix]...

Installs what is missing, builds, and shows MemStream at work on the files of this machine.
  --quick        with 24 MiB of files instead of up to 400 MiB
  --backend B    on this backend only (may be repeated); otherwise on both
Exit code: 0 if every byte came through, 1 if not. Segments and temporary files are removed in any case.
TEXT
}

mib=$((1024 * 1024))
wanted_bytes=$((400 * mib))
backends=()
while (($# > 0)); do
    case $1 in
        --quick) wanted_bytes=$((24 * mib)) ;;
        --backend)
            [[ ${2:-} == sysv || ${2:-} == posix ]] || { usage >&2; exit 2; }
            backends+=("$2")
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
((${#backends[@]} > 0)) || backends=(sysv posix)

# ---- whatever happens, nothing stays behind ----

scratch=$(mktemp --directory)
writer_pid=
export MEMSTREAM_NAME=demo-$$

destroy_segment() {
    MEMSTREAM_BACKEND=$1 "$python" - <<'PYTHON'
import memstream
from memstream.errors import NoSegment

try:
    memstream.destroy()
except NoSegment:
    pass
PYTHON
}

clean_up() {
    local backend
    if [[ -n $writer_pid ]]; then
        kill -KILL "$writer_pid" 2>/dev/null || true
    fi
    if [[ -e $MEMSTREAM_LIBRARY ]]; then
        for backend in "${backends[@]}"; do
            destroy_segment "$backend"
        done
    fi
    rm -rf "$scratch"
}

export MEMSTREAM_LIBRARY=$root/build/libcache.so PYTHONPATH=$root/clients/python PYTHONDONTWRITEBYTECODE=1
trap clean_up EXIT
# With a handler of its own a signal waits for the program that runs now: it must not go on while its segment is removed.
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- the files ----

# available_bytes: what may be used of the memory for the segment: of /dev/shm, where the POSIX backend lives, and half of
# what the machine has left.
available_bytes() {
    local shm memory
    shm=$(df --output=avail --block-size=1 /dev/shm | tail -n 1)
    memory=$(awk '/^MemAvailable:/ { printf "%d", $2 * 1024 / 2 }' /proc/meminfo)
    echo $((shm < memory ? shm : memory))
}

# add_path SIZE PATH: takes a path into the choice, if its bytes still fit.
add_path() {
    ((budget >= $1)) || return 1
    paths+=("$2")
    budget=$((budget - $1))
}

# add_tree FOLDER: takes a folder whole, or else as many of its parts as fit.
add_tree() {
    local size path
    read -r size path < <(du --bytes --summarize "$1")
    add_path "$size" "$path" && return
    while read -r size path; do
        add_path "$size" "$path" || true
    done < <(du --bytes --summarize "$1"/*)
    return 1
}

# choose_files: sets paths, file_count, byte_count and large_count.
choose_files() {
    local library
    # A quarter: two loads and room to spare. Nothing may be evicted, or there would be nothing to compare.
    budget=$(($(available_bytes) / 4))
    ((budget < wanted_bytes)) || budget=$wanted_bytes
    paths=()
    for library in libc.so.6 libstdc++.so.6; do
        library=$(realpath --no-symlinks "$(g++ -print-file-name=$library)")
        add_path "$(stat --dereference --format=%s "$library")" "$library" || true
    done
    # The parts of two folders might have equal names, and so equal keys: the second one only beside the whole first.
    if add_tree /usr/include; then
        add_tree /usr/share/doc || true
    fi

    chosen_files | xargs --null cat >/dev/null  # So that the rates below are those of the cache, and not of the disk.
    read -r file_count byte_count large_count < <(
        chosen_files | xargs --null stat --dereference --format=%s |
            awk '{ bytes += $1; large += $1 > 1048576 } END { printf "%d %d %d\n", NR, bytes, large }'
    )
}

# chosen_files: the files that writer.py finds below the chosen paths, each with a NUL after it.
chosen_files() {
    find -H "${paths[@]}" '(' -type f -o -xtype f ')' -print0
}

# ---- one backend ----

# field PATTERN FILE: what the parentheses in a sed pattern match in a program's closing line; 0 if it printed none.
field() {
    local found
    found=$(tail -n 1 "$2" | sed --quiet --regexp-extended "s|.*$1.*|\\1|p")
    echo "${found:-0}"
}

# load_and_kill PREFIX LOG: a second load of the same files, ended by SIGKILL once half of them are acknowledged.
load_and_kill() {
    local half=$((file_count / 2)) status=0
    "$python" clients/python/writer.py load "${paths[@]}" --prefix "$1" --log "$2" >"$scratch/killed.out" 2>&1 &
    writer_pid=$!
    while kill -0 "$writer_pid" 2>/dev/null && (($(wc -l <"$2") < half)); do
        sleep 0.01
    done
    kill -KILL "$writer_pid" 2>/dev/null || true
    wait "$writer_pid" 2>/dev/null || status=$?
    writer_pid=
    ((status == 137)) || {
        cat "$scratch/killed.out"
        die "the second writer ended by itself (exit code $status) before it could be killed"
    }
}

# run_backend BACKEND: the whole story, and a line for the summary.
run_backend() {
    local backend=$1 before=$scratch/verify after=$scratch/verify.after log=$scratch/$1.log
    local acknowledged lost=0 differences different_again status=0
    export MEMSTREAM_BACKEND=$backend
    say "$backend: a process writes $file_count files"
    "$python" clients/python/writer.py load "${paths[@]}" | tee "$scratch/load"
    say "$backend: another process verifies them by SHA-256"
    "$python" clients/python/reader.py verify "${paths[@]}" | tee "$before" || status=1
    say "$backend: a third looks at the cache"
    "$python" clients/python/analytics.py --top 5

    say "$backend: a second load is killed in its middle (SIGKILL)"
    : >"$log"
    load_and_kill again/ "$log"
    acknowledged=$(grep --count '}$' "$log")
    echo "killed after it had been told that $acknowledged files are stored"
    "$python" clients/python/reader.py verify --log "$log" | tee "$scratch/acknowledged" || status=1
    lost=$((acknowledged - $(field ' ([0-9]+) same' "$scratch/acknowledged")))
    # Files that it did not come to are missing, of course; but of those that are there, none may be half a file.
    "$python" clients/python/reader.py verify "${paths[@]}" --prefix again/ >"$scratch/again" || (($? == 1))
    different_again=$(field ' ([0-9]+) different' "$scratch/again")
    "$python" clients/python/reader.py verify "${paths[@]}" | tee "$after" || status=1

    differences=$((2 * file_count - $(field ' ([0-9]+) same' "$before") - $(field ' ([0-9]+) same' "$after") + different_again))
    summary+=$(printf '%-8s %7d %11d %14s %14s %13d %5d %12d' "$backend" "$file_count" "$byte_count" \
        "$(field ' s: ([^,]+/s)' "$scratch/load")" "$(field ' s, ([^:]+/s)' "$before")" \
        "$acknowledged" "$lost" "$differences")$'\n'
    ((status == 0 && lost == 0 && differences == 0)) || failed_backends+=("$backend")
    destroy_segment "$backend"
}

# ---- the demonstration ----

scripts/setup.sh run
say "building the library"
scripts/build.sh
choose_files
say "chosen: $file_count files of this machine, $((byte_count / mib)) MiB, $large_count of them larger than 1 MiB: ${paths[*]}"
# Four shards, whatever the size: a value may have up to nearly half a shard.
export MEMSTREAM_SIZE=$((3 * byte_count / mib + 64))M MEMSTREAM_SHARDS=4

summary='' failed_backends=()
for backend in "${backends[@]}"; do
    run_backend "$backend"
done

printf '\n%-8s %7s %11s %14s %14s %13s %5s %12s\n%s' \
    backend files bytes 'write rate' 'verify rate' acknowledged lost differences "$summary"
printf '%d seconds in all\n' "$SECONDS"
((${#failed_backends[@]} == 0)) || die "not every byte came through: ${failed_backends[*]}"
