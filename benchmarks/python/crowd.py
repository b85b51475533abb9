"""Workers: forked processes that measure when they are told to."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from contender import Contender
from data import DataSet, Draws
from loops import Rate, Worker

PROCESSES = 2
_PR_SET_PDEATHSIG = 1
# A round takes a fraction of a second; whoever takes this long hangs.
_PATIENCE_SECONDS = 120.0
_context = multiprocessing.get_context("fork")


class WorkerFailed(Exception):
    """What a worker could not do; the text is for the user."""


def follow_parent() -> None:
    """In a child: dies with its parent, and leaves the keyboard to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Order(NamedTuple):
    """What a worker is to do: repeat an operation for so many seconds."""

    operation: str
    seconds: float
    alone: bool


def _serve(contender: Contender, data: DataSet, index: int, orders: Connection) -> None:
    follow_parent()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= PROCESSES:
        os.sched_setaffinity(0, {cores[index]})  # Nobody is moved in the middle of a round.
    gc.freeze()
    answer: Any
    worker = Worker(contender.open(), data, Draws(data, index))
    orders.send([operation for operation in ("get", "set", "mix", "get_many") if worker.offers(operation)])
    while True:
        order = orders.recv()
        if order is None:
            return
        try:
            worker.alone = order.alone
            answer = worker.run(order.operation, order.seconds)
        except Exception as error:  # Whatever it is, the benchmark ends with its text.
            answer = f"{type(error).__name__}: {error}"
        orders.send(answer)


class Crowd:
    """The workers of one contender: two, or one if it cannot be shared.

    Attributes:
        operations: what the contender offers.
    """

    def __init__(self, contender: Contender, data: DataSet) -> None:
        self._contender = contender
        self._children: list[tuple[Any, Connection]] = []
        try:
            for index in range(PROCESSES if contender.shared else 1):
                ours, theirs = _context.Pipe()
                child = _context.Process(target=_serve, args=(contender, data, index, theirs), daemon=True)
                child.start()
                theirs.close()
                self._children.append((child, ours))
            self.operations: list[str] = [self._receive(orders) for _, orders in self._children][0]
        except BaseException:
            self.end()
            raise

    def offers(self, operation: str, processes: int) -> bool:
        """Returns whether so many processes can do it."""
        # The mix has gets that must not have to be released.
        return operation in self.operations and processes <= len(self._children)

    def run(self, operation: str, processes: int, seconds: float) -> Rate:
        """Lets so many workers work at the same time; the sum of their rates.

        Raises:
            WorkerFailed: one of them got a wrong value, or failed in another way.
        """
        chosen = [orders for _, orders in self._children[:processes]]
        for orders in chosen:
            orders.send(Order(operation, seconds, processes == 1))
        answers = [self._receive(orders) for orders in chosen]
        for answer in answers:
            if isinstance(answer, str):
                raise WorkerFailed(f"{self._contender.name}, {operation}: {answer}")
        return Rate(sum(answer.rate for answer in answers), sum(answer.mean_rate for answer in answers))

    def end(self) -> None:
        """Ends the workers, whatever they are at."""
        for child, orders in self._children:
            orders.close()
            child.kill()
            child.join()
            child.close()
        self._children.clear()

    def _receive(self, orders: Connection) -> Any:
        try:
            if orders.poll(_PATIENCE_SECONDS):
                return orders.recv()
        except (EOFError, ConnectionError):
            raise WorkerFailed(f"{self._contender.name}: a worker ended; its output is above") from None
        raise WorkerFailed(f"{self._contender.name}: no answer for {_PATIENCE_SECONDS:.0f} seconds")
