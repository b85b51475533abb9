#!/usr/bin/env bash
# The test suite: style, architecture, lint, every doctest suite plain and under the tools that find what a plain run does
# not, the Python tests, the demo, and whether anything was left behind. What takes long has steps of its own.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

# In the order in which they run: what fails fastest comes first.
quick_steps=(format python-style shell spelling architecture types smoke release instructions python page languages
    builds asan tsan valgrind demo leftovers)
full_steps=(release-rest asan-rest python-rest languages-rest packages site coverage valgrind-all fuzz-long mutants
    portability tidy leftovers)
named_steps=(fuzz torture-long histories-long fuzz-hours)

# list_steps: each step with what it does and which runs it belongs to.
list_steps() {
    cat <<TEXT
format          quick  clang-format over every C and C++ file
python-style    quick  black, isort and flake8
shell           quick  shellcheck
spelling        quick  codespell
architecture    quick  includes, imports, rooms, homes of system calls
types           quick  mypy --strict
smoke           quick  the library, and the first tests of the C interface, the engine and Python
release         quick  every C and C++ suite on both backends, the short forms
instructions    quick  instructions per operation
python          quick  the Python suite: posix without the accelerator; sysv with it, a part
page            quick  the page of memstream serve: is it built of its sources, and does it work in Chromium?
languages       quick  the Node.js package: conformance, calls, processes and threads
builds          quick  compiles for asan and tsan beside the steps before it
asan            quick  every suite under the address and undefined behaviour sanitizers; on POSIX where it is for both
tsan            quick  the tests with threads under the thread sanitizer
valgrind        quick  a part of the suites under memcheck
demo            quick  the demo
leftovers       both   whether the run left a segment, semaphore, file or process behind
release-rest    full   every fault, every model, torture and histories in longer forms
asan-rest       full   every tenth fault under the sanitizers, and the suites for both backends on System V
python-rest     full   the Python suite: posix with the accelerator; sysv without, with coverage; the rest of sysv with it
languages-rest  full   Node.js 18 and 24, the npm package, Keyv's suite, a site of Next.js, nginx, PHP, all together
packages        full   the packages of Debian, pip and npm in a fresh root of Debian 12: install, use, purge
site            full   the documentation site: is it built, and does each link of it lead somewhere?
coverage        full   every suite once more, and what share of the lines it reaches
valgrind-all    full   every suite under memcheck
fuzz-long       full   sixty seconds for each fuzz target
mutants         full   every seeded bug, against the suites that have to catch it
portability     full   builds with clang, with a part of the suites; as a part of a user's build
tidy            full   clang-tidy over the library and the command
fuzz            alone  four seconds for each fuzz target
torture-long    alone  hours: death at every instruction, thousands of kills and stops
histories-long  alone  an hour: 5000 histories for each backend
fuzz-hours      alone  two hours: 40 minutes for each fuzz target
TEXT
}

results=$root/build/test-results

usage() {
    cat <<TEXT
usage: test.sh [--quick | --full | --only STEP...]

Installs what is missing, builds, and runs steps; one that fails does not stop the others.
  --quick      about 25 minutes on two cores; so it is without an option
  --full       what the quick run leaves out, within an hour
  --only STEP  this step (may be repeated); some are in neither run
  --list       the steps
Exit code: 0 if every step passed, 1 if one failed, 2 for wrong usage.
Logs and JUnit files are left in build/test-results/.
TEXT
}

# ---- checks of the text ----

# tree_files PATTERN...: the files of those names, in whatever folder of the tree; not what was built or installed.
tree_files() {
    local names=() pattern
    for pattern in "$@"; do
        names+=(-o -name "$pattern")
    done
    find . \( -name build -o -name .git -o -name .venv \) -prune -o -type f \( "${names[@]:1}" \) -print
}

step_format() {
    tree_files '*.h' '*.hpp' '*.cpp' '*.c' | xargs clang-format-14 --dry-run -Werror
}

step_python-style() {
    local files
    mapfile -t files < <(tree_files '*.py')
    "$python" -m black --config pyproject.toml --check --quiet --diff "${files[@]}" &&
        "$python" -m isort --settings-path pyproject.toml --check-only --diff "${files[@]}" &&
        "$python" -m flake8 "${files[@]}"
}

