"""Choose DP-SGD's hyper-parameters on auxiliary patients alone: python tools/tune_dp.py

Every setting of `GRID` is trained at each budget of `BUDGETS` on a random half of the auxiliary
patients of PneumoniaMNIST and judged by accuracy on the other half; the best `FINALISTS` are trained
again on other halves. Nobody who is ever attacked, or measured on, takes part. The winner and the
number of runs (`trials`) belong into conf/defense/dp_sgd*.yaml.
"""

from __future__ import annotations

import itertools
import statistics

TARGET = "pneumonia_cnn"
BUDGETS = (1, 8)
GRID = {
    "clip": (0.1, 1.0),
    "sampling_rate": (0.1, 0.25, 0.5),
    "epochs": (12, 30),
    "lr": (0.5, 2.0),
}
FINALISTS, SEEDS = 4, 3
Setting = tuple[tuple[str, float], ...]


def settings() -> list[Setting]:
    """Every point of `GRID`; the learning rate is that at a clip of .1, and falls as it grows."""
    points = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    return [tuple({**p, "lr": p["lr"] * 0.1 / p["clip"]}.items()) for p in points]


def trials() -> int:
    """How many runs a whole search takes."""
    return len(BUDGETS) * (len(settings()) + FINALISTS * (SEEDS - 1))


def accuracy(problem: Setting, epsilon: float, column: int) -> float:
    """Accuracy on the auxiliary patients who are not in `column`, of a model trained on the others."""
    from medleak.config import compose
    from medleak.targets import _training
    from medleak.training.pipeline import training_blocks
    from medleak.training.run_spec import RunSpec, build_model, make_trainer

    words = [f"defense.slots.train.{name}={value}" for name, value in problem]
    asked = [f"target={TARGET}", "defense=dp_sgd_eps1", f"defense.slots.train.epsilon={epsilon}"]
    config = compose.expand([*asked, *words])[0].config
    slots = training_blocks(config["defense"]["slots"])
    spec = RunSpec(config["target"], slots, None, "auxiliary", column)
    experiment, member = spec.experiment, spec.experiment.member("auxiliary", column)
    model = build_model(spec.target, experiment, column)
    trained = make_trainer(spec).fit(
        model, experiment.auxiliary.take(member), problem=experiment.problem, seed=column
    )
    others = _training.Data.of(experiment.auxiliary.take(~member), "cpu")
    return _training.evaluate(trained.model, others, experiment.problem.task)[1]


def main() -> None:
    from medleak.engine.executors import LocalExecutor

    executor = LocalExecutor()
    found: dict[Setting, list[float]] = {problem: [] for problem in settings()}

    def tried(some: list[Setting], columns: range) -> None:
        jobs = list(itertools.product(some, BUDGETS, columns))
        futures = [executor.submit(accuracy, *job) for job in jobs]
        for (problem, epsilon, column), future in zip(jobs, futures, strict=True):
            found[problem].append(future.result())
            print(f"{dict(problem)} epsilon={epsilon} column={column}: {future.result():.3f}")

    def best(n: int) -> list[Setting]:
        most = max(map(len, found.values()))
        finished = [problem for problem, scores in found.items() if len(scores) == most]
        return sorted(finished, key=lambda s: -statistics.mean(found[s]))[:n]

    tried(settings(), range(1))
    tried(best(FINALISTS), range(1, SEEDS))
    executor.shutdown()
    print(f"\n{sum(map(len, found.values()))} runs; best first:")
    for problem in best(FINALISTS):
        print(f"  {statistics.mean(found[problem]):.3f}  {dict(problem)}")


if __name__ == "__main__":
    main()
