"""Membership metrics: null behaviour, flags, subgroups, and the shipped YAMLs."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from medleak.api import Curve, Estimate, MembershipScores, MembershipTruth
from medleak.config.instantiate import build
from medleak.metrics.groups import by_group, worst_group
from medleak.metrics.membership import (
    AUC,
    Advantage,
    BalancedAccuracy,
    PrecisionAtPrior,
    ROCCurve,
    TPRAtFPR,
    subgroups,
)

CONF = Path(__file__).parents[2] / "conf" / "metric"
NAMES = [
    "auc", "balanced_accuracy", "advantage", "tpr_at_10fpr", "tpr_at_1fpr", "tpr_at_01fpr",
    "precision_at_prior_50", "precision_at_prior_10", "roc",
]  # fmt: skip


def game(n=200, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    return MembershipScores(rng.normal(size=n) + shift * member, np.arange(n)), MembershipTruth(
        member
    )


@pytest.mark.parametrize("name", NAMES)
def test_shipped_yaml_builds_and_measures(name):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert config["name"] == name
    metric = build(config)
    assert eval(repr(metric), vars(__import__("medleak.metrics.membership", fromlist=["x"])))
    got = metric(*game(4000, 1.0))
    if isinstance(got, Curve):
        assert len(got.x) == len(got.y) == len(got.low) == len(got.high)
        assert got.x[0] == 0
        assert 1e-3 in got.x
        assert all(a <= b <= c for a, b, c in zip(got.low, got.y, got.high, strict=True))
        assert list(got.y) == sorted(got.y)
    else:
        assert got.low < got.value < got.high
        assert got.n == 4000
        assert metric.lower_bound(*game(4000, 1.0)) <= got.low


def test_without_a_leak_the_chance_level_lies_within_the_interval():
    chance = {
        AUC(): 0.5,
        BalancedAccuracy(): 0.5,
        Advantage(): 0.0,
        PrecisionAtPrior(prior=0.1): 0.1,
        TPRAtFPR(fpr=0.1): 0.1,
    }
    hits = np.zeros(len(chance))
    for seed in range(100):
        scored, secret = game(seed=seed)
        for i, (metric, value) in enumerate(chance.items()):
            got = metric(scored, secret)
            hits[i] += got.value is None or got.low <= value <= got.high
    assert (hits >= 89).all(), hits


def test_cross_fitted_balanced_accuracy_is_unbiased_where_the_best_threshold_is_not():
    from medleak.metrics.statistics.roc import roc

    fitted, oracle = [], []
    for seed in range(400):
        scored, secret = game(100, seed=seed)
        fitted.append(BalancedAccuracy()(scored, secret).value)
        fpr, tpr = roc(scored.scores, secret.member)
        oracle.append((1 + (tpr - fpr).max()) / 2)
    error = np.std(fitted) / np.sqrt(len(fitted))
    assert abs(np.mean(fitted) - 0.5) < 3.5 * error
    assert np.mean(oracle) > 0.55


def test_cross_fitted_lower_bound_holds_at_chance():
    metric = BalancedAccuracy()
    above = sum(metric.lower_bound(*game(100, seed=s), level=0.99) > 0.5 for s in range(1000))
    assert above <= 10 + 3 * np.sqrt(10)


def test_advantage_is_twice_balanced_accuracy_less_one():
    scored, secret = game(300, 1.0)
    half, full = BalancedAccuracy()(scored, secret), Advantage()(scored, secret)
    for part in ("value", "low", "high"):
        assert getattr(full, part) == pytest.approx(2 * getattr(half, part) - 1)
    worse = MembershipScores(-scored.scores, scored.patients)
    assert Advantage()(worse, secret).value <= 0


def test_precision_follows_from_the_rates():
    scored, secret = game(1000, 1.5)
    even = PrecisionAtPrior(prior=0.5)(scored, secret).value
    rare = PrecisionAtPrior(prior=0.01)(scored, secret).value
    odds = even / (1 - even)
    assert rare == pytest.approx(odds / (odds + 99))
    perfect = MembershipScores(secret.member.astype(float), scored.patients)
    got = PrecisionAtPrior(prior=0.1)(perfect, secret)
    assert got.value == got.high == 1
    assert got.low < 0.95
    nothing = MembershipScores(-secret.member.astype(float), scored.patients)
    assert PrecisionAtPrior(prior=0.1)(nothing, secret).value is None
    assert PrecisionAtPrior(prior=0.1)(nothing, secret).flag == "nobody was flagged"


def test_tpr_says_when_the_threshold_rests_on_too_few():
    member = np.arange(2000) < 1000
    scored, secret = (
        MembershipScores(np.random.default_rng(0).normal(size=2000), np.arange(2000)),
        MembershipTruth(member),
    )
    assert TPRAtFPR(fpr=0.01)(scored, secret).flag == ""
    assert TPRAtFPR(fpr=0.001)(scored, secret).flag == "N*FPR < 10"
    assert TPRAtFPR(fpr=0.001, pooled_only=True)(scored, secret).value is not None
    small = (
        MembershipScores(scored.scores[1:-1], scored.patients[1:-1]),
        MembershipTruth(member[1:-1]),
    )
    got = TPRAtFPR(fpr=0.001, pooled_only=True)(*small)
    assert got.value is None
    assert got.flag == "N*FPR < 1: too few patients"
    assert TPRAtFPR(fpr=0.001, pooled_only=True).lower_bound(*small) is None
    scans = MembershipScores(scored.scores, np.arange(2000) // 2)  # half as many patients
    assert TPRAtFPR(fpr=0.01)(scans, secret).flag == "N*FPR < 10"
    assert TPRAtFPR(fpr=0.01)(scans, secret).n == 1000


@pytest.mark.parametrize("truth", [np.ones(5, bool), np.zeros(5, bool), np.zeros(0, bool)])
def test_an_empty_class_is_not_measured(truth):
    scored = MembershipScores(np.arange(len(truth), dtype=float), np.arange(len(truth)))
    metrics = {"auc": AUC(), "bacc": BalancedAccuracy(), "tpr": TPRAtFPR(), "roc": ROCCurve()}
    for metric in metrics.values():
        got = metric(scored, MembershipTruth(truth))
        assert isinstance(got, Estimate)
        assert got.value is None
        assert got.flag


def test_infinite_and_constant_scores():
    member = np.arange(40) < 20
    for scores in (np.where(member, np.inf, -np.inf), np.where(member, 0, -np.inf)):
        scored = MembershipScores(scores, np.arange(40))
        assert AUC()(scored, MembershipTruth(member)).value == 1
        assert BalancedAccuracy()(scored, MembershipTruth(member)).value == 1
    same = MembershipScores(np.zeros(40), np.arange(40))
    assert AUC()(same, MembershipTruth(member)).value == 0.5
    assert BalancedAccuracy()(same, MembershipTruth(member)).value == 0.5
    assert TPRAtFPR(fpr=0.1)(same, MembershipTruth(member)).value == 0


def groups_of(n, seed=0):
    rng = np.random.default_rng(1000 + seed)
    return {
        "sex": rng.choice(["F", "M", ""], n, p=[0.5, 0.4, 0.1]),
        "site": np.array(["A"] * (n - 12) + ["B"] * 12),
    }


def test_groups_skip_unknown_and_refuse_small_ones():
    scored, secret = game(400, 1.0)
    groups = groups_of(400)
    found = by_group({"auc": AUC(), "roc": ROCCurve()}, subgroups(scored, secret, groups))
    assert set(found) == {"sex=F", "sex=M", "site=A", "site=B"}
    assert found["site=B"]["auc"].value is None
    assert found["site=B"]["auc"].flag.startswith("too few")
    mask = groups["sex"] == "F"
    alone = AUC()(
        MembershipScores(scored.scores[mask], scored.patients[mask]),
        MembershipTruth(secret.member[mask]),
    )
    assert found["sex=F"]["auc"] == alone
    assert "roc" not in found["sex=F"]


def test_worst_group_is_the_largest_with_a_corrected_interval():
    scored, secret = game(400, 1.0)
    groups = groups_of(400)
    found = by_group({"auc": AUC()}, subgroups(scored, secret, groups))
    worst = worst_group({"auc": AUC()}, subgroups(scored, secret, groups))["auc"]
    plain = found[worst["group"]]["auc"]
    assert worst["value"] == max(g["auc"].value for g in found.values() if g["auc"].value)
    assert worst["low"] < plain.low
    assert worst["high"] > plain.high
    assert "largest of 3 groups measured, Bonferroni" in worst["method"]
    assert worst["method"].endswith("; 1 more too small to measure")  # site=B
    assert worst["level"] == 0.95
    assert worst_group({"auc": AUC()}, subgroups(scored, secret, {"sex": np.full(400, "")})) == {}


def test_worst_of_many_equal_groups_is_not_called_worse_than_chance():
    wrong = naive = 0
    for seed in range(120):
        scored, secret = game(400, seed=seed)
        groups = {"site": np.array(list("ABCDEFGH"))[np.arange(400) % 8]}
        worst = worst_group({"auc": AUC()}, subgroups(scored, secret, groups))["auc"]
        wrong += worst["low"] > 0.5
        found = by_group({"auc": AUC()}, subgroups(scored, secret, groups))
        naive += found[worst["group"]]["auc"].low > 0.5
    assert wrong / 120 < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 120)
    assert naive > 2 * wrong
