"""Where work runs: persistent local processes of one thread each, or this process.

An executor has the `submit` of `concurrent.futures`, says in `slots` how many tasks it takes at once,
is told by `suit` what it will be used for, and starts its workers on first use.
"""

from __future__ import annotations

import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from medleak.api import Component, ConfigError
from medleak.config.instantiate import allow, allowed

_WORKER_ENVIRONMENT = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
) | {
    # Activations are freed and allocated again at each step: kept by glibc instead of being handed
    # back to the kernel and zeroed anew, a step of a small network takes about a tenth less.
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


GPU_JOBS = 2
"""Processes that share a GPU where nobody says how many: one feeds it while the other computes."""


class Executor(Component, ABC):
    """Base of what runs tasks.

    Attributes:
        slots: how many tasks it takes at once.
    """

    slots: int

    def suit(self, *, tasks: int, device: str) -> None:
        """Learn what it will be used for, before the first task."""

    def start(self) -> None:
        """Start its workers ahead of the first task."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Run `function(*args)`."""

    def shutdown(self, *, kill: bool = False) -> None:
        """Stop its workers: after their task, or at once."""


class LocalExecutor(Executor):
    """Processes of one thread each that live as long as the grid.

    Args:
        jobs: how many; None for the number of usable cores, and `GPU_JOBS` on a GPU.

    Raises:
        ConfigError: fewer than one job.
    """

    def __init__(self, *, jobs: int | None = None):
        if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
            raise ConfigError(f"jobs is {jobs!r}: a whole number from 1 is needed")
        self.jobs = jobs
        self.slots = jobs or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None

    def suit(self, *, tasks: int, device: str) -> None:
        """Have no more processes than the work or the device has use for; before the first task."""
        most = GPU_JOBS if device != "cpu" and self.jobs is None else self.slots
        self.slots = max(1, min(self.slots, most, tasks))

    def start(self) -> None:
        """Start the processes ahead of the first task: their imports take seconds."""
        if self._pool is None:
            self._pool = _start(self.slots)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Run `function(*args)` in a worker."""
        try:
            self.start()
            with _without_main():  # a pool may start its processes one by one
                return self._pool.submit(function, *args)
        except BrokenProcessPool:  # a worker was killed: start afresh
            self.shutdown(kill=True)
            return self.submit(function, *args)

    def shutdown(self, *, kill: bool = False) -> None:
        """Stop the workers: after their task, or at once (what is stored is whole either way)."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if kill:
            for process in list((pool._processes or {}).values()):
                process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


class SerialExecutor(Executor):
    """This process, one task at a time: for debugging, and under other people's schedulers."""

    slots = 1

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Run `function(*args)` now."""
        future: Future = Future()
        with _one_thread():
            try:
                future.set_result(function(*args))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a plugin may call sys.exit
                future.set_exception(error)
        return future


def _start(workers: int) -> ProcessPoolExecutor:
    import multiprocessing

    # Set in the environment of the children, because it has to be there before their libraries load.
    before = {name: os.environ.get(name) for name in _WORKER_ENVIRONMENT}
    os.environ.update(_WORKER_ENVIRONMENT)
    try:
        pool = ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),
            initializer=_prepare_worker,
            initargs=(os.getpid(), allowed()),
        )
        with _without_main():
            for _ in range(workers):
                pool.submit(os.getpid)
        return pool
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep new processes from importing the caller's script.

    A script that calls `medleak.run` outside ``if __name__ == "__main__"`` would start its grid again in
    every worker, and one read from standard input has no file to import. Tasks are functions of medleak
    only, so that no worker needs the script.
    """
    main = vars(sys.modules["__main__"])
    hidden = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None  # multiprocessing reads it without asking whether it is there
    try:
        yield
    finally:
        del main["__spec__"]
        main.update(hidden)


def _prepare_worker(parent: int, packages: list[str]) -> None:
    import threading
    import time

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for package in packages:
        allow(package)

    def leave_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


class _one_thread:
    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *error: Any) -> None:
        import torch

        torch.set_num_threads(self.before)
