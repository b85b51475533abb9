#!/usr/bin/env bash
# Checks the models of the lock, of the read without a lock, of pins and of the process table exhaustively with Spin. Each
# mutant, which leaves out one part of the protocol, must be caught. Prints the states of each. The arguments name the
# checks to run; all otherwise.
set -euo pipefail

models=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp --directory)
trap 'rm -rf "$scratch"' EXIT

# name | model | verdict | definitions. "clean": every state was visited, and none violates anything. "caught": one
# does.
checks=(
    "lock|lock|clean|"
    "lock-three-writers|lock|clean|-DWRITERS=3 -DREADERS=1 -DDEATHS=2"
    "lock-one-writer|lock|clean|-DWRITERS=1 -DDEATHS=2"
    "fast-read|fast_read|clean|"
    "fast-read-death|fast_read|clean|-DSTEPS=2 -DDEATHS=1"
    "fast-read-deaths|fast_read|clean|-DSTEPS=1 -DDEATHS=2"
    "pins|pins|clean|-DSTEPS=3 -DVIEWERS=1"
    "pins-two-viewers|pins|clean|-DSTEPS=2 -DVIEWER_DEATHS=0"
    "pins-deaths|pins|clean|-DSTEPS=2 -DVIEWERS=1 -DWRITER_DEATHS=2"
    "processes|processes|clean|"
    "processes-new-namespace|processes|clean|-DCHILD_NAMESPACE=1"
    "processes-deaths|processes|clean|-DSLOTS=1 -DDEATHS=2 -DDAMAGE=0"
    "no-second-look|lock|caught|-DMUTANT_NO_SECOND_LOOK"
    "no-wait-for-slots|lock|caught|-DMUTANT_NO_WAIT_FOR_SLOTS"
    "ignore-wait|lock|caught|-DMUTANT_IGNORE_WAIT"
    "look-before-counting|lock|caught|-DMUTANT_LOOK_BEFORE_COUNTING"
    "look-before-wait|lock|caught|-DMUTANT_LOOK_BEFORE_WAIT"
    "lower-wait-first|lock|caught|-DMUTANT_LOWER_WAIT_FIRST"
    "reset-count-first|lock|caught|-DMUTANT_RESET_COUNT_FIRST -DDEATHS=2"
    "no-second-try|lock|caught|-DMUTANT_NO_SECOND_TRY"
    "count-is-dead|lock|caught|-DMUTANT_COUNT_IS_DEAD"
    "no-recovery-flag|lock|caught|-DMUTANT_NO_FLAG -DDEATHS=2 -DREADERS=1"
    "consistent-first|lock|caught|-DMUTANT_CONSISTENT_FIRST -DDEATHS=2 -DREADERS=1"
    "no-version|fast_read|caught|-DMUTANT_NO_VERSION"
    "new-bucket-even|fast_read|caught|-DMUTANT_NEW_BUCKET_EVEN"
    "no-seq|fast_read|caught|-DMUTANT_NO_SEQ"
    "no-recheck|fast_read|caught|-DMUTANT_NO_RECHECK"
    "overwrite-in-place|fast_read|caught|-DMUTANT_OVERWRITE"
    "free-first|fast_read|caught|-DMUTANT_FREE_FIRST"
    "believe-a-miss|fast_read|caught|-DMUTANT_BELIEVE_A_MISS"
    "busy-is-absent|fast_read|caught|-DMUTANT_BUSY_IS_ABSENT"
    "busy-is-live|fast_read|caught|-DMUTANT_BUSY_IS_LIVE"
    "block-first|fast_read|caught|-DMUTANT_BLOCK_FIRST"
    "commit-first|fast_read|caught|-DMUTANT_COMMIT_FIRST -DSTEPS=1 -DDEATHS=1"
    "redo-first|fast_read|caught|-DMUTANT_REDO_FIRST -DSTEPS=1 -DDEATHS=1"
    "no-record-recheck|fast_read|caught|-DMUTANT_NO_RECORD_RECHECK"
    "record-of-any-key|fast_read|caught|-DMUTANT_RECORD_OF_ANY_KEY"
    "reuse-record-early|fast_read|caught|-DMUTANT_REUSE_RECORD_EARLY"
    "take-over-at-once|fast_read|caught|-DMUTANT_TAKE_OVER_AT_ONCE -DSTEPS=1 -DDEATHS=1"
    "no-roll-forward|fast_read|caught|-DMUTANT_NO_ROLL_FORWARD -DSTEPS=1 -DDEATHS=1"
    "finish-uncommitted|fast_read|caught|-DMUTANT_FINISH_UNCOMMITTED -DSTEPS=1 -DDEATHS=1"
    "pin-after-last-look|pins|caught|-DMUTANT_PIN_AFTER_THE_LAST_LOOK"
    "no-last-look|pins|caught|-DMUTANT_NO_LAST_LOOK"
    "no-viewed-bit|pins|caught|-DMUTANT_NO_BIT"
    "no-seq-for-viewers|pins|caught|-DMUTANT_NO_SEQ"
    "new-pins-ignored|pins|caught|-DMUTANT_NEW_PINS_IGNORED"
    "bit-read-before|pins|caught|-DMUTANT_BIT_READ_BEFORE"
    "pins-before-ref|pins|caught|-DMUTANT_LOOK_BEFORE_THE_REF"
    "overwrite-unseen|pins|caught|-DMUTANT_OVERWRITE_UNSEEN"
    "census-before-seq|pins|caught|-DMUTANT_CENSUS_BEFORE_SEQ"
    "pid-decides|processes|caught|-DMUTANT_PID_DECIDES -DMUTANT_UNCHECKED"
    "mark-unseen|processes|caught|-DMUTANT_MARK_UNSEEN"
    "not-wiped|processes|caught|-DMUTANT_NOT_WIPED"
    "namespaces-unchecked|processes|caught|-DMUTANT_UNCHECKED"
    "take-from-the-living|processes|caught|-DMUTANT_TAKE_FROM_THE_LIVING"
    "no-look-after-arriving|processes|caught|-DMUTANT_NO_SECOND_LOOK"
    "arrive-while-moving|processes|caught|-DMUTANT_ARRIVE_WHILE_MOVING"
)

