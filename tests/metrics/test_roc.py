"""ROC, AUC and TPR at FPR against brute force, under ties and infinite scores."""

import numpy as np
import pytest

from medleak.api import DataError
from medleak.metrics.statistics.crossfit import best_threshold, crossfit_flags, folds
from medleak.metrics.statistics.roc import auc, per_patient, roc, tpr_at, weighted_auc


def samples():
    rng = np.random.default_rng(0)
    for trial in range(60):
        n = int(rng.integers(2, 40))
        member = rng.random(n) < 0.5
        member[:2] = True, False
        scores = rng.normal(size=n) if trial % 3 == 0 else rng.integers(0, 4, n).astype(float)
        if trial % 2:
            scores[rng.random(n) < 0.2] = np.inf
            scores[rng.random(n) < 0.2] = -np.inf
        yield scores, member


def brute_points(scores, member):
    points = {(0.0, 0.0)}
    for t in set(scores.tolist()):
        flagged = scores >= t
        points.add((float(flagged[~member].mean()), float(flagged[member].mean())))
    return sorted(points)


def test_roc_has_exactly_the_points_of_all_thresholds():
    for scores, member in samples():
        fpr, tpr = roc(scores, member)
        assert np.allclose(list(zip(fpr, tpr, strict=True)), brute_points(scores, member))
        assert len(fpr) == len(set(scores.tolist())) + 1
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)


def test_auc_counts_pairs_and_equals_the_area_and_scikit_learn():
    from sklearn.metrics import roc_auc_score

    for scores, member in samples():
        a, b = scores[member][:, None], scores[~member][None]
        pairs = ((a > b) + 0.5 * (a == b)).mean()
        fpr, tpr = roc(scores, member)
        assert auc(scores, member) == pytest.approx(pairs)
        assert np.trapezoid(tpr, fpr) == pytest.approx(pairs)
        assert roc_auc_score(member, np.clip(scores, -99, 99)) == pytest.approx(pairs)


def test_tpr_at_never_interpolates():
    for scores, member in samples():
        curve = roc(scores, member)
        for x in (0.0, 0.01, 0.1, 1 / 3, 0.5, 1.0):
            best = max(t for f, t in brute_points(scores, member) if f <= x + 1e-12)
            assert tpr_at(*curve, x) == pytest.approx(best)
    fpr, tpr = roc(np.zeros(10), np.arange(10) < 5)  # one tie group: only (0, 0) and (1, 1) exist
    assert tpr_at(fpr, tpr, 0.99) == 0
    assert auc(np.zeros(10), np.arange(10) < 5) == 0.5


def test_weighted_auc_equals_repeated_records():
    rng = np.random.default_rng(1)
    scores, member = rng.integers(0, 5, 30).astype(float), np.arange(30) % 2 == 0
    weights = rng.integers(0, 3, (8, 30))
    got = weighted_auc(scores, member, weights.astype(float))
    want = [auc(np.repeat(scores, w), np.repeat(member, w)) for w in weights]
    assert np.allclose(got, want)
    assert np.isnan(weighted_auc(scores, member, member[None].astype(float))[0])


@pytest.mark.parametrize(
    ("scores", "member", "message"),
    [
        ([0.1, np.nan], [True, False], "1 scores are NaN"),
        ([0.1, 0.2], [True, True], "no non-members"),
        ([0.1, 0.2], [False, False], "no members"),
        ([0.1, 0.2, 0.3], [True, False], r"\(N,\) each"),
    ],
)
def test_bad_input(scores, member, message):
    with pytest.raises(DataError, match=message):
        roc(np.array(scores), np.array(member))


def test_per_patient_joins_scans():
    scores, names, member = per_patient(
        np.array([1.0, 3.0, -np.inf, 5.0, np.inf]),
        np.array([7, 7, 2, 9, 9]),
        np.array([True, True, False, True, True]),
    )
    assert names.tolist() == [2, 7, 9]
    assert member.tolist() == [False, True, True]
    assert scores[1] == 2
    assert scores[0] < scores[1] < scores[2]
    with pytest.raises(DataError, match="patient 7 is both"):
        per_patient(np.zeros(2), np.array([7, 7]), np.array([True, False]))


def test_folds_keep_patients_together_and_classes_even():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 100, 400)
    member = patients % 3 == 0
    fold = folds(patients, member, 5)
    assert all(len(set(fold[patients == p].tolist())) == 1 for p in np.unique(patients))
    for value in (True, False):
        names = np.unique(patients[member == value])
        sizes = np.bincount([fold[patients == p][0] for p in names], minlength=5)
        assert sizes.max() - sizes.min() <= 1


def test_best_threshold_maximises_youden():
    for scores, member in samples():
        t = best_threshold(scores, member)
        flagged = scores >= t
        got = flagged[member].mean() - flagged[~member].mean()
        assert got == pytest.approx(max(b - a for a, b in brute_points(scores, member)))


def test_flags_of_a_fold_do_not_depend_on_its_own_labels():
    rng = np.random.default_rng(3)
    scores, patients = rng.normal(size=100), np.arange(100)
    member = np.arange(100) < 50
    fold = folds(patients, member, 5)
    swapped = member.copy()
    here = np.flatnonzero(fold == 2)
    inside, outside = here[member[here]], here[~member[here]]
    assert len(inside) == len(outside)
    swapped[here] = ~swapped[here]
    for k in (2,):
        rest = fold != k
        assert best_threshold(scores[rest], member[rest]) == best_threshold(
            scores[rest], swapped[rest]
        )
    flags = crossfit_flags(scores, member, patients)
    by_hand = scores[here] >= best_threshold(scores[fold != 2], member[fold != 2])
    assert (flags[here] == by_hand).all()
