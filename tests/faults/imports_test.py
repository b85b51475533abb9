#!/usr/bin/env python3
"""Every function that libcache.so imports either fails in tests/faults/, or cannot fail for the reason given here.

    imports_test.py SOURCE_DIR LIBRARY

A new system call in the library comes with its faults: this test fails until it does.
"""

import re
import subprocess
import sys
from pathlib import Path

# Imports that no fault is made for, by the reason.
CANNOT_FAIL = {
    "returns what the kernel or the process knows": (
        "clock_gettime dirfd getauxval getegid geteuid getpid gettid gnu_get_libc_version pthread_self sched_yield"
        " secure_getenv sysconf __errno_location __libc_single_threaded __tls_get_addr"
    ),
    "fails only for a thread that has ended": "pthread_getcpuclockid",
    "fails only for a lock that is damaged, or not the caller's": (
        "pthread_mutex_consistent pthread_mutex_lock pthread_mutex_unlock pthread_rwlock_unlock"
    ),
    "fails only for a state that does not exist": "pthread_setcancelstate pthread_sigmask",
    "is a futex wait or wake: whatever it returns, the word is looked at again": "syscall",
    "only notes what a child of a bare system call needs, which is refused without it": "prctl",
    "ends early at worst, and whoever waits looks again": "nanosleep poll",
    "fails only for a descriptor that somebody else has closed": "eventfd_read eventfd_write",
    "names a thread for people": "pthread_setname_np",
    "is called in a child forked by a signal handler alone, which ends if it fails": "abort mprotect",
    "works on memory alone": (
        "free memchr memcmp memcpy memmove memset sigdelset sigfillset snprintf strcmp strerrordesc_np strlen strnlen"
    ),
}
# Functions of the compiler and the language, which report by exceptions: operator new is where those come from.
LANGUAGE = re.compile(
    r"_ITM_|_Unwind_|__cxa_|__dynamic_cast|__gmon_start__|__gxx_|_ZSt|_ZNSt|__udivti3|_ZNKSt|_ZT[IV]|_ZN3fmt|_ZdlPv"
)
OPERATORS = {"_Znwm": "operator_new", "_ZnwmSt11align_val_t": "operator_new_aligned"}


def imports_of(library: str) -> set[str]:
    listing = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", "--format=posix", library], check=True, capture_output=True, text=True
    ).stdout
    return {line.split()[0].split("@")[0] for line in listing.splitlines() if line}


def faults_of(source: Path) -> set[str]:
    return set(re.findall(r"^  X\((\w+),", (source / "tests/faults/functions.h").read_text(), re.MULTILINE))


def main(source: str, library: str) -> int:
    imports = {OPERATORS.get(name, name) for name in imports_of(library) if not LANGUAGE.match(name)}
    faults = faults_of(Path(source))
    excused = {name for names in CANNOT_FAIL.values() for name in names.split()}
    complaints = [f"{name} is imported, and nothing makes it fail" for name in sorted(imports - faults - excused)]
    complaints += [f"{name} has faults, and nothing imports it" for name in sorted(faults - imports)]
    complaints += [f"{name} is excused, and nothing imports it" for name in sorted(excused - imports)]
    complaints += [f"{name} has faults and is excused" for name in sorted(faults & excused)]
    for complaint in complaints:
        print(complaint)
    print(f"{len(faults)} functions fail in tests, {len(excused)} cannot")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
