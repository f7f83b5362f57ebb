"""Clients as detectors of tampered models."""

import numpy as np
import pytest

from medleak.api import Curve
from medleak.metrics.tampering import detected


def noticed(shift, clients=10, looks=8, seed=0):
    rng = np.random.default_rng(seed)
    client = np.repeat(np.arange(clients), looks)
    honest = rng.normal(size=len(client))
    tampered = shift + rng.normal(size=len(client))
    pairs = {"honest": honest, "tampered": tampered}
    return {kind: np.stack([client, found], 1).tolist() for kind, found in pairs.items()}


def test_what_stands_out_is_seen_without_false_alarms():
    found = detected(noticed(50.0))
    assert [found[name].value for name in ("auc", "tpr_at_10fpr", "tpr_at_1fpr")] == [1, 1, 1]
    assert found["roc"].y[0] == 1


def test_models_that_look_alike_are_not_told_apart():
    found = detected(noticed(0.0))
    assert found["auc"].low < 0.5 < found["auc"].high
    assert found["tpr_at_10fpr"].low <= 0.1 <= found["tpr_at_10fpr"].high
    assert isinstance(found["roc"], Curve)


def test_rates_are_those_of_one_threshold_for_all_clients():
    pairs = {
        "honest": [[c, float(c)] for c in range(10)],  # 0..9
        "tampered": [[c, 5.5 + c] for c in range(10)],  # 5.5..14.5
    }
    found = detected(pairs)
    assert found["tpr_at_10fpr"].value == pytest.approx(
        0.7
    )  # above 8: one honest model, 8.5 and up
    assert found["tpr_at_1fpr"].value == pytest.approx(0.6)  # above all honest ones: 9.5 and up
    assert "N*FPR < 10" in found["tpr_at_1fpr"].flag


def test_intervals_and_n_are_by_client():
    few, many = detected(noticed(1.0, looks=4)), detected(noticed(1.0, looks=200))
    assert few["auc"].n == many["auc"].n == few["roc"].n == 10
    assert "by client" in few["auc"].method
    width = many["auc"].high - many["auc"].low
    assert width > 0.2  # ten clients, however often they look


def test_a_crowd_of_one_has_no_detector():
    found = detected({"honest": [], "tampered": []})
    assert found["auc"].value is None
    assert found["roc"].value is None
