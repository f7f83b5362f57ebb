"""Utility figures against scikit-learn, and their intervals."""

import numpy as np
import pytest
from sklearn import metrics as reference

from medleak.api import DataError
from medleak.metrics.utility import utility, utility_by_group


def classifier(n=200, classes=4, skill=1.5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    z = rng.normal(size=(n, classes))
    z[np.arange(n), y] += skill
    return y, z - np.log(np.exp(z).sum(1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 4])
def test_values_equal_scikit_learn(classes):
    y, scores = classifier(classes=classes)
    labels = scores.argmax(1)
    got = utility(y, scores=scores, patients=np.arange(200))
    area = (
        reference.roc_auc_score(y, scores[:, 1] - scores[:, 0])
        if classes == 2
        else reference.roc_auc_score(y, np.exp(scores), multi_class="ovr")
    )
    want = {
        "accuracy": reference.accuracy_score(y, labels),
        "balanced_accuracy": reference.balanced_accuracy_score(y, labels),
        "auroc": area,
        "mcc": reference.matthews_corrcoef(y, labels),
    }
    assert {name: e.value for name, e in got.items()} == pytest.approx(want)
    assert all(e.low < e.value < e.high and e.n == 200 for e in got.values())
    assert got["accuracy"].method == "Clopper-Pearson"


def test_multilabel_values_are_means_over_labels():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (300, 3))
    z = rng.normal(size=(300, 3)) + 1.2 * y
    scores = np.stack([np.zeros_like(z), z - 0.6], axis=-1)
    got = utility(y, scores=scores, patients=np.arange(300) // 2, task="multilabel")
    labels = (z > 0.6).astype(int)
    assert got["auroc"].value == pytest.approx(reference.roc_auc_score(y, z, average="macro"))
    assert got["accuracy"].value == pytest.approx((labels == y).mean())
    each = [reference.matthews_corrcoef(y[:, j], labels[:, j]) for j in range(3)]
    assert got["mcc"].value == pytest.approx(np.mean(each))
    assert got["accuracy"].n == 150


def test_labels_only_has_no_auroc():
    y, scores = classifier()
    got = utility(y, labels=scores.argmax(1), patients=np.arange(200))
    assert got["auroc"].value is None
    assert "labels only" in got["auroc"].flag
    assert got["mcc"].value == pytest.approx(reference.matthews_corrcoef(y, scores.argmax(1)))


def test_scans_of_one_patient_widen_the_interval():
    y, scores = classifier(100)
    once = utility(y, scores=scores, patients=np.arange(100))
    four = utility(
        np.tile(y, 4), scores=np.tile(scores, (4, 1)), patients=np.tile(np.arange(100), 4)
    )
    for name in ("balanced_accuracy", "auroc", "mcc"):
        assert four[name].value == pytest.approx(once[name].value)
        assert four[name].low == pytest.approx(once[name].low)
    assert "bootstrap" in four["accuracy"].method


def test_intervals_cover():
    rng = np.random.default_rng(0)
    y, scores = classifier(40_000, 3)
    whole = utility_values(y, scores)
    hits = dict.fromkeys(whole, 0)
    for _ in range(40):
        pick = rng.choice(len(y), 150, replace=False)
        got = utility(y[pick], scores=scores[pick], patients=np.arange(150))
        for name, value in whole.items():
            hits[name] += got[name].low <= value <= got[name].high
    assert min(hits.values()) >= 40 * (0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 40)), hits


def utility_values(y, scores):
    labels = scores.argmax(1)
    return {
        "accuracy": (labels == y).mean(),
        "balanced_accuracy": reference.balanced_accuracy_score(y, labels),
        "auroc": reference.roc_auc_score(y, np.exp(scores), multi_class="ovr"),
        "mcc": reference.matthews_corrcoef(y, labels),
    }


def test_edge_cases():
    y = np.array([0, 1] * 20)
    perfect = utility(y, labels=y, patients=np.arange(40))
    assert perfect["mcc"].value == 1
    assert perfect["mcc"].low < perfect["balanced_accuracy"].low < 0.9
    constant = utility(y, labels=np.zeros(40, int), patients=np.arange(40))
    assert (constant["mcc"].value, constant["balanced_accuracy"].value) == (0, 0.5)
    rounded = np.where(y[:, None] == np.arange(2), 0.0, -np.inf)
    assert utility(y, scores=rounded, patients=np.arange(40))["auroc"].value == 1
    one = utility(np.zeros(20, int), scores=rounded[:20], patients=np.arange(20))
    assert one["auroc"].value is None
    assert utility(y[:0], labels=y[:0], patients=y[:0])["accuracy"].value is None
    with pytest.raises(DataError, match="neither"):
        utility(y, patients=np.arange(40))
    with pytest.raises(DataError, match="do not fit"):
        utility(y, labels=y[:5], patients=np.arange(40))


def test_groups():
    y, scores = classifier()
    sex = np.array(["F"] * 95 + ["M"] * 95 + ["X"] * 4 + [""] * 6)
    found = utility_by_group(y, scores=scores, patients=np.arange(200), groups={"sex": sex})
    assert set(found) == {"sex=F", "sex=M", "sex=X"}
    assert found["sex=X"]["mcc"].flag == "too few: 4 patients"
    alone = utility(y[:95], scores=scores[:95], patients=np.arange(95))
    assert found["sex=F"] == alone
