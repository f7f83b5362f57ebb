"""The most exposed patients: chosen on one half of the targets, judged on the other."""

import numpy as np
import pytest

from medleak.api import Challenge, ConfigError, Knowledge, ProblemSpec, Records, Release, Shadow
from medleak.attacks.membership.lira import LiRA
from medleak.config.compose import Job
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine import validity as controls
from medleak.engine.executors import SerialExecutor
from medleak.engine.figures import figures
from medleak.goals.membership.goal import sample
from medleak.goals.membership.target_scores import TargetScores, most_exposed
from medleak.metrics.membership import AUC, TPRAtFPR

N, T = 400, 24
AT_1 = {"tpr_at_1fpr": TPRAtFPR(fpr=0.01), "auc": AUC()}
AUC_ONLY = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}


def runs(leak, seed):
    """Log-probabilities ``(T, N, 2)`` of runs, and who was a member of each."""
    rng = np.random.default_rng(seed)
    member = rng.random((T, N)) < 0.5
    logit = 2 * rng.standard_normal(N) + rng.standard_normal((T, N)) + leak * member
    return np.stack([-np.logaddexp(0, logit), -np.logaddexp(0, -logit)], axis=-1), member


def lira_bouts(leak, *, own_half, seed=0):
    """Real LiRA, each run the target once, shadowed by its own half of the runs or by all others."""
    answers, member = runs(leak, seed)
    x = np.arange(N, dtype=np.float32)[:, None]
    records = Records(x, np.zeros(N, dtype=np.int64), np.arange(N))
    challenge = Challenge(records, np.full(N, "natural"))
    releases = [Release({"scores": lambda x, a=a: a[x[:, 0].astype(int)]}) for a in answers]
    nobody = np.zeros(0, dtype=bool)
    scores = []
    for t in range(T):
        others = [s for s in range(T) if s != t and (not own_half or (s - t) % 2 == 0)]
        shadows = [Shadow(member[s], nobody, releases[s]) for s in others]
        knowledge = Knowledge(ProblemSpec(N // 2, N // 2, 1, (1,), 2), shadows=shadows)
        attack = LiRA(queries="identity")
        scores.append(attack.execute(releases[t], challenge, knowledge).scores)
    return TargetScores(np.stack(scores), member, records)


def judged(target_scores):
    parts = most_exposed(target_scores, np.arange(T) % 2 == 0, 0.1)
    return figures(AT_1, sample([], parts, records="natural", unit="patient"))["leakage"]


def over_seeds(own_half):
    found = [judged(lira_bouts(0.0, own_half=own_half, seed=seed)) for seed in range(10)]
    mean = {name: np.mean([one[name].value for one in found]) for name in AT_1}
    return found, mean


def test_nobody_is_exposed_where_nothing_leaks():
    found, mean = over_seeds(own_half=True)
    assert all(one["auc"].low < 0.5 < one["auc"].high for one in found)
    assert abs(mean["auc"] - 0.5) < 0.03
    assert mean["tpr_at_1fpr"] < 0.02


def test_halves_that_shadow_each_other_would_find_exposure_in_nothing():
    _, mean = over_seeds(own_half=False)
    assert mean["auc"] > 0.54  # why each half must be shadowed by itself


def test_a_planted_few_are_found_and_their_leak_is_larger_than_the_average():
    leak = np.where(np.arange(N) < 20, 4.0, 0.0)
    target_scores = lira_bouts(leak, own_half=True)
    average = figures(AT_1, sample([], [target_scores], records="natural", unit="patient"))[
        "leakage"
    ]
    exposed = judged(target_scores)
    assert average["auc"].high < 0.6 < exposed["auc"].low
    assert exposed["tpr_at_1fpr"].value > 3 * average["tpr_at_1fpr"].high
    parts = most_exposed(target_scores, np.arange(T) % 2 == 0, 0.05)
    assert all(np.mean(part.records.patients < 20) > 0.8 for part in parts)


def plan_of(toy_config, tmp_path, **asked):
    config = {**toy_config("AboveShadows", knowledge={"n_shadows": 3}), "n_targets": 8, **asked}
    job = Job((), {}, config)
    return grid.plan([job], metrics=AUC_ONLY, name="g", out=tmp_path / "o", store=tmp_path / "s")


def test_each_half_is_shadowed_by_itself_and_has_a_row_of_its_own(toy_config, tmp_path):
    plan = plan_of(toy_config, tmp_path, exposed=0.25)
    (cell,) = plan.cells
    for shadowed, half in zip(cell.shadowed_targets, cell.target_half, strict=True):
        mine = {
            d.target.column
            for d, h in zip(cell.shadowed_targets, cell.target_half, strict=True)
            if h == half
        }
        assert {s.column for s in shadowed.shadows} == mine - {shadowed.target.column}
    rows = scheduler.execute(plan, executor=SerialExecutor()).rows
    assert [row.records for row in rows] == ["natural", "natural, 25% most exposed"]
    n_patients = rows[0].leakage["auc"].n
    assert 0.25 * n_patients <= rows[1].leakage["auc"].n <= 0.5 * n_patients + 1
    assert len({row.key for row in rows}) == 2


@pytest.mark.parametrize("column", [0, 1])
def test_both_halves_have_to_be_replicas(toy_config, tmp_path, monkeypatch, column):
    real = controls.facts_of

    def odd_one_out(spec, store):
        return {**real(spec, store), **({"sigma": 9.0} if spec.column == column else {})}

    monkeypatch.setattr("medleak.release.stored_run.facts_of", odd_one_out)
    plan = plan_of(toy_config, tmp_path, exposed=0.25)
    rows = scheduler.execute(plan, executor=SerialExecutor()).rows
    assert {row.status for row in rows} == {"invalid"}
    assert "sigma of the target 9.0" in rows[0].reason


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"exposed": 0}, "above 0 and below 1"),
        ({"exposed": "a few"}, "above 0 and below 1"),
        ({"exposed": 0.1, "n_targets": 1}, "even n_targets"),
        ({"exposed": 0.1, "n_targets": 7}, "even n_targets"),
        ({"exposed": 0.1, "n_targets": 6}, "n_shadows=2"),
    ],
)
def test_what_cannot_be_halved_is_refused(toy_config, tmp_path, asked, said):
    with pytest.raises(ConfigError, match=said):
        plan_of(toy_config, tmp_path, **asked)
    assert not (tmp_path / "o").exists()
