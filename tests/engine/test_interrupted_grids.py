"""Grids that are killed, interrupted, or run twice at once."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from medleak.config.compose import Job
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.executors import SerialExecutor

METRICS = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}


def job(config, axes=None, overrides=()):
    return Job(overrides, axes or {}, config)


def jobs_of(toy_config, seeds=(0, 1), attacks=("Confidence", "AboveShadows"), **options):
    knowledge = {"AboveShadows": {"n_shadows": 4}}
    return [
        job(toy_config(a, seed=s, knowledge=knowledge.get(a, {}), **options), {}, (f"seed={s}",))
        for s in seeds
        for a in attacks
    ]


def figures(rows):
    return [(r.key, r.status, r.records, r.unit, r.leakage) for r in rows]


SCRIPT = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import test_support
    if __name__ == "__main__":
        test_support.main(Path(sys.argv[1]), json.loads(sys.argv[3]))
    """
)
SUPPORT = textwrap.dedent(
    """
    from pathlib import Path
    from medleak.config import instantiate as components
    from medleak.engine import plan as grid
    from medleak.engine import scheduler
    from medleak.config.compose import Job
    from medleak.engine.executors import LocalExecutor

    def main(root, spec):
        components.add_plugin_folder(Path(spec["toys"]))
        jobs = [Job((), {}, config) for config in spec["configs"]]
        plan = grid.plan(jobs, metrics=spec["metrics"], name="g", out=root / "out", store=root / "store")
        result = scheduler.execute(plan, executor=LocalExecutor(jobs=2))
        print(result.trained, result.measured, result.interrupted)
    """
)


@pytest.fixture(autouse=True)
def heeds_ctrl_c():
    """A suite that runs in the background (``make test &``) ignores it, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Outside:
    """The same grid in a process of its own, to be killed."""

    def __init__(self, folder: Path, configs):
        folder.mkdir(exist_ok=True)
        (folder / "script.py").write_text(SCRIPT)
        (folder / "test_support.py").write_text(SUPPORT)
        self.folder = folder
        toys = str(Path(__file__).parents[1] / "toys")
        self.spec = json.dumps({"toys": toys, "configs": configs, "metrics": METRICS})

    def start(self):
        command = [sys.executable, "script.py", ".", ".", self.spec]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def finish(self):
        process = self.start()
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return out.split()

    def plan(self):
        configs = json.loads(self.spec)["configs"]
        jobs = [job(config) for config in configs]
        out, store = self.folder / "out", self.folder / "store"
        return grid.plan(jobs, metrics=METRICS, name="g", out=out, store=store)


@pytest.fixture
def outside(toy_config, tmp_path):
    def make(name, wait=0.1):
        jobs = jobs_of(toy_config, seeds=(0, 1, 2), recipe={"wait": wait})
        return Outside(tmp_path / name, [job.config for job in jobs])

    return make


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_the_table_is_that_of_an_undisturbed_grid(outside, kills):
    calm, victim = outside("calm"), outside("victim")
    start = time.monotonic()
    calm.finish()
    whole = time.monotonic() - start
    rng = random.Random(0)
    for _ in range(kills):
        process = victim.start()
        time.sleep(rng.uniform(0.3, 1.0) * whole)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    victim.finish()
    assert figures(victim.plan().rows()) == figures(calm.plan().rows())
    assert not victim.plan().store.verify()
    trained, measured, _ = victim.finish()
    assert (trained, measured) == ("0", "0")


def test_two_processes_on_one_grid_never_train_a_run_twice(outside):
    both = outside("both")
    one, two = both.start(), both.start()
    outs = [process.communicate(timeout=300)[0] for process in (one, two)]
    assert one.returncode == two.returncode == 0
    plan = both.plan()
    assert {row.status for row in plan.rows()} == {"ok"}
    made = plan.store.keys("runs")
    assert len(made) == len({s.key for c in plan.cells for s in c.specs})
    assert sum(int(out.split()[0]) for out in outs) == len(made)


def test_ctrl_c_stops_cleanly_and_the_next_command_resumes(outside):
    stopped = outside("stopped", wait=1.0)  # far from done when the signal arrives
    process = stopped.start()
    while not list((stopped.folder / "store" / "runs").glob("*/*")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.split()[2] == "True"
    assert not stopped.plan().store.verify()
    trained, _, _ = stopped.finish()
    assert int(trained) < 7
    assert {row.status for row in stopped.plan().rows()} == {"ok"}


def test_ctrl_c_that_a_callback_swallows_is_noticed(toy_config, tmp_path):
    class Swallowing(SerialExecutor):
        count = 0

        def submit(self, function, *args):
            self.count += 1
            with contextlib.suppress(KeyboardInterrupt):  # as callbacks of futures do
                signal.raise_signal(signal.SIGINT)
            return super().submit(function, *args)

    before, executor = signal.getsignal(signal.SIGINT), Swallowing()
    plan = grid.plan(
        [Job((), {}, toy_config())], metrics={}, out=tmp_path / "out", store=tmp_path / "store"
    )
    assert scheduler.execute(plan, executor=executor).interrupted
    assert executor.count == 1
    assert signal.getsignal(signal.SIGINT) is before
