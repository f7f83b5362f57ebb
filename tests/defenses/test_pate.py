"""PATE: who sees what, what is promised for it, and that the promise is the mechanism's."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from medleak.api import ConfigError, ProblemSpec, Records, Trained, Trainer
from medleak.defenses.train._recipes import changed
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.mixup import MixUp
from medleak.defenses.train.pate import PATE, noisy_argmax
from medleak.metrics.privacy.upper_bounds import tradeoff
from medleak.targets.recipes import SGD

PROBLEM = ProblemSpec(120, 60, 2, (4,), 2)


class Watched(Trainer):
    """Notes what it was given, and learns nothing."""

    def __init__(self):
        self.seen = []

    def fit(self, model, records, *, validation=None, seed, **_):
        self.seen.append((records, validation, seed))
        return Trained(model, {"criterion": "none"})


def people(n=60, scans=2, seed=0, labels=None, gap=2.0):
    """An easy table: the class moves every feature by `gap`; sites take turns."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), scans) + 1000 * seed
    y = rng.integers(0, 2, n if labels is None else (n, labels)).repeat(scans, axis=0)
    signal = y[:, None] if labels is None else y
    x = rng.normal(size=(n * scans, 4)) * 0.5
    x[:, : signal.shape[1] if labels else 4] += gap * (signal - 0.5)
    site = np.array(["A", "B", "C"])[np.arange(n * scans) % 3]
    return Records(x.astype(np.float32), y, patients, {"site": site})


def observed_by(defense, data, public, problem=PROBLEM, seed=0):
    trainer = Watched()
    model = nn.Linear(4, 2)
    torch.nn.init.zeros_(model.weight)
    result = defense.apply(trainer, problem=problem).fit(
        model, data, problem=problem, seed=seed, validation=public
    )
    *teachers, student = trainer.seen
    return teachers, student, result


def test_the_student_sees_no_member_and_teachers_share_none():
    data, public = people(), people(40, seed=1)
    teachers, (lesson, validation, _), _ = observed_by(
        PATE(sigma=1, teachers=7, queries=50), data, public
    )
    assert len(teachers) == 7
    assert (lesson.x == public.x[:50]).all()
    assert set(lesson.patients) <= set(public.patients)
    assert validation is None
    assert all(v is None for _, v, _ in teachers)
    own = [set(records.patients.tolist()) for records, _, _ in teachers]
    assert sum(map(len, own)) == len(set.union(*own)) == 60
    assert sum(len(records) for records, _, _ in teachers) == len(data)
    assert len({seed for _, _, seed in teachers}) == 7


@pytest.mark.parametrize("how", [{"teachers": 7}, {"group": "site"}])
def test_one_patient_more_or_less_touches_one_teacher(how):
    data, public = people(), people(40, seed=1)
    defense = PATE(sigma=1, queries=50, **how)

    def tasks(records):
        teachers, _, _ = observed_by(defense, records, public)
        return {seed: own.x.tobytes() for own, _, seed in teachers}

    before = tasks(data)
    for patient in (0, 17, 59):
        after = tasks(data.take(data.patients != patient))
        assert after.keys() == before.keys()
        assert sum(after[name] != before[name] for name in before) == 1


def test_a_patient_of_two_sites_belongs_to_the_first():
    data = people()
    teachers, _, result = observed_by(
        PATE(sigma=1, group="site", queries=10), data, people(9, seed=1)
    )
    assert result.facts["teachers"] == 3
    for own, _, _ in teachers:
        first = np.unique(own.patients, return_index=True)[1]
        assert len(set(own.groups["site"][first])) == 1
        assert len(set(own.groups["site"])) > 1


def test_a_teacher_of_one_record_abstains():
    data = people(3, scans=1)
    _, _, result = observed_by(PATE(sigma=1, group="site", queries=10), data, people(9, seed=1))
    assert result.facts["teachers"] == 0
    assert result.facts["n_records"] == result.facts["n_patients"] == 3


