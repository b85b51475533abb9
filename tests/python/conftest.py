"""What the Python tests share: the library, a segment of their own for each test, child processes.

Needs a build: MEMSTREAM_LIBRARY names the libcache.so, otherwise it is the one in build/. Every test that asks for
`segment` or `cache` runs on both backends, or on the one that MEMSTREAM_BACKEND names.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import mmap
import os
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "python"
sys.path.insert(0, str(CLIENT))

from memstream import Cache, destroy  # noqa: E402  The line above makes it importable.
from memstream._shared import SharedCache  # noqa: E402
from memstream.errors import NoSegment  # noqa: E402

BACKENDS = [os.environ["MEMSTREAM_BACKEND"]] if "MEMSTREAM_BACKEND" in os.environ else ["posix", "sysv"]
MIB = 1024 * 1024
_numbers = itertools.count()

# A shell script starts what it sends to the background with SIGINT ignored, and so would the programs be that the tests
# start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def library() -> Path:
    """The libcache.so under test."""
    path = Path(os.environ.get("MEMSTREAM_LIBRARY", ROOT / "build" / "libcache.so"))
    if not path.exists():
        pytest.exit(f"{path} does not exist: build the library, or name it in MEMSTREAM_LIBRARY", returncode=2)
    return path.resolve()


class SystemVSegment(NamedTuple):
    """A line of /proc/sysvipc/shm."""

    id: int
    mode: int
    maker: int
    """The process that made it."""


def _system_v_segments() -> List[SystemVSegment]:
    rows = [row.split() for row in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return [SystemVSegment(int(row[1]), int(row[2], 8) & 0o777, int(row[4])) for row in rows]


class Segment:
    """A name for a segment that nobody else uses, and the processes that a test starts on it.

    Attributes:
        backend: "posix" or "sysv".
        name: as for `Cache`.
        environment: for child processes; the test's own process has the same variables.
    """

    def __init__(self, backend: str, environment: Dict[str, str]) -> None:
        self.backend = backend
        self.name = environment["MEMSTREAM_NAME"]
        self.environment = environment
        self._children: List["subprocess.Popen[bytes]"] = []
        # A System V key does not tell whose it is. Ours are those that came since and that our processes made.
        self._makers = {os.getpid()}
        self._strangers = set(_system_v_segments())

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Starts a Python process with these arguments; options are those of Popen."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": self.environment, **options}
        child = subprocess.Popen([sys.executable, *command], **options)
        self._children.append(child)
        self._makers.add(child.pid)
        return child

    def run(self, *command: str, input: bytes = b"", **options: Any) -> "subprocess.CompletedProcess[bytes]":
        """Runs a Python process to its end."""
        child = self.start(*command, stdin=subprocess.PIPE, **options)
        out, error = child.communicate(input, timeout=60)
        return subprocess.CompletedProcess(command, child.returncode, out, error)

    def program(self, name: str, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        """Runs writer, reader or analytics to its end."""
        return self.run(str(CLIENT / f"{name}.py"), *map(str, arguments), **options)

    def code(self, text: str, *arguments: object) -> bytes:
        """Runs Python code in another process, which must succeed; returns what it printed."""
        done = self.run("-c", text, *map(str, arguments))
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @property
    def unmeasured(self) -> Dict[str, str]:
        """The environment for a child whose lines pytest-cov does not count."""
        return {name: value for name, value in self.environment.items() if not name.startswith("COV_CORE_")}

    @property
    def file(self) -> Path:
        """The POSIX object."""
        return Path(f"/dev/shm/memstream.{self.name}")

    @property
    def mode(self) -> int:
        """The permission bits that the system holds."""
        if self.backend == "posix":
            return stat.S_IMODE(self.file.stat().st_mode)
        return self._system_v_segments()[0].mode

    @contextmanager
    def bytes(self) -> Iterator[memoryview]:
        """All bytes of the segment, to be read and damaged, past the library."""
        if self.backend == "posix":
            with self.file.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped, memoryview(mapped) as view:
                yield view
            return
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmat.restype = ctypes.c_void_p
        address = libc.shmat(self._system_v_segments()[0].id, None, 0)
        assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
        size = int(self.environment["MEMSTREAM_SIZE"].rstrip("M")) * MIB
        yield memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        libc.shmdt(ctypes.c_void_p(address))

    def end(self) -> None:
        """Ends what is still running, destroys the segment, and requires that nothing of it is left."""
        for child in self._children:
            child.kill()
            child.communicate()
        try:
            destroy(self.name, backend=self.backend)
        except NoSegment:
            pass  # The test made none, or destroyed it itself.
        assert [entry for entry in os.listdir("/dev/shm") if self.name in entry] == []
        assert self._system_v_segments() == []

    def _system_v_segments(self) -> List[SystemVSegment]:
        new = [segment for segment in _system_v_segments() if segment not in self._strangers]
        return [segment for segment in new if segment.maker in self._makers]


@pytest.fixture(params=BACKENDS)
def segment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, library: Path) -> Iterator[Segment]:
    """A fresh name, set in the environment together with the backend, the library and a size of 32 MiB."""
    variables = {
        "MEMSTREAM_BACKEND": request.param,
        "MEMSTREAM_NAME": f"pytest-{os.getpid()}-{next(_numbers)}",
        "MEMSTREAM_LIBRARY": str(library),
        "MEMSTREAM_SIZE": "32M",
        "PYTHONPATH": str(CLIENT),
    }
    kept = ("MEMSTREAM_TEST_RUN", "MEMSTREAM_PYTHON_ACCELERATOR")  # Who runs the suite, and how.
    for variable in [name for name in os.environ if name.startswith("MEMSTREAM_") and name not in kept]:
        monkeypatch.delenv(variable)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    made = Segment(request.param, {**os.environ})
    yield made
    made.end()


@pytest.fixture
def shared_calls(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The methods of the process's cache that the adapters have called, in this order."""
    calls: List[str] = []
    call = SharedCache.call

    def noting(shared: SharedCache, method: str, *arguments: Any, **options: Any) -> Any:
        calls.append(method)
        return call(shared, method, *arguments, **options)

    monkeypatch.setattr(SharedCache, "call", noting)
    return calls


