"""Runs a plan on an executor: training runs first, each cell as soon as its runs are stored.

Workers write what they finish into the store, so that an interruption loses only what was under
way. Two grids may work on the same store: a run that another process is training is waited for.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from medleak.api import MedleakError
from medleak.core.devices import pick_device
from medleak.core.progress import bar
from medleak.core.store import Store, write_atomically
from medleak.engine.cell import Cell
from medleak.engine.executors import LocalExecutor
from medleak.engine.measure import measure
from medleak.engine.plan import Plan, Result, save_manifest
from medleak.results.saved import FAILURES, MANIFEST
from medleak.training.run_spec import RunSpec
from medleak.training.train import train

POLL_SECONDS = 0.3
BUSY, DONE, STORED = "busy", "done", "stored"


class Outcome(NamedTuple):
    """How a task ended (`BUSY` where another process is at it), and how long it worked."""

    status: str
    seconds: float


def train_task(spec: RunSpec, root: Path, device: str) -> Outcome:
    """In a worker: train and store `spec`."""
    start = time.perf_counter()
    trained = train(spec, Store(root), device=device)
    status = BUSY if trained is None else DONE if trained else STORED
    return Outcome(status, time.perf_counter() - start)


def cell_task(cell: Cell, root: Path, device: str) -> Outcome:
    """In a worker: measure and store `cell`."""
    store, start = Store(root), time.perf_counter()
    with store.claim("cells", cell.key) as mine:
        if not mine:
            return Outcome(BUSY, 0.0)
        if store.get("cells", cell.key) is not None:
            return Outcome(STORED, 0.0)
        measure(cell, store, device=device)
        return Outcome(DONE, time.perf_counter() - start)


@dataclass(frozen=True)
class Options:
    """How to run: see `execute`."""

    budget: float | None = None
    retry_failed: bool = False
    fail_fast: bool = False


@dataclass
class _State:
    """What is to do, what is under way and what went wrong."""

    runs: dict[str, RunSpec]
    cells: dict[str, Cell]
    queue: deque[str] = field(default_factory=deque)
    waiting: dict[str, set[str]] = field(default_factory=dict)
    flying: dict[Future, str] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    suspects: deque[str] = field(default_factory=deque)
    suspected: set[str] = field(default_factory=set)
    repaired: set[str] = field(default_factory=set)
    stopped: str = "not measured"
    trained: int = 0
    measured: int = 0
    elsewhere: int = 0
    failed: int = 0
    worked: float = 0.0

    def __len__(self) -> int:
        return len(self.runs) + len(self.cells)

    @property
    def finished(self) -> int:
        return self.trained + self.measured + self.elsewhere + self.failed


def execute(
    plan: Plan,
    *,
    executor: Any = None,
    jobs: int | None = None,
    budget: float | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    progress: bool = False,
) -> Result:
    """Run what is missing of `plan`.

    Args:
        executor: see `medleak.engine.executors`; by default local processes.
        jobs: number of processes.
        budget: seconds after which nothing new is started; the rest is `not_run (budget)`.
        retry_failed: try failed cells again.
        fail_fast: start nothing new after the first failure.
        progress: draw a bar on standard error.

    Returns:
        All rows; `interrupted` where Ctrl-C stopped the work.
    """
    start = time.monotonic()
    options = Options(budget, retry_failed, fail_fast)
    executor = executor or LocalExecutor(jobs=jobs)
    plan.store.ready()
    state = _prepare(plan, options)
    interrupted = False
    signals = _Interrupts()
    try:
        signals.observer()
        if state.cells or not (plan.folder / MANIFEST).exists():
            plan.device = pick_device(plan.device)
            executor.suit(tasks=len(state), device=plan.device)
            if len(state):
                executor.start()
            save_manifest(plan, plan.device)
        with bar(progress) as report:
            _work(plan, state, executor, options, partial(report, total=len(state)), signals)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        try:
            executor.shutdown(kill=bool(state.flying))
        finally:
            signals.release()
    reason = "interrupted" if interrupted else state.stopped
    rows = plan.rows(reason)
    if (plan.folder / MANIFEST).exists():  # else stopped before there was a grid to speak of
        save_rows(plan, rows)
    return Result(
        rows,
        plan.folder,
        interrupted,
        seconds=time.monotonic() - start,
        worked=state.worked / executor.slots,
        trained=state.trained,
        measured=state.measured,
    )


class _Interrupts:
    """Remembers Ctrl-C while a grid is at work.

    Python raises KeyboardInterrupt wherever the main thread happens to be. In a callback of a future,
    of a weak reference or of garbage collection it is printed and dropped: the loop that looks here
    notices all the same. Only the main thread may watch, and only what raises is replaced.
    """

    def __init__(self) -> None:
        self.seen, self._before = False, None

    def observer(self) -> None:
        """Note every interruption from here on, and let it act as before."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.seen = True
        self._before(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt where there was one."""
        if self.seen:
            raise KeyboardInterrupt

    def release(self) -> None:
        """Give the handler back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


def save_rows(plan: Plan, rows: list[Any]) -> None:
    """Keep the rows next to the manifest, for `report` and `explain`."""
    write_atomically(plan.folder / "rows.json", json.dumps([row.to_json() for row in rows]))


def _prepare(plan: Plan, options: Options) -> _State:
    cells = {}
    for cell in plan.wanted():
        failure = plan.folder / FAILURES / f"{cell.key}.json"
        if failure.exists() and not options.retry_failed and not _transient(failure):
            continue
        failure.unlink(missing_ok=True)
        cells[cell.key] = cell
    runs = plan.missing_runs(cells.values())
    state = _State(runs, cells)
    for key, cell in cells.items():
        state.waiting[key] = {spec.key for spec in cell.specs} & runs.keys()
    state.queue.extend(runs)
    state.queue.extendleft(key for key, needs in state.waiting.items() if not needs)
    return state


def _work(
    plan: Plan,
    state: _State,
    executor: Any,
    options: Options,
    report: Callable[..., None],
    signals: _Interrupts,
) -> None:
    start = time.monotonic()
    report(0, what="")
    while state.queue or state.suspects or state.flying or state.again:
        signals.check()
        late = options.budget is not None and time.monotonic() - start > options.budget
        if late or (options.fail_fast and state.failed):
            state.stopped = "budget" if late else "stopped at a failure"
            for waiting in (state.queue, state.suspects, state.again):
                waiting.clear()
        _requeue(state)
        while key := _next(state, executor.slots):
            task, subject = (
                (train_task, state.runs[key])
                if key in state.runs
                else (cell_task, state.cells[key])
            )
            state.flying[executor.submit(task, subject, plan.store.root, plan.device)] = key
        if not state.flying:
            time.sleep(POLL_SECONDS if state.again else 0)
            continue
        done, _ = wait(state.flying, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            what = _settle(plan, state, state.flying.pop(future), future)
            report(min(state.finished, len(state)), what=what)


def _next(state: _State, slots: int) -> str | None:
    """The next task, or None. Suspects of having killed a worker run alone, when all else is done."""
    if state.queue and len(state.flying) < slots:
        return state.queue.popleft()
    if state.suspects and not state.queue and not state.flying:
        return state.suspects.popleft()
    return None


def _requeue(state: _State) -> None:
    now = time.monotonic()
    for key in [key for key, due in state.again.items() if due <= now]:
        del state.again[key]
        state.queue.append(key)


def _settle(plan: Plan, state: _State, key: str, future: Future) -> str:
    """Take note of a finished task; what it was, for the progress bar."""
    error = future.exception()
    if isinstance(error, BrokenProcessPool) and key not in state.suspected:
        # Every task in flight breaks with the pool, guilty or not: each is tried again, alone.
        state.suspected.add(key)
        state.suspects.append(key)
        return ""
    if error is not None:
        return "" if _repair(plan, state, key) else _fail(plan, state, key, error)
    outcome, seconds = future.result()
    state.worked += seconds
    if outcome == BUSY:
        state.again[key] = time.monotonic() + POLL_SECONDS
        return ""
    state.elsewhere += outcome == STORED
    if key in state.cells:
        state.measured += outcome == DONE
        return f"measured {state.cells[key].config['attack']['name']}"
    state.trained += outcome == DONE
    _ready(state, key)
    return f"trained {state.runs[key].target['name']}"


def _repair(plan: Plan, state: _State, key: str) -> bool:
    """Whether a cell failed for a damaged run, which was set aside and is now to be made again."""
    if key not in state.cells or key in state.repaired:
        return False
    missing = plan.missing_runs([state.cells[key]])
    if missing:
        state.repaired.add(key)
        state.runs |= missing
        state.waiting[key] = set(missing)
        state.queue.extend(k for k in missing if k not in state.queue)
    return bool(missing)


def _ready(state: _State, run: str) -> None:
    for key, needs in state.waiting.items():
        if run in needs:
            needs.discard(run)
            if not needs:
                state.queue.appendleft(key)


def _fail(plan: Plan, state: _State, key: str, error: BaseException) -> str:
    reason = _reason(error)
    write = partial(_write_failure, plan, transient=isinstance(error, OSError))
    if key in state.cells:
        write(key, reason)
        state.failed += 1
        return f"failed: {reason}"
    for cell, needs in list(state.waiting.items()):
        if key in needs:
            spec = state.runs[key]
            write(cell, f"training ({spec.pool} column {spec.column}): {reason}")
            del state.waiting[cell]
            state.failed += 1
    wanted = set().union(*state.waiting.values()) if state.waiting else set()
    state.queue = deque(k for k in state.queue if k in state.cells or k in wanted)
    return f"failed: {reason}"


def _write_failure(plan: Plan, cell: str, reason: str, *, transient: bool) -> None:
    failure = json.dumps({"reason": reason, "transient": transient})
    write_atomically(plan.folder / FAILURES / f"{cell}.json", failure)


def _transient(failure: Path) -> bool:
    """Whether the machine was to blame (a full disk, say): such cells are tried again unasked."""
    return bool(json.loads(failure.read_text()).get("transient"))


def _reason(error: BaseException) -> str:
    if isinstance(error, MedleakError):
        return " ".join(str(error).split())
    if isinstance(error, BrokenProcessPool):
        return "its worker process died: out of memory, or the code ended it"
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