step_shell() {
    tree_files '*.sh' | xargs shellcheck --external-sources --source-path=scripts .ci/run .githooks/pre-commit
}

step_spelling() {
    codespell --skip './build,./.git,./.venv,./cli/page/page.html,*/package-lock.json' .
}

step_architecture() {
    "$python" tests/architecture_test.py
}

step_types() {
    local files
    mapfile -t files < <(find tests -name '*.py' -not -path 'tests/python/*')
    "$python" -m mypy --config-file pyproject.toml clients/python scripts benchmarks "${files[@]}"
}

# ---- the suites in C and C++ ----

# build PRESET [BUILD_PRESET]: all of a preset, or the part of it that a build preset names.
build() {
    cmake --preset "$1" --log-level=WARNING -D MEMSTREAM_PYTHON="$python" >/dev/null &&
        cmake --build --preset "${2:-$1}" --parallel "$jobs"
}

# run_tests STEP PRESET [WRAPPER...]: the tests of a preset, for both backends where they go over one.
run_tests() {
    local step=$1 preset=$2
    shift 2
    # ctest cuts the output of a test that passes to 1 KiB in the JUnit file; its last line is the one that counts.
    "$@" ctest --preset "$preset" --parallel "$jobs" --test-output-size-passed 1000000 \
        --output-junit "$results/$step.xml"
}

# What tells most, built before the rest of the tests: a broken tree shows within three minutes.
step_smoke() {
    local status=0
    build release smoke && run_tests smoke smoke || status=1
    MEMSTREAM_PYTHON_ACCELERATOR=require pytest_run smoke.python tests/python/test_mapping.py || status=1
    cat "$results/smoke.python.txt"
    return "$status"
}

step_release() {
    build release && run_tests release quick
}

step_release-rest() {
    build release && run_tests release-rest rest
}

# The compiler takes what the steps before leave of the processors: much of their time is waiting.
step_builds() {
    renice --priority 19 --pid "$BASHPID" >/dev/null
    build asan && build tsan
}

# What an operation costs in libcache.so, counted by callgrind, must be what was recorded.
step_instructions() {
    scripts/bench.sh instructions
}

# The suites with assertions on, under the sanitizers for addresses and undefined behaviour.
step_asan() {
    build asan && run_tests asan asan
}

# gcovr.cfg has the limit.
step_coverage() {
    find build/coverage -name '*.gcda' -delete 2>/dev/null || true
    build coverage && run_tests coverage coverage &&
        gcovr -j "$jobs" --print-summary --txt "$results/coverage.txt" build/coverage
}

step_asan-rest() {
    build asan && run_tests asan-rest asan-rest
}

step_tsan() {
    # The thread sanitizer of GCC 12 does not start where addresses are more random than it expects.
    local no_randomisation=(setarch "$(uname -m)" --addr-no-randomize)
    "${no_randomisation[@]}" true 2>/dev/null || no_randomisation=()
    build tsan && run_tests tsan tsan "${no_randomisation[@]}"
}

# The programs of the release once more, under memcheck.
step_valgrind() {
    build release && run_tests valgrind valgrind-quick
}

step_valgrind-all() {
    build release && run_tests valgrind-all valgrind
}

# Each target with its seeds, with what fuzzing once found, and for so many seconds with what it makes of them.
step_fuzz() {
    scripts/fuzz.sh --seconds 4 --jobs "$jobs"
}

step_fuzz-long() {
    scripts/fuzz.sh --seconds 60 --jobs "$jobs"
}

step_fuzz-hours() {
    scripts/fuzz.sh --seconds 2400 --jobs "$jobs"
}

