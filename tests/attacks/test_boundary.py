from dataclasses import replace

import numpy as np
import pytest

from medleak.api import Challenge, Knowledge, ProblemSpec, Records, Release
from medleak.attacks.membership.boundary import (
    LEAST,
    BoundaryDistance,
    nearest_other,
    neutral,
    shares,
)
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world


def plane(n=30, features=6, seed=0):
    """Two classes on either side of a plane, and each record's distance from it."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, features), dtype=np.float32)
    x[0], x[1] = 0, 1  # every column then runs from 0 to 1, as the attack scales it
    w = rng.standard_normal(features)
    cut = np.median(x @ w)

    def labels(x):
        return (x.reshape(len(x), -1) @ w > cut).astype(np.int64)

    distance = np.abs(x @ w - cut) / np.linalg.norm(w)
    return Release({"labels": labels}), x, labels(x), distance


def challenge_of(x, y):
    return Challenge(Records(x, y, np.arange(len(y))), np.full(len(y), "natural"))


def knowledge_of(in_shape, n=30, *, budget=None, seed=0, classes=2):
    problem = ProblemSpec(n // 2, n // 2, 1, in_shape, classes)
    return Knowledge(problem, rng=np.random.default_rng(seed), budget=budget)


def test_the_distance_to_a_plane():
    release, x, y, true = plane()
    ratio = {}
    for queries in (LEAST, 100, 600):
        output = BoundaryDistance(queries=queries).execute(
            release, challenge_of(x, y), knowledge_of((6,))
        )
        assert (output.scores >= true - 1e-5).all()  # an upper bound wherever it stops
        ratio[queries] = np.median(output.scores / true)
    assert ratio[LEAST] > ratio[100] > ratio[600]
    assert ratio[600] < 1.05


def test_a_wrong_label_has_no_distance():
    release, x, y, _ = plane()
    wrong = np.arange(30) % 3 == 0
    output = BoundaryDistance(queries=LEAST).execute(
        release, challenge_of(x, np.where(wrong, 1 - y, y)), knowledge_of((6,))
    )
    assert np.array_equal(output.scores == 0, wrong)
    assert output.queries == 30 + LEAST * 20


def test_columns_are_scaled_and_pixels_run_from_0_to_1():
    release, x, y, _ = plane(n=20, features=16)
    table = BoundaryDistance(queries=60).execute(release, challenge_of(x, y), knowledge_of((16,)))
    scale, low = np.float32(2.0) ** np.arange(16), np.float32(-8.0)
    sent = []

    def stretched(x):
        return release.view("labels")((x - low) / scale)

    other = BoundaryDistance(queries=60).execute(
        Release({"labels": stretched}), challenge_of(x * scale + low, y), knowledge_of((16,))
    )
    assert np.allclose(other.scores, table.scores, rtol=1e-3)

    def observed_by(x):
        sent.append(x)
        x = x / np.float32(255) if x.dtype == np.uint8 else x
        return release.view("labels")(x)

    bytes_ = np.rint(255 * x).astype(np.uint8).reshape(20, 1, 4, 4)
    y = release.view("labels")(bytes_ / np.float32(255))
    shown = Release({"labels": observed_by})
    images = BoundaryDistance(queries=60).execute(
        shown, challenge_of(bytes_, y), knowledge_of((1, 4, 4))
    )
    assert sent[0].dtype == np.uint8
    assert all(s.dtype == np.float32 and s.min() >= 0 and s.max() <= 1 for s in sent[1:])
    floats = BoundaryDistance(queries=60).execute(
        shown, challenge_of(bytes_ / np.float32(255), y), knowledge_of((1, 4, 4))
    )
    assert np.array_equal(images.scores, floats.scores)


@pytest.mark.parametrize(
    "budget", [0, 7, 30, 31, 30 + LEAST, 30 + 10 * LEAST + 3, 30 + 30 * 40, 10**6]
)
@pytest.mark.parametrize("block", [1, 6 * 30 * 7, 2**23])
def test_the_budget_is_spent_and_never_overdrawn(monkeypatch, block, budget):
    monkeypatch.setattr("medleak.attacks.membership.boundary.BLOCK", block)
    release, x, y, _ = plane()
    answered = []
    counted = Release({"labels": lambda x: answered.append(len(x)) or release.view("labels")(x)})
    output = BoundaryDistance(queries=50).execute(
        counted, challenge_of(x, y), knowledge_of((6,), budget=budget)
    )
    assert sum(answered) == output.queries <= budget
    assert max(answered[1:], default=0) <= max(30, block // 6)
    share, many = shares(30, budget - 30, 50)
    assert output.queries == min(budget, 30) + share * many
    assert np.isfinite(output.scores).all()


def test_records_without_a_share_are_neutral():
    release, x, y, _ = plane()
    y = np.where(np.arange(30) < 6, 1 - y, y)
    challenge = challenge_of(x, y)

    def scores(budget):
        knowledge = knowledge_of((6,), budget=budget)
        return BoundaryDistance(queries=LEAST).execute(release, challenge, knowledge).scores

    only_labels = scores(30)
    assert np.array_equal(only_labels, np.arange(30) >= 6)
    some = scores(30 + 7 * LEAST)
    values, counts = np.unique(some[6:], return_counts=True)
    assert counts.max() >= 24 - 7  # the median of the seven, and whoever has it
    measured = values[counts == 1]
    assert np.median(np.append(measured, values[counts > 1])) == values[counts.argmax()]
    few = scores(12)  # twelve labels, eighteen records unknown
    assert (few == np.median(few)).sum() >= 18
    assert set(np.unique(few)) <= {0.0, 0.5, 1.0}


def test_shares():
    assert shares(10, None, 100) == (100, 10)
    assert shares(10, 10**6, 100) == (100, 10)
    assert shares(10, 500, 100) == (50, 10)
    assert shares(10, 3 * LEAST + 1, 100) == (LEAST, 3)
    assert shares(10, -5, 100) == (LEAST, 0)
    assert shares(0, 50, 100) == (100, 0)
    assert np.array_equal(neutral(np.array([np.nan, 1.0, 3.0])), [2.0, 1.0, 3.0])
    assert np.array_equal(neutral(np.array([np.nan, np.nan])), [1.0, 1.0])


def test_the_nearest_other_label():
    points = np.array([[0.0], [1.0], [1.5], [9.0], [0.2]], dtype=np.float32)
    labels = np.array([0, 0, 1, 2, -1])
    assert nearest_other(points, labels, np.arange(4)).tolist() == [2, 2, 1, 2]
    assert nearest_other(points, np.array([0, 0, 0, 0, -1]), np.array([1, 3])).tolist() == [-1, -1]


def test_a_model_with_one_answer_has_no_boundary():
    _, x, y, _ = plane()
    constant = Release({"labels": lambda x: np.ones(len(x), np.int64)})
    output = BoundaryDistance().execute(constant, challenge_of(x, y), knowledge_of((6,)))
    assert np.array_equal(output.scores, y == 1)
    assert output.queries == 30


def test_a_planted_leak_is_found_from_labels_alone_and_nothing_else():
    for leak in (6.0, 0.0):
        release, challenge, secret, knowledge = membership_world(leak=leak, n=300, n_shadows=0)
        attack = BoundaryDistance(queries=60)
        scores = attack.execute(release.granting("labels"), challenge, knowledge).scores
        found = auc(scores, secret.member)
        assert found > 0.7 if leak else abs(found - 0.5) < 3.3 * np.sqrt(301 / (12 * 150 * 150))
        again = replace(knowledge, rng=np.random.default_rng([0, 2]))
        assert np.array_equal(attack.execute(release, challenge, again).scores, scores)


def test_refusals_and_faults():
    problem = membership_world(leak=0, n=4, n_shadows=0, task="multilabel")[3].problem
    assert "one class" in BoundaryDistance().incompatibilities(problem, {})[0]
    assert BoundaryDistance().invalid_parameters() == []
    assert len(BoundaryDistance(queries=LEAST - 1, evaluations=0).invalid_parameters()) == 2
