"""Shadows through the pool against a plain sequential loop, and memory against the size of the pool."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from medleak.config.compose import Job
from medleak.data.experiment import load_experiment_data
from medleak.engine import plan as grid
from medleak.engine.executors import LocalExecutor
from medleak.training.stored_model import StoredModel

pytestmark = pytest.mark.bench
ROOT = Path(__file__).parents[2]
SHADOWS = 16
METRICS = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}


def read(group, name):
    return yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text())


def config(attack="lira", n_shadows=SHADOWS, **recipe):
    target = read("target", "phantom_cnn")
    target["dataset"] |= {"n_patients": 3000, "scans_per_patient": [1, 1]}
    target["split"] |= {"n_members": 1000, "n_auxiliary": 400, "n_evaluation": 500}
    target["recipe"] |= {"epochs": 30, "batch_size": 64} | recipe
    return {
        "target": target,
        "defense": read("defense", "none"),
        "attack": read("attack", attack),
        "seed": 0,
        "n_members": None,
        "n_shadows": n_shadows,
    }


def evaluate(logits, y):
    return float((logits.argmax(1) == y).mean())


PLAIN = textwrap.dedent(
    """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    import plain_loop
    import torch

    held = np.load(sys.argv[2])
    sets = [(torch.from_numpy(held[f"x{i}"]), torch.from_numpy(held[f"y{i}"])) for i in range(len(held) // 2)]
    print(plain_loop.seconds_of(sets, 1, **json.loads(sys.argv[3]))[0])
    """
)


def seconds_apart(sets, recipe, folder, processes):
    """Seconds of the plain loop in so many processes of one thread each, imports not counted."""
    running = []
    for first in range(processes):
        held = {}
        for i, (x, y) in enumerate(sets[first::processes]):
            held |= {f"x{i}": x.numpy(), f"y{i}": y.numpy()}
        file = folder / f"plain{first}.npz"
        np.savez(file, **held)
        command = [
            sys.executable,
            "-c",
            PLAIN,
            str(Path(__file__).parent),
            file,
            json.dumps(recipe),
        ]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return max(float(process.communicate()[0]) for process in running)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sixteen_shadows_against_a_plain_loop(benchmark, tmp_path, precision):
    """Ratio in one run, at the same accuracy; prints both. The plain loop is in fp32."""
    import os

    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    import plain_loop

    asked = config(precision=precision)
    plan = grid.plan(
        [Job((), {}, asked)], metrics=METRICS, name="b", out=tmp_path, store=tmp_path / "s"
    )
    specs = plan.cells[0].shadow_specs
    experiment = load_experiment_data(asked["target"], None)
    tensor = lambda x: torch.from_numpy(x).float() / 255  # noqa: E731
    parts = [experiment.challenge.records.take(experiment.member("audit", s.column)) for s in specs]
    sets = [(tensor(part.x), torch.from_numpy(part.y)) for part in parts]
    recipe = {
        k: asked["target"]["recipe"][k] for k in ("epochs", "batch_size", "lr", "weight_decay")
    }
    cores = len(os.sched_getaffinity(0))
    trial = {n: plain_loop.seconds_of(sets[:2], n, **recipe)[0] for n in (1, cores)}
    threads = min(trial, key=trial.get)
    plain, models = plain_loop.seconds_of(sets, threads, **recipe)

    peak = plain_loop.peak_flops(cores)
    sizes = {name: recipe[name] for name in ("epochs", "batch_size")}
    work = sum(plain_loop.training_flops(*some, **sizes) for some in sets)

    apart = seconds_apart(sets, recipe, tmp_path, cores)

    executor = LocalExecutor()
    for future in [executor.submit(time.sleep, 0.1) for _ in range(executor.slots)]:
        future.result()  # workers live as long as a grid: their start is no part of a shadow

    def pool():
        from medleak.engine.scheduler import train_task

        futures = [executor.submit(train_task, s, plan.store.root, "cpu") for s in specs]
        for future in futures:
            future.result()

    start = time.perf_counter()
    benchmark.pedantic(pool, rounds=1)
    ours = time.perf_counter() - start
    executor.shutdown()
    x, y = experiment.evaluation.x, experiment.evaluation.y
    with torch.inference_mode():
        theirs = np.mean([evaluate(m((tensor(x) - 0.5) / 0.25).numpy(), y) for m in models])
    mine = np.mean([evaluate(StoredModel(s, plan.store).logits(x), y) for s in specs])
    benchmark.extra_info |= {
        "plain_threads": threads,
        "plain_seconds": plain,
        "pool_seconds": ours,
        "ratio": plain / ours,
        "ratio_to_plain_processes": apart / ours,
        "seconds_per_shadow": ours / len(sets),
        "fraction_of_peak": work / ours / peak,
        "plain_accuracy": theirs,
        "pool_accuracy": mine,
    }
    print(
        f"\nplain loop ({threads} threads) {plain:.1f} s, pool {ours:.1f} s: {plain / ours:.2f} x"
    )
    print(
        f"{cores} plain processes {apart:.1f} s: {apart / ours:.2f} x; {ours / len(sets):.2f} s a "
        f"shadow, {work / ours / peak:.0%} of {peak / 1e9:.0f} GFLOP/s"
    )
    print(f"accuracy: plain {theirs:.3f}, pool {mine:.3f}")
    assert abs(theirs - mine) < 0.03


MEMORY = textwrap.dedent(
    """
    import json, resource, sys
    sys.path.insert(0, sys.argv[1])
    from bench_shadows import Job, METRICS, config
    from medleak.engine import plan as grid
    from medleak.engine.measure import measure
    from pathlib import Path
    from medleak.engine.scheduler import train_task
    import torch

    torch.set_num_threads(1)
    root = Path(sys.argv[2])
    asked = config(n_shadows=int(sys.argv[3]), epochs=1)
    plan = grid.plan([Job((), {}, asked)], metrics=METRICS, name="m" + sys.argv[3], out=root, store=root / "s")
    for spec in plan.missing_runs().values():
        train_task(spec, plan.store.root, "cpu")
    measure(plan.cells[0], plan.store)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
)


def test_peak_memory_does_not_grow_with_the_pool(benchmark, tmp_path):
    """LiRA with 64 shadows against 8: training and attack in one process each."""

    def peak(k):
        command = [sys.executable, "-c", MEMORY, str(Path(__file__).parent), str(tmp_path), str(k)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(run.stdout.split()[-1])

    few = peak(8)
    many = benchmark.pedantic(lambda: peak(64), rounds=1)
    benchmark.extra_info |= {"kib_8": few, "kib_64": many, "ratio": many / few}
    print(f"\npeak memory: K = 8 {few >> 10} MiB, K = 64 {many >> 10} MiB: {many / few:.3f} x")
    assert many / few < 1.1


def test_a_finished_grid_of_200_cells_issued_again(benchmark, tmp_path):
    """The whole command, start of Python included."""
    words = [
        "medleak.cli", "grid", "target=phantom_mlp", "target.recipe.epochs=1", "attack=yeom",
        "defense=none,label_only,round_scores,temperature", "n_members=20,30,40,50,60",
        "seed=range(0,10)", "--name", "many",
    ]  # fmt: skip
    command = [sys.executable, "-m", *words]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "results/grids/many/rows.json").exists(), first.stderr
    rows = json.loads((tmp_path / "results/grids/many/rows.json").read_text())
    assert len({row["cell"] for row in rows}) == 200

    def again():
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    benchmark.pedantic(again, rounds=3)