# Where no root can be made, or npm is missing, the test says so and counts as skipped.
step_packages() {
    local wheels=$root/build/test-wheels status=0
    scripts/build.sh && scripts/package.sh && rm -rf "$wheels" &&
        "$python" -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-index --no-deps \
            --wheel-dir "$wheels" ./clients/python || return
    scripts/languages.sh pack-node || status=$?
    ((status != 0)) ||
        "$python" tests/package/debian_test.py "$root" build/packages "$wheels"/*.whl build/npm/*.tgz || status=$?
    ((status == 0 || status == 77))
}

step_site() {
    scripts/site.sh
}

# All of the tree with clang, which also checks the lock contracts, and a part of the suites. Then the library as a part of
# a project that gives no build type.
step_portability() {
    local status=0
    build clang && run_tests portability clang || status=1
    "$python" tests/consumers/consumers_test.py embedded "$root" || status=1
    return "$status"
}

# In quick form: against the suites that each bug's entry names, not against all until one catches it.
step_mutants() {
    scripts/mutants.sh --only-expected --workers "$jobs" --junit "$results/mutants.xml" ||
        (($? == 77))  # This machine gives no namespaces: the report counts one test as skipped.
}

step_torture-long() {
    scripts/torture.sh step --stride 7 && scripts/torture.sh kill --rounds 10000 &&
        scripts/torture.sh stop --rounds 5000 && scripts/torture.sh create --rounds 1000 &&
        scripts/torture.sh oom --rounds 100
}

step_histories-long() {
    scripts/histories.sh --histories 5000 --backend sysv && scripts/histories.sh --histories 5000 --backend posix
}

# lint PRESET SOURCES CHECKS [OPTION...]: clang-tidy over the sources that stand in that file, ended by NUL each, as the
# preset compiles them. CHECKS are added to those of .clang-tidy, or taken from them with a minus.
lint() {
    local preset=$1 sources=$2 checks=$3 count
    shift 3
    count=$(tr -cd '\0' <"$sources" | wc -c)
    nice -n 19 xargs --arg-file="$sources" --null --max-procs="$jobs" --max-args=$((count / (2 * jobs) + 1)) \
        clang-tidy-14 -p "build/$preset" --quiet --warnings-as-errors='*' --checks="$checks" "$@"
}

# Presets of their own, in which every source stands once: the tests compile some of the library's again, and clang-tidy
# would check those as often. It cannot read GCC's precompiled headers and gets none, so that it also sees whether each
# source includes what it needs. Nothing has to be built for them.
#
# Most of its time goes into the system's headers, which version 14 cannot pass over: so most checks see the sources of
# a library as one, and what may throw is followed from one source into another. What is left for each by itself: the
# check that looks at the main file alone, and the analyzer, which follows paths there only. It looks into small
# functions only: following every call took half the time of the step, and what calls do to memory the sanitizers and
# Valgrind see. The command is seen as one only: its headers of others would be read eight times.
step_tidy() {
    local each=build/tidy/sources whole=build/tidy-whole/sources
    local shallow=(--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=mode=shallow)
    local rest='-bugprone-*,-concurrency-*,-misc-*,-modernize-*,-performance-*,-readability-*'
    local not_in_one='-clang-analyzer-*,-bugprone-suspicious-include'
    local status=0
    cmake --preset tidy --log-level=WARNING >/dev/null && cmake --preset tidy-whole --log-level=WARNING >/dev/null &&
        find core backends api near -name '*.cpp' -print0 >"$each" &&
        find build/tidy-whole/{core,backends,api,cli} -name 'unity_*.cxx' -print0 >"$whole" || return
    lint tidy "$each" "$rest,misc-unused-using-decls" "${shallow[@]}" || status=1
    lint tidy-whole "$whole" "$not_in_one" --header-filter='/((core|backends|cli)/.*\.h|(core|backends|api|cli)/.*\.cpp)$' ||
        status=1
    return "$status"
}

# ---- the suites in Python, and the demo ----

# pytest_run NAME ARGUMENT...: pytest, with its output and its report in files of that name.
pytest_run() {
    local name=$1
    shift
    MEMSTREAM_LIBRARY=$root/build/libcache.so PYTHONPATH=$root/clients/python \
        "$python" -m pytest -q -rs --basetemp="$results/pytest.$name" --junitxml="$results/$name.xml" "$@" \
        >"$results/$name.txt" 2>&1
}

# Modules about what lies far above the backend and the accelerator: frameworks, programs, memoizing, pages, packages.
# With both of another kind the quick run leaves them out, and python-rest runs them.
high_modules=(adapters analytics analytics_pages django django_contract django_extras django_once django_pages
    documentation dogpile flask_caching interruptions memo_ahead memo_callables memo_keys memoize near_django near_oracle
    original_example packaging programs public_names reader reference rooms serializers surroundings waits writer
    writer_runs)

# python_tests WHICH: the folders of all modules, those modules, or what makes pytest leave them out of the folders.
python_tests() {
    case $1 in
        all) find clients/python tests -name 'test_*.py' -printf '%h\n' | sort --unique ;;
        high) printf 'tests/python/test_%s.py\n' "${high_modules[@]}" ;;
        low) python_tests all && python_tests high | sed 's/^/--ignore=/' ;;
    esac
}

# python_suite STEP BACKEND ACCELERATOR WHICH [OPTION...]: Python tests once.
python_suite() {
    local step=$1 backend=$2 accelerator=$3 which=$4 tests
    mapfile -t tests < <(python_tests "$which")
    shift 4
    MEMSTREAM_BACKEND=$backend MEMSTREAM_PYTHON_ACCELERATOR=$accelerator \
        pytest_run "$step.$backend.$accelerator.$which" "$@" "${tests[@]}"
}

# python_suites STEP RUN...: Python tests, all runs at once: most of the time goes by in waiting for other processes, so that
# they disturb each other little. A RUN is "BACKEND ACCELERATOR WHICH [OPTION...]".
python_suites() {
    local step=$1 run pid status=0
    local -a words pids=()
    shift
    build release || return
    for run in "$@"; do
        read -r -a words <<<"$run"
        python_suite "$step" "${words[@]}" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || status=1
    done
    for run in "$@"; do
        read -r -a words <<<"$run"
        say "backend ${words[0]}, accelerator: ${words[1]}, modules: ${words[2]}"
        cat "$results/$step.${words[0]}.${words[1]}.${words[2]}.txt"
    done
    return "$status"
}

# The accelerator replaces what runs above the C interface, the backends what runs below it: each of the four once, in two
# steps.
step_python() {
    python_suites python "posix off low" "posix off high" "sysv require low"
}

# Coverage where it is all Python; the limit is in pyproject.toml, and it counts what children run too.
step_python-rest() {
    python_suites python-rest "posix require all" "sysv off all --cov --cov-config=pyproject.toml --cov-report=term" \
        "sysv require high"
}

# Where there is no Node.js its tests are skipped: only those who change the page need it.
step_page() {
    local status=0
    scripts/build.sh && pytest_run page.browser tests/page/browser_test.py || status=1
    cat "$results/page.browser.txt"
    return "$status"
}

# language_tests COMMAND...: each command of scripts/languages.sh. What this machine cannot run says why, and is no failure.
language_tests() {
    local command code status=0
    for command in "$@"; do
        code=0
        scripts/languages.sh "$command" || code=$?
        ((code == 0 || code == 77)) || status=1
    done
    return "$status"
}

step_languages() {
    language_tests node
}

step_languages-rest() {
    scripts/setup.sh languages && language_tests node-full node-pack node-next lua php together
}

step_demo() {
    scripts/demo.sh --quick
}

step_leftovers() {
    "$python" scripts/leftovers.py compare "$results/before.json"
}

# ---- running them ----

# perform STEP, in a shell of its own.
perform() (
    # Whatever a step starts inherits this, and scripts/leftovers.py knows it by that.
    export MEMSTREAM_TEST_RUN=$run TMPDIR=$scratch PYTHONDONTWRITEBYTECODE=1
    "step_$1" </dev/null
)

# start_ahead STEP: begins it beside the steps before it, with its output in its log alone. Its process group is its
# own, so that "clean_up" ends all of it.
start_ahead() {
    rm -f "$results/$1".*
    set -m
    perform "$1" >"$results/$1.log" 2>&1 &
    ahead[$1]=$!
    set +m
}

clean_up() {
    local process_group
    for process_group in "${ahead[@]}"; do
        kill -- "-$process_group" 2>/dev/null || true
    done
    rm -rf "$scratch"
}

# Seconds of processor time that the ended children of this shell have taken, with theirs.
cpu_seconds() {
    local -a numbers
    read -r -a numbers </proc/$$/stat  # The second, the program's name, has no blank in it.
    echo $(((numbers[15] + numbers[16]) / $(getconf CLK_TCK)))
}

# run_step STEP: runs it with its output on the terminal and in a log, or waits for it if it was started ahead, and adds
# a line to the table. Inside a step "set -e" is without effect, as bash has it for whatever stands before "||": steps
# chain their commands with "&&".
run_step() {
    local step=$1 started=$SECONDS started_cpu verdict=passed passed failed skipped
    local -a reports
    say "$step"
    started_cpu=$(cpu_seconds)
    if [[ -v ahead[$step] ]]; then
        wait "${ahead[$step]}" || verdict=FAILED
        unset "ahead[$step]"
        cat "$results/$step.log"
    else
        rm -f "$results/$step".*
        perform "$step" 2>&1 | tee "$results/$step.log" || verdict=FAILED
    fi

    mapfile -t reports < <(find "$results" -name "$step.*xml")
    read -r passed failed skipped < <("$python" scripts/count_tests.py "${reports[@]}")
    if [[ $verdict == FAILED ]]; then
        failed_steps+=("$step")
        ((failed > 0)) || failed=1  # It did not come as far as its tests.
    elif ((${#reports[@]} == 0)); then
        passed=1  # A check without tests of its own.
    fi
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
    total_skipped=$((total_skipped + skipped))
    table+=$(printf '%-14s %-7s %7d %7d %8d %8d %8d' "$step" "$verdict" "$passed" "$failed" "$skipped" \
        $((SECONDS - started)) $(($(cpu_seconds) - started_cpu)))
    table+=$'\n'
}

all_steps=("${quick_steps[@]}" "${full_steps[@]}" "${named_steps[@]}")
steps=()
while (($# > 0)); do
    case $1 in
        --quick) steps+=("${quick_steps[@]}") ;;
        --full) steps+=("${full_steps[@]}") ;;
        --only)
            if [[ -z ${2:-} || " ${all_steps[*]} " != *" $2 "* ]]; then
                printf "Invalid step '%s': expected one of %s. --list explains them.\n" "${2:-}" "${all_steps[*]}" >&2
                exit 2
            fi
            steps+=("$2")
            shift
            ;;
        --list)
            list_steps
            exit 0
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
((${#steps[@]} > 0)) || steps=("${quick_steps[@]}")

wanted="test"
[[ ! " ${steps[*]} " =~ " packages "|" site " ]] || wanted=full
scripts/setup.sh "$wanted"
mkdir -p "$results"
scratch=$(mktemp --directory)
declare -A ahead=()  # The process group of each step that was started ahead and not yet waited for.
trap clean_up EXIT
run=$$.$(date +%s)
TMPDIR=$scratch "$python" scripts/leftovers.py snapshot "$results/before.json"

table='' total_passed=0 total_failed=0 total_skipped=0 failed_steps=()
# What only computes runs beside the other steps, much of whose time is waiting: it takes the processors when they want
# none ("nice"), and its own step has little left to do.
for step in builds tidy; do
    if [[ " ${steps[*]} " == *" $step "* ]]; then
        start_ahead "$step"
    fi
done
for step in "${steps[@]}"; do
    run_step "$step"
done

printf '\n%-14s %-7s %7s %7s %8s %8s %8s\n%s' step result passed failed skipped seconds cpu "$table"
printf '%d seconds in all; logs in build/test-results/\n' "$SECONDS"
if ((total_skipped > 0)); then
    printf '%d tests could not run on this machine; each said why in its log\n' "$total_skipped"
fi
if ((${#failed_steps[@]} > 0)); then
    printf 'failed steps: %s\n' "${failed_steps[*]}"
fi
printf '%d passed, %d failed, %d skipped\n' "$total_passed" "$total_failed" "$total_skipped"
((${#failed_steps[@]} == 0))
