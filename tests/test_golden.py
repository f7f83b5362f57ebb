"""Figures that no rebuilding of the bench may move: the membership grid on chest X-rays."""

import pytest

import medleak

GOLDEN = {
    ("none", "lira"): 0.7597,
    ("none", "rmia"): 0.7709,
    ("dp_sgd_eps8", "lira"): 0.5204,
    ("dp_sgd_eps8", "rmia"): 0.5535,
}
"""Natural AUC of 250 expected members, 16 shadows, seed 0."""


@pytest.mark.slow
def test_the_membership_grid_gives_the_golden_figures(real_data, tmp_path):
    words = ["target=pneumonia_cnn", "defense=none,dp_sgd_eps8", "attack=lira,rmia"]
    rows = medleak.run(
        *words, "seed=0", "n_members=250", out=tmp_path / "out", store=tmp_path / "store"
    ).rows
    natural = [row for row in rows if row.records == "natural"]
    assert {
        (row.defense, row.attack): round(row.leakage["auc"].value, 4) for row in natural
    } == GOLDEN