def test_without_noise_the_majority_wins_and_with_too_much_nobody_does():
    counts = np.random.default_rng(0).integers(0, 50, (4000, 5)).astype(float)
    assert (noisy_argmax(counts, 0.0, np.random.default_rng(1)) == counts.argmax(1)).all()
    drowned = noisy_argmax(counts, 1e9, np.random.default_rng(1))
    assert np.bincount(drowned, minlength=5) / 4000 == pytest.approx(0.2, abs=0.03)
    assert (drowned == counts.argmax(1)).mean() == pytest.approx(0.2, abs=0.03)


def test_of_two_classes_the_vote_flips_as_the_normal_law_says():
    gap, sigma = 6.0, 10.0
    counts = np.tile([20.0, 20.0 + gap], (40000, 1))
    right = (noisy_argmax(counts, sigma, np.random.default_rng(0)) == 1).mean()
    assert right == pytest.approx(norm.cdf(gap / (math.sqrt(2) * sigma)), abs=0.01)


def train(defense, data, public, problem=PROBLEM, outputs=2, seed=0):
    torch.manual_seed(0)
    trainer = defense.apply(SGD(epochs=20, batch_size=16, lr=0.1), problem=problem)
    return trainer.fit(nn.Linear(4, outputs), data, problem=problem, seed=seed, validation=public)


@pytest.mark.parametrize("labels", [None, 3])
def test_where_teachers_agree_the_student_learns(one_thread, labels):
    data, public = people(labels=labels), people(60, seed=1, labels=labels)
    held_out = people(200, seed=2, labels=labels)
    problem = ProblemSpec(120, 60, 2, (4,), labels or 2, "multilabel" if labels else "multiclass")
    trained = train(PATE(sigma=2, teachers=8, queries=100), data, public, problem, labels or 2)
    facts = trained.facts
    assert facts["vote_accuracy"] > 0.9
    z = trained.model(torch.from_numpy(held_out.x)).detach().numpy()
    assert ((z > 0 if labels else z.argmax(1)) == held_out.y).mean() > 0.9
    assert (facts["teachers"], facts["queries"], facts["sigma"]) == (8, 100, 2)
    assert facts["answers"] == 100 * (labels or 1)
    assert facts["n_records"] == 120


def test_under_drowning_noise_the_student_is_the_same_whoever_the_members_are(one_thread):
    public = people(60, seed=1)
    defense = PATE(sigma=1e9, teachers=5, queries=100)
    one, other = (train(defense, people(seed=s), public) for s in (2, 3))
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert one.facts["vote_accuracy"] == pytest.approx(0.5, abs=0.15)
    again, apart = (
        train(PATE(sigma=1, teachers=5, queries=100), people(seed=2), public, seed=s)
        for s in (0, 1)
    )
    assert not torch.equal(again.model.weight, one.model.weight)
    assert not torch.equal(again.model.weight, apart.model.weight)


def gaussian_delta(epsilon, mu):
    """Dong, Roth & Su 2022, corollary 2.13."""
    far = norm.cdf(-epsilon / mu - mu / 2)
    return norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * far


@pytest.mark.parametrize(("sigma", "queries"), [(40.0, 100), (10.0, 50), (200.0, 30)])
def test_the_price_is_that_of_gaussian_dp(sigma, queries):
    defense = PATE(sigma=sigma, teachers=10, queries=queries, delta=1e-3)
    (promise,) = defense.guarantees(PROBLEM, SGD())
    mu = math.sqrt(2 * queries) / sigma
    assert gaussian_delta(promise.epsilon, mu) == pytest.approx(1e-3, rel=0.02)
    assert gaussian_delta(promise.epsilon, mu) <= 1e-3
    order = np.linspace(1.01, 200, 4000)
    renyi = order * queries / sigma**2 + np.log(1e3) / (order - 1)
    assert promise.epsilon <= renyi.min()
    fpr, tpr = tradeoff(promise.mechanism)
    assert tpr[1:-1] == pytest.approx(norm.cdf(norm.ppf(fpr[1:-1]) + mu), abs=2e-3)