# check NAME MODEL VERDICT DEFINITION...
check() {
    local name=$1 model=$2 wanted=$3 optimisation=-O1 verdict
    shift 3
    mkdir "$scratch/$name"
    cd "$scratch/$name"
    spin "$@" -a "$models/$model.pml" >spin.log || { cat spin.log; return 1; }
    [[ $wanted == clean ]] || optimisation=-O0  # Compiling takes longer than what is left to search.
    # Without partial order reduction, which Spin does not offer beside "provided" clauses. A deadlock is an assertion
    # of the model's own (-E): the processes that died stand where they died, which is no fault.
    gcc "$optimisation" -w -DSAFETY -DNOREDUCE -DMEMLIM=3500 -o pan pan.c
    ./pan -E -m100000 >pan.log
    verdict=incomplete
    if grep --quiet 'errors: 1$' pan.log; then
        verdict=caught
    elif grep --quiet 'errors: 0$' pan.log && ! grep --quiet -E 'Search not completed|max search depth' pan.log; then
        verdict=clean
    fi
    printf '%-21s %-10s %12s states  %s\n' "$name" "$verdict" "$(awk '/states, stored/ { print $1 }' pan.log)" \
        "$(grep --only-matching -m1 'assertion violated.*' pan.log || true)"
    [[ $verdict == "$wanted" ]] || { cat pan.log; return 1; }
}

for wanted in "$@"; do
    if ! printf '%s\n' "${checks[@]}" | grep --quiet "^$wanted|"; then
        printf "Invalid check '%s': expected one of:" "$wanted" >&2
        printf ' %s' "${checks[@]%%|*}" >&2
        printf '\n' >&2
        exit 2
    fi
done

failed=0
for line in "${checks[@]}"; do
    IFS='|' read -r name model wanted definitions <<<"$line"
    if (($# > 0)) && [[ " $* " != *" $name "* ]]; then
        continue
    fi
    # shellcheck disable=SC2086  # The definitions are words.
    (check "$name" "$model" "$wanted" $definitions) || failed=1
done
exit $failed
