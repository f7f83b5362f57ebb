"""Noisy scores: the label stays, the distance is bounded, and asking again does not help."""

import numpy as np
import pytest

from medleak.api import ConfigError, Hidden, ProblemSpec, Release
from medleak.defenses.serve.label_only import LabelOnly
from medleak.defenses.serve.memguard import MemGuardLike, mixed, noise
from medleak.defenses.serve.round_scores import RoundScores
from medleak.testing import check_defense

PROBLEM = ProblemSpec(10, 10, 1, (6,), 3)
X = np.random.default_rng(1).random((500, 6)).astype(np.float32)


def release(shape=(3,), seed=0, spread=3.0, zeros=False):
    """A model that is linear in the record; optionally sure enough for probabilities of nought."""
    w = spread * np.random.default_rng(seed).normal(size=(6, int(np.prod(shape))))

    def scores(x):
        z = (x.astype(np.float64) - 0.5) @ w
        z = z.reshape(len(x), *shape)
        s = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
        return np.where(s < -2, -np.inf, s) if zeros else s

    return Release(
        {"scores": scores, "labels": lambda x: scores(x).argmax(-1), "weights": {"w": w}}
    )


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("shape", [(2,), (3,), (4, 2)])
@pytest.mark.parametrize("budget", [0.1, 1.0, 2.0])
def test_labels_stay_and_the_distance_is_bounded(shape, budget, zeros):
    plain = release(shape, zeros=zeros)
    served = MemGuardLike(budget=budget).apply(plain, problem=PROBLEM)
    scores, labels = served.scores(X), served.labels(X)
    assert scores.shape == (500, *shape)
    assert (labels == plain.labels(X)).all()
    assert (scores.argmax(-1) == labels).all()
    p, served_p = np.exp(plain.scores(X)), np.exp(scores)
    distance = np.abs(p - served_p).sum(-1)
    assert distance.max() <= budget + 1e-9
    assert np.median(distance) > 0.05
    if not zeros:
        assert served_p.sum(-1) == pytest.approx(1)
    with pytest.raises(Hidden, match="interface"):
        _ = served.weights


def test_without_budget_nothing_changes():
    plain = release()
    served = MemGuardLike(budget=0).apply(plain, problem=PROBLEM)
    assert (served.scores(X) == plain.scores(X)).all()
    with pytest.raises(Hidden):
        _ = served.weights


def test_the_same_question_has_the_same_answer():
    served = MemGuardLike().apply(release(), problem=PROBLEM)
    first = served.scores(X)
    assert np.array_equal(first, served.scores(X))
    order = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(first[order], served.scores(X[order]))
    assert served.scores(X[7:8]) == pytest.approx(first[7:8], abs=1e-12)
    rebuilt = MemGuardLike().apply(release(), problem=PROBLEM)
    assert np.array_equal(first, rebuilt.scores(X))


def test_bytes_and_floats_of_an_image_draw_the_same_noise():
    x = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    drawn = noise(x, (4,), b"key")
    assert np.array_equal(drawn, noise(x.astype(np.float32) / 255, (4,), b"key"))
    assert not np.isclose(drawn, noise(x, (4,), b"yek")).any()
    assert len(np.unique(drawn)) == 80


def test_noise_is_uniform_on_the_simplex():
    drawn = noise(np.random.default_rng(0).random((4000, 2)), (3,), b"key")
    assert drawn.sum(1) == pytest.approx(1)
    assert drawn.mean(0) == pytest.approx(1 / 3, abs=0.02)
    assert drawn.var(0) == pytest.approx(1 / 18, rel=0.1)


def test_a_shadows_noise_tells_nothing_of_the_targets():
    """Two models that answer alike and differ in one parameter that does not matter."""
    one = release()
    other = one.replaced(weights={**one.weights, "idle": np.ones(1)})
    answers = [
        np.exp(MemGuardLike(budget=2.0, seed=s).apply(r, problem=PROBLEM).scores(X)).max(1)
        for r, s in ((one, 0), (other, 0), (one, 1))
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(answers[a], answers[b])[0, 1]) < 4 / np.sqrt(len(X))


def test_at_full_budget_nothing_but_the_label_is_left():
    """A leak planted in the confidence: found without the noise, and gone with it."""
    member = np.arange(4000) % 2 == 0
    top = np.where(member, 0.99, 0.8)
    p = np.stack([top, 1 - top], 1)
    x = np.random.default_rng(0).random((4000, 6))
    r = noise(x, (2,), b"key")
    served = {b: np.exp(mixed(p, np.zeros(4000, int), r, b))[:, 0] for b in (0.1, 2.0)}

    def auc(score):
        from scipy.stats import rankdata

        ranks = rankdata(score)[member]
        return (ranks.mean() - (member.sum() + 1) / 2) / (~member).sum()

    assert auc(top) == 1
    assert auc(served[0.1]) > 0.9
    assert auc(served[2.0]) == pytest.approx(0.5, abs=0.04)


def test_ties_go_to_the_models_own_label():
    p = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    served = mixed(p, np.array([0, 1]), noise(np.eye(2), (3,), b"k"), 0.3)
    assert served.argmax(1).tolist() == [0, 1]
    rounded = RoundScores(decimals=1)
    with pytest.raises(ConfigError, match="list it before"):
        MemGuardLike().apply(rounded.apply(release(), problem=PROBLEM), problem=PROBLEM)
    both = rounded.apply(MemGuardLike().apply(release(), problem=PROBLEM), problem=PROBLEM)
    assert np.isfinite(both.scores(X).max(1)).all()


def test_what_reads_labels_only_does_not_notice():
    served = LabelOnly().apply(MemGuardLike().apply(release(), problem=PROBLEM), problem=PROBLEM)
    assert (served.labels(X) == release().labels(X)).all()


@pytest.mark.parametrize(
    ("keywords", "named"),
    [({"budget": -0.1}, "budget -0.1"), ({"budget": 3}, "budget 3"), ({"budget": "x"}, "'x'"),
     ({"seed": 0.5}, "seed 0.5")],
)  # fmt: skip
def test_impossible_settings_are_named(keywords, named):
    assert named in MemGuardLike(**keywords).invalid_parameters()[0]
    with pytest.raises(ConfigError, match=named):
        MemGuardLike(**keywords).apply(release(), problem=PROBLEM)


def test_contract():
    assert check_defense(MemGuardLike()) == []
    assert vars(eval(repr(MemGuardLike(budget=0.5)))) == vars(MemGuardLike(budget=0.5))