def test_a_given_epsilon_is_spent_and_a_label_of_several_is_an_answer_of_its_own():
    problem = ProblemSpec(120, 60, 2, (4,), 3, "multilabel")
    defense = PATE(epsilon=4, teachers=10, queries=20)
    (promise,) = defense.guarantees(problem, SGD())
    assert promise.mechanism["steps"] == 60
    assert promise.delta == 1 / 600
    mu = math.sqrt(60) / promise.mechanism["sigma"]
    assert gaussian_delta(4, mu) == pytest.approx(promise.delta, rel=0.02)
    assert defense.ledger(problem)["sigma"] == math.sqrt(2) * promise.mechanism["sigma"]


def test_the_unit_is_what_membership_is_drawn_by():
    defense = PATE(epsilon=4, teachers=10)
    for unit, promised in (("patient", "patient"), ("image (patient unknown)", "record")):
        (promise,) = defense.guarantees(ProblemSpec(60, 60, 1, (4,), 2, unit=unit), SGD())
        assert (promise.kind, promise.unit, promise.adjacency) == ("dp", promised, "add/remove")
        assert any("validation patients are public" in a for a in promise.assumptions)


def test_refusals():
    public = ProblemSpec(60, 60, 1, (1, 8, 8), 2)
    private = DPSGD(epsilon=8).apply(SGD(batch_size=10), problem=public)
    stopping = SGD(early_stopping={"patience": 2})
    defense = PATE(epsilon=8, teachers=100)
    assert [r.split()[0] for r in defense.incompatibilities(public, stopping)] == [
        "early_stopping",
        "100",
    ]
    assert "batches were drawn" in defense.incompatibilities(public, private)[0]
    ensemble = PATE(epsilon=8, teachers=5).apply(SGD(), problem=public)
    assert "has none" in DPSGD(epsilon=8).incompatibilities(public, ensemble)[0]
    assert "has none" in MixUp().incompatibilities(public, ensemble)[0]
    mixed = MixUp().apply(SGD(), problem=public)
    assert PATE(epsilon=8, teachers=5).incompatibilities(public, mixed) == []
    assert changed(ensemble).incompatibilities(public) == []


def test_too_few_public_records_and_unknown_columns_are_named():
    for public in (None, people(20, seed=1)):
        with pytest.raises(ConfigError, match=r"labels 100 validation records.*n_validation"):
            observed_by(PATE(sigma=1, teachers=5), people(), public)
    with pytest.raises(ConfigError, match="did you mean 'site'"):
        observed_by(PATE(sigma=1, group="sight", queries=10), people(), people(20, seed=1))


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"teachers": 5}, "exactly one of epsilon and sigma"),
        ({"teachers": 5, "epsilon": 1, "sigma": 1}, "exactly one of epsilon and sigma"),
        ({"epsilon": 1}, "exactly one of teachers and group"),
        ({"epsilon": 1, "teachers": 5, "group": "site"}, "exactly one of teachers and group"),
        ({"epsilon": 0, "teachers": 5}, "epsilon must be"),
        ({"sigma": -1, "teachers": 5}, "sigma must be"),
        ({"epsilon": 1, "teachers": 0}, "teachers must be"),
        ({"epsilon": 1, "teachers": 5, "queries": 1}, "queries must be"),
        ({"epsilon": 1, "teachers": 5, "delta": 1}, "delta must be below 1"),
    ],
)
def test_bad_settings_are_configuration_errors(keywords, named):
    (fault,) = PATE(**keywords).invalid_parameters()
    assert named in fault
    for use in (PATE(**keywords).apply, PATE(**keywords).guarantees):
        with pytest.raises(ConfigError, match=named):
            use(SGD(), problem=PROBLEM) if use.__name__ == "apply" else use(PROBLEM, SGD())
