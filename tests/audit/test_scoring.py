"""Scores measured in a script are those of `medleak audit`."""

import numpy as np
import pytest

import medleak
from medleak.api import ConfigError, Curve, DataError
from medleak.audit import given_scores

RNG = np.random.default_rng(0)
PATIENTS = np.repeat(np.arange(150), 2)
MEMBER = np.repeat(RNG.random(150) < 0.5, 2)
SCORES = RNG.normal(size=300) + MEMBER
SEX = np.repeat(np.where(RNG.random(150) < 0.5, "F", "M"), 2)


def test_the_figures_are_those_of_an_audit(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, scores=SCORES, member=MEMBER, patients=PATIENTS, group_sex=SEX)
    claim = given_scores.claim(1.0, 1e-5, "patient")
    sample = given_scores.read_scores(path)
    audit = given_scores.of_samples(
        [sample], name="scores", source="", guarantees=claim, delta=1e-5
    )
    score = medleak.score(
        SCORES, MEMBER, patients=PATIENTS, groups={"sex": SEX},
        epsilon=1.0, delta=1e-5, unit="patient",
    )  # fmt: skip
    assert (score.row, score.bounds) == (audit.rows[0], audit.bounds)
    assert score["auc"].n == 150
    assert isinstance(score["roc"], Curve)
    assert score.row.upper_bounds["auc"] == pytest.approx(0.7311, abs=1e-3)
    assert score.row.violations == ("auc",)


def test_a_claim_says_its_unit_where_patients_have_several_records():
    claim = {"patients": PATIENTS, "epsilon": 1, "delta": 1e-5, "metrics": ["auc"]}
    with pytest.raises(ConfigError, match="record or patient"):
        medleak.score(SCORES, MEMBER, **claim)
    # Two records of a patient are promised less than one.
    bounds = [
        medleak.score(SCORES, MEMBER, unit=unit, **claim).row.upper_bounds["auc"] or 1.0
        for unit in ("record", "patient")
    ]
    assert bounds[0] > bounds[1]


def test_the_frame_and_the_print():
    score = medleak.score(SCORES.tolist(), MEMBER.astype(int), metrics=["auc", "roc"])
    assert set(score.row.leakage) == {"auc", "roc"}
    line = score.frame.set_index("measure").loc["auc"]
    assert (line["value"], line["n"]) == (score["auc"].value, 300)
    assert f"{score['auc'].value:.3f}" in repr(score)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"metrics": ["acu"]}, ConfigError, "did you mean 'auc'"),
        ({"epsilon": 1.0}, ConfigError, "delta"),
        ({"epsilon": -1.0, "delta": 0.0}, ConfigError, "epsilon -1.0"),
        ({"unit": "patents", "epsilon": 1.0, "delta": 0.0}, ConfigError, "did you mean 'patient'"),
        ({"member": MEMBER[:5]}, DataError, r"member has shape \(5,\)"),
        ({"member": MEMBER | True}, DataError, "all records are members"),
        ({"patients": PATIENTS[:5]}, DataError, "patients has shape"),
        ({"groups": {"sex": SEX[:5]}}, DataError, "group_sex has shape"),
        ({"patients": np.zeros(300)}, DataError, "patient"),
        ({"scores": SCORES * np.nan}, DataError, "NaN"),
        ({"scores": [], "member": []}, DataError, "no records"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, error, words):
    with pytest.raises(error, match=words) as caught:
        medleak.score(**{"scores": SCORES, "member": MEMBER, "metrics": ["auc"]} | change)
    assert "\n" not in str(caught.value)


def test_another_metric_is_named():
    with pytest.raises(ConfigError, match="did you mean 'auc'"):
        medleak.score(SCORES, MEMBER, metrics=["auc"])["auk"]
