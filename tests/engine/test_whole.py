"""The whole bench on simulated patients: a null, a planted leak, and a guarantee that holds."""

import pytest

import medleak

SMALL = ["target=phantom_cnn", "n_members=100", "n_shadows=4", "attack=yeom,lira,rmia"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")

    def run(*overrides):
        return medleak.run(*SMALL, *overrides, out=folder / "out", store=folder / "store").rows

    return run


def test_an_untrained_model_tells_nothing(run):
    rows = run("target.recipe.lr=1e-12", "target.recipe.epochs=1", "target.recipe.weight_decay=0")
    natural = [row for row in rows if row.records == "natural" and row.unit == "patient"]
    assert len(natural) == 3
    for row in natural:
        assert row.leakage["auc"].low <= 0.5 <= row.leakage["auc"].high, row.attack


def test_mislabelled_canaries_are_found_in_an_undefended_model(run):
    # Trained until the wrong labels are known by heart, so that the last bit of a processor decides nothing.
    rows = run("target.split.canaries.mislabelled=0.25", "target.recipe.epochs=60")
    canaries = [r for r in rows if r.records == "mislabelled" and r.unit == "patient"]
    assert len(canaries) == 3
    for row in canaries:
        assert row.status == "ok"
        assert row.leakage["auc"].value > 0.9, row.attack
        assert row.leakage["auc"].low > 0.5


def test_no_attack_exceeds_the_ceiling_of_a_guarantee(run):
    rows = run("defense=dp_sgd_patient_eps8")
    assert {row.status for row in rows} == {"ok"}
    for row in rows:
        assert row.upper_bounds["auc"] is not None
        assert row.violations == ()
        assert row.simulated


def test_a_false_guarantee_is_caught(run, monkeypatch):
    """The ceiling of a strong promise beside an undefended model: every attack violates it."""
    from medleak.api import Guarantee
    from medleak.defenses.serve.temperature import Temperature

    promise = Guarantee(
        "dp", "patient", "anyone", epsilon=0.1, delta=1e-5,
        mechanism={"name": "poisson_gaussian", "q": 1.0, "sigma": 20.0, "steps": 1},
    )  # fmt: skip
    monkeypatch.setattr(Temperature, "guarantees", lambda *_: [promise])
    rows = run("defense=temperature", "executor=serial")
    natural = [row for row in rows if row.records == "natural" and row.unit == "patient"]
    assert all("auc" in row.violations for row in natural)
    assert natural