@pytest.fixture
def make_django(segment: Segment) -> Iterator[Callable[..., Any]]:
    """Makes Django backends on the segment of the test, from the parameters of an alias."""
    import django_site

    with django_site.backends(segment.name) as make:
        yield make


@pytest.fixture
def django(make_django: Callable[..., Any]) -> Any:
    """A Django backend on the segment of the test."""
    return make_django()


@pytest.fixture
def unaccelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches opened from here on are not accelerated: for what looks inside. To be asked for before `cache`."""
    monkeypatch.setenv("MEMSTREAM_PYTHON_ACCELERATOR", "off")


@pytest.fixture
def cache(segment: Segment) -> Iterator[Cache]:
    """An open cache; at the end it must be sound, and no view or reservation may be left."""
    with Cache() as opened:
        yield opened
        gc.collect()
        if not opened.closed:
            assert opened.stats().pinned_memory == 0
            opened.check()


def raises_value_error(memory: memoryview) -> int:
    """Returns 0 if a memoryview can no longer be used, otherwise 1: an exit code."""
    try:
        memory[0]
    except ValueError:
        return 0
    return 1


def pins(cache: Cache) -> int:
    """Views and reservations that this process holds."""
    return next(process.pins for process in cache.processes() if process.pid == os.getpid())


@pytest.fixture
def in_child() -> Callable[..., int]:
    """Runs a function in a forked child; returns its exit code: what the function returned, 99 if it raised."""

    def run(function: Callable[..., Optional[int]], *arguments: Any) -> int:
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = function(*arguments) or 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run
