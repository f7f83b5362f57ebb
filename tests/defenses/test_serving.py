"""Serving defenses: what stays visible, and that labels and scores agree."""

import numpy as np
import pytest

from medleak.api import ConfigError, Hidden, ProblemSpec, Release
from medleak.defenses.serve.clip_confidence import ClipConfidence
from medleak.defenses.serve.label_only import LabelOnly
from medleak.defenses.serve.memguard import MemGuardLike
from medleak.defenses.serve.round_scores import RoundScores
from medleak.defenses.serve.temperature import Temperature

PROBLEM = ProblemSpec(10, 10, 1, (3,), 3)
X = np.zeros((200, 3), dtype=np.float32)


def release(shape=(200, 3), spread=3.0):
    z = np.random.default_rng(0).normal(size=shape) * spread
    scores = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    return Release(
        {"scores": lambda x: scores, "labels": lambda x: scores.argmax(-1), "weights": {}}
    )


@pytest.mark.parametrize("shape", [(200, 3), (200, 4, 2)])
@pytest.mark.parametrize("defense", [RoundScores(), Temperature(), RoundScores(decimals=1)])
def test_labels_stay_and_never_contradict_the_scores(defense, shape):
    plain = release(shape)
    served = defense.apply(plain, problem=PROBLEM)
    labels = served.labels(X)
    assert (labels == plain.labels(X)).all()
    scores = served.scores(X)
    chosen = np.take_along_axis(scores, labels[..., None], -1)[..., 0]
    assert scores.shape == shape
    assert (chosen == scores.max(-1)).all()
    with pytest.raises(Hidden, match="interface"):
        _ = served.weights


def test_label_only_leaves_labels_alone():
    plain = release()
    served = LabelOnly().apply(plain, problem=PROBLEM)
    assert (served.labels(X) == plain.labels(X)).all()
    assert served.queries == len(X)
    with pytest.raises(Hidden, match="label only"):
        served.scores(X)
    with pytest.raises(Hidden, match="interface"):
        _ = served.weights


@pytest.mark.parametrize("decimals", [1, 2, 4])
def test_rounded_scores_are_logs_of_rounded_probabilities(decimals):
    scores = RoundScores(decimals=decimals).apply(release(), problem=PROBLEM).scores(X)
    scaled = np.exp(scores) * 10**decimals
    assert scaled == pytest.approx(np.round(scaled), abs=1e-9)
    assert np.isneginf(scores).any()
    assert np.abs(np.exp(scores) - np.exp(release().scores(X))).max() <= 0.5 * 10**-decimals + 1e-12


@pytest.mark.parametrize("shape", [(200, 3), (200, 4, 2)])
def test_temperature_is_a_softmax_of_scaled_logits(shape):
    soft = Temperature(t=2.0).apply(release(shape), problem=PROBLEM).scores(X)
    root = np.exp(release(shape).scores(X)) ** 0.5
    assert np.exp(soft) == pytest.approx(root / root.sum(-1, keepdims=True))
    same = Temperature(t=1).apply(release(shape), problem=PROBLEM).scores(X)
    assert same == pytest.approx(release(shape).scores(X))


def test_hybrid_rounding_under_label_only_hides_scores():
    served = LabelOnly().apply(RoundScores().apply(release(), problem=PROBLEM), problem=PROBLEM)
    with pytest.raises(Hidden):
        served.scores(X)


@pytest.mark.parametrize(
    ("defense", "named"),
    [
        (RoundScores(decimals=0), "decimals 0"),
        (RoundScores(decimals=1.5), "decimals 1.5"),
        (Temperature(t=0), "t 0"),
        (Temperature(t="hot"), "t 'hot'"),
    ],
)
def test_impossible_settings_are_named(defense, named):
    assert named in defense.invalid_parameters()[0]
    with pytest.raises(ConfigError, match=named):
        defense.apply(release(), problem=PROBLEM)


@pytest.mark.parametrize("defense", [LabelOnly(), RoundScores(decimals=3), Temperature(t=2.5)])
def test_repr_rebuilds(defense):
    assert vars(eval(repr(defense))) == vars(defense)


def test_labels_follow_scores_unless_they_are_replaced():
    scores = np.log([[0.7, 0.3], [0.2, 0.8]])
    views = {"scores": lambda x: scores, "labels": lambda x: scores.argmax(-1)}
    swapped = {"scores": lambda x: scores[:, ::-1]}
    release = Release(views).replaced(**swapped)
    assert release.labels(np.zeros(2)).tolist() == [1, 0]
    own = Release(views).replaced(**swapped, labels=lambda x: np.array([0, 0]))
    assert own.labels(np.zeros(2)).tolist() == [0, 0]
    assert "labels" not in Release({"scores": views["scores"]}).replaced(**swapped).views


@pytest.mark.parametrize(
    "defense", [RoundScores(decimals=1), Temperature(), ClipConfidence(), MemGuardLike()], ids=repr
)
def test_no_shipped_defense_changes_a_label(defense):
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(500, 3)) * 0.4
    scores = raw - np.logaddexp.reduce(raw, axis=1, keepdims=True)

    def lookup_release(x):
        return scores[x[:, 0].astype(int)]

    views = {"scores": lookup_release, "labels": lambda x: lookup_release(x).argmax(-1)}
    release = Release({**views, "weights": {"w": np.zeros(2)}})
    problem = ProblemSpec(10, 10, 1, (1,), 3)
    x = np.arange(500.0)[:, None]
    np.testing.assert_array_equal(
        defense.apply(release, problem=problem).labels(x), scores.argmax(-1)
    )
