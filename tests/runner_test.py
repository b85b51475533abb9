#!/usr/bin/env python3
"""Checks that scripts/test.sh loses no step, and that the scripts that run tests refuse what they do not know.

    runner_test.py [ROOT]

A test that is named wrongly and runs nothing would look like one that passed. Exit code 0: all true.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WRONG_USAGE = 2
RUNS = ("quick_steps", "full_steps", "named_steps")
# Wrong commands, and words of what each has to say.
REFUSED = (
    (("scripts/test.sh", "--only", "none"), "Invalid step 'none'"),
    (("scripts/test.sh", "--only"), "Invalid step ''"),
    (("scripts/test.sh", "--onyl"), "usage: test.sh"),
    (("scripts/one_test.sh",), "usage: one_test.sh"),
    (("scripts/one_test.sh", "tests/python/none.py"), "Invalid test 'tests/python/none.py'"),
    (("tests/models/run.sh", "lock", "none"), "Invalid check 'none'"),
    (("tests/mutants/run.py", "--workers", "0"), "Invalid --workers '0'"),
)


def steps_of(script: str, run: str) -> list[str]:
    found = re.search(rf"^{run}=\(([^)]*)\)", script, re.MULTILINE)
    return found[1].split() if found else []


def check_steps(script: str, listed: str) -> Iterator[str]:
    """Each step that has a function is in a run and in the list with the name of that run, and the other way round."""
    functions = set(re.findall(r"^step_([\w-]+)\(\)", script, re.MULTILINE))
    runs = {run: steps_of(script, run) for run in RUNS}
    in_runs = {step for steps in runs.values() for step in steps}
    names = {"quick": "quick_steps", "full": "full_steps", "alone": "named_steps", "both": "quick_steps"}
    in_list = {}
    for line in listed.splitlines():
        step, word, *_ = line.split()
        in_list[step] = names.get(word, "")
    for step in sorted(functions | in_runs | set(in_list)):
        if step not in functions:
            yield f"{step} has no function"
        elif step not in in_runs:
            yield f"{step} is in no run"
        elif step not in in_list:
            yield f"{step} is not listed"
        elif step not in runs.get(in_list[step], []):
            yield f"{step} is listed for another run"


# Scripts, what they list, and words of the one problem that must come of them. An empty text: silence.
PLANTED = (
    ("step_a() {\n}\nquick_steps=(a)\n", "a quick x\n", ""),
    ("step_a() {\n}\nfull_steps=(a)\n", "a full x\n", ""),
    ("step_a() {\n}\nnamed_steps=(a)\n", "a alone x\n", ""),
    ("step_a() {\n}\n", "a quick x\n", "is in no run"),
    ("quick_steps=(a)\n", "a quick x\n", "has no function"),
    ("step_a() {\n}\nquick_steps=(a)\n", "", "is not listed"),
    ("step_a() {\n}\nfull_steps=(a)\n", "a quick x\n", "another run"),
)


def self_test() -> Iterator[str]:
    for script, listed, expected in PLANTED:
        found = list(check_steps(script, listed))
        if [expected in problem for problem in found] != ([True] if expected else []):
            yield f"self-test: expected {expected!r}, got {found}"


def check_refusals(root: Path) -> Iterator[str]:
    for command, expected in REFUSED:
        done = subprocess.run([str(root / command[0]), *command[1:]], capture_output=True, text=True, timeout=60)
        if done.returncode != WRONG_USAGE or expected not in done.stderr:
            yield f"{' '.join(command)}: exit code {done.returncode}, and it says: {done.stderr.strip()[:200]}"


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    script = root / "scripts" / "test.sh"
    listed = subprocess.run([str(script), "--list"], capture_output=True, text=True, check=True).stdout
    problems = [*self_test(), *check_steps(script.read_text(encoding="utf-8"), listed), *check_refusals(root)]
    for problem in problems:
        print(problem)
    steps = len(listed.splitlines())
    print(f"{len(PLANTED)} planted cases, {len(REFUSED)} refusals, {steps} steps; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
