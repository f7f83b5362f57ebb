"""The reconstruction game: what is asked about messages on disk, and what figures come of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from medleak.api import (
    Challenge,
    Guarantee,
    LocalTraining,
    MedleakError,
    Observation,
    ProblemSpec,
    Records,
)
from medleak.api.data import pixels
from medleak.core.store import Store
from medleak.engine.figures import figures
from medleak.goals.observed_messages import AGES, reconstruction_task
from medleak.goals.reconstruction.goal import sample_of
from medleak.goals.reconstruction.informed import informed
from medleak.metrics.reconstruction import PSNR, Identified
from medleak.training.observations import ObservationLog, ObservationRecorder

N = 40
METRICS = {"psnr": PSNR(), "identified": Identified()}


@pytest.fixture
def experiment():
    rng = np.random.default_rng(0)

    def records(first):
        x = rng.integers(0, 256, (N, 1, 12, 12), dtype=np.uint8)
        return Records(x, np.arange(N) % 2, np.arange(first, first + N))

    challenge = Challenge(records(0), np.full(N, "natural"))
    problem = ProblemSpec(N // 2, N // 2, 1, (1, 12, 12), 2)
    return SimpleNamespace(challenge=challenge, auxiliary=records(N), problem=problem)


def transcript(tmp_path, sizes, rounds):
    """A stored run whose message i holds the next `sizes[i]` of the even challenge records."""
    store, key = Store(tmp_path / "store"), "a" * 16
    store.ready()
    recorder, start = ObservationRecorder(store, key, np.arange(0, N, 2)), 0
    for i, (size, round) in enumerate(zip(sizes, rounds, strict=True)):
        arrays = {"w": np.full(3, float(i), dtype=np.float32)}
        local = LocalTraining(1, 2, 0.1)
        recorder(
            Observation(round, (i,), size, arrays, arrays, local), np.arange(start, start + size)
        )
        start += size
    store.save("runs", key, {"messages": recorder.kept})
    return ObservationLog(store, key)


def test_messages_come_back_as_they_were_sent(tmp_path):
    read = transcript(tmp_path, [2, 3], [0, 9])
    seen = read.messages
    assert len(seen) == 2
    assert (seen[1].round, seen[1].clients, seen[1].n_records) == (9, (1,), 3)
    assert np.array_equal(seen[1].update["w"], [1, 1, 1])
    assert seen[-1].local == LocalTraining(1, 2, 0.1)
    assert not seen[0].hidden
    assert not hasattr(seen, "truth")  # an attack is given the messages alone
    assert read.truth(1).tolist() == [4, 6, 8]  # in the challenge, not in the training set
    with pytest.raises(IndexError):
        seen[2]


def test_what_is_hidden_of_a_message_is_written_down(tmp_path):
    store = Store(tmp_path / "store")
    store.ready()
    recorder = ObservationRecorder(store, "b" * 16, np.arange(N))
    arrays, hidden = {"w": np.ones(3, np.float32)}, np.array([False, True, True])
    local = LocalTraining(1, 2, 0.1)
    recorder(Observation(0, (0,), 1, arrays, arrays, local, {"w": hidden}), np.arange(1))
    store.save("runs", "b" * 16, {"messages": recorder.kept})
    (seen,) = ObservationLog(store, "b" * 16).messages
    assert seen.hidden["w"].dtype == bool
    assert seen.readable("w").tolist() == [True, False, False]


def test_a_riddle_asks_about_both_ages_and_about_no_empty_message(tmp_path, experiment):
    read = transcript(tmp_path, [2, 0, 3, 1, 2], [0, 0, 1, 8, 9])
    asked = reconstruction_task(read, experiment, n_trials=2, labels=True)
    assert asked.age.tolist() == [AGES[0], AGES[0], AGES[1], AGES[1]]
    assert asked.challenge.indices.tolist() == [0, 2, 3, 4]
    assert asked.challenge.n_records.tolist() == [2, 3, 1, 2]
    assert asked.positions.tolist()[0] == [0, 2, -1]
    assert [labels.tolist() for labels in asked.challenge.labels][1] == [0, 0, 0]
    assert reconstruction_task(read, experiment, n_trials=2, labels=False).challenge.labels is None
    with pytest.raises(MedleakError, match="every observed message is empty"):
        reconstruction_task(
            transcript(tmp_path / "b", [0], [0]), experiment, n_trials=2, labels=False
        )


def judged(tmp_path, experiment, rebuild, guarantees=()):
    asked = reconstruction_task(
        transcript(tmp_path, [2] * 8, range(8)), experiment, n_trials=9, labels=False
    )
    images = rebuild(pixels(experiment.challenge.x)[np.maximum(asked.positions, 0)])
    parts = asked.part(images, AGES[0], experiment)
    about = {"records": AGES[0], "experiment": experiment, "n_members": N // 2}
    return figures(METRICS, sample_of(guarantees, *parts, **about))


def test_the_truth_is_identified_and_better_than_every_baseline(tmp_path, experiment):
    found = judged(tmp_path, experiment, lambda truth: truth)
    assert found["leakage"]["identified"].value == 1.0
    assert found["leakage"]["psnr"].value == 100.0
    assert found["excess"]["identified"].value > 0.7
    assert found["excess"]["identified"].low > 0
    assert found["upper_bounds"] == {"psnr": None, "identified": None}
    assert set(found["baselines"]) == {"mean image", "typical image", "other messages"}


def test_noise_is_no_better_than_the_baselines(tmp_path, experiment):
    rng = np.random.default_rng(1)
    found = judged(tmp_path, experiment, lambda truth: rng.random(truth.shape))
    assert found["leakage"]["identified"].value < 0.3
    assert found["excess"]["identified"].low <= 0
    assert found["excess"]["psnr"].value < 0


def test_a_promise_bounds_identification_and_a_breach_is_flagged(tmp_path, experiment):
    mechanism = {"name": "poisson_gaussian", "q": 0.1, "sigma": 20.0, "steps": 50}
    promise = Guarantee("dp", "record", "all", 0.2, 1e-5, mechanism=mechanism)
    found = judged(tmp_path, experiment, lambda truth: truth, [promise])
    kappa = 2 * 2 / 21  # two guesses, two classes, twenty-one who may be it
    assert kappa < found["upper_bounds"]["identified"] < 0.6
    assert found["violations"] == ()  # eight images cannot prove it


# --------------------------------------------------------------------------- the informed adversary


def told(tmp_path, experiment, n_candidates=5, **options):
    member = np.arange(N) < N // 2  # ten of each label are not
    read = transcript(tmp_path, [2, 3, 2, 3], [0, 1, 8, 9])
    asked = reconstruction_task(read, experiment, n_trials=9, labels=True)
    options = {"clip": 1.0, "rng": np.random.default_rng(0)} | options
    return (
        asked,
        informed(asked, read, experiment, member=member, n_candidates=n_candidates, **options),
        member,
    )


def test_an_informed_adversary_is_told_all_but_one(tmp_path, experiment):
    asked, game, member = told(tmp_path, experiment)
    assert game.challenge.n_records.tolist() == [1, 1, 1, 1]
    assert game.positions.shape == (4, 1)
    for t, insight in enumerate(game.challenge.insight):
        target, batch = game.positions[t, 0], asked.positions[t][asked.positions[t] >= 0]
        assert target in batch
        assert list(insight.others) == [t]  # of the same client and age there is no other message
        assert set(insight.others[t].patients) == set(batch) - {target}
        assert insight.clip == 1.0
        others = set(game.candidates[t]) - {target}
        assert len(others) == 4
        assert not member[list(others)].any()
        assert (experiment.challenge.y[game.candidates[t]] == experiment.challenge.y[target]).all()
        assert game.challenge.labels[t].tolist() == [experiment.challenge.y[target]]


def test_candidates_tell_nothing_by_their_order_and_are_as_many_as_there_are(tmp_path, experiment):
    places = []
    for seed in range(200):
        _, game, _ = told(tmp_path / str(seed), experiment, rng=np.random.default_rng(seed))
        places += [int(np.flatnonzero(c == t)[0]) for c, (t,) in zip(game.candidates, game.positions, strict=True)]  # fmt: skip
    counts = np.bincount(places, minlength=5)
    assert counts.min() > 800 / 5 - 4 * np.sqrt(800 * 0.16)
    _, game, _ = told(tmp_path / "many", experiment, n_candidates=1000)
    assert game.candidates.shape == (4, 11)


def test_its_baseline_is_a_random_candidate_and_its_ceiling_one_in_their_number(
    tmp_path, experiment
):
    _, game, _ = told(tmp_path, experiment)
    mechanism = {"name": "poisson_gaussian", "q": 0.1, "sigma": 2.0, "steps": 50}
    promise = Guarantee("dp", "record", "all", 8.0, 1e-5, mechanism=mechanism)
    images = pixels(experiment.challenge.x)[game.positions]
    parts = game.part(images, AGES[0], experiment)
    about = {"records": AGES[0], "experiment": experiment, "n_members": N // 2}
    named = game.named(AGES[0], experiment)
    found = figures(METRICS, sample_of([promise], *parts, **about, candidates=named))
    assert found["leakage"]["identified"].value == 1.0
    assert "random candidate" in found["baselines"]
    plain = figures(METRICS, sample_of([promise], *parts, **about))
    # One guess among five instead of two labels among twenty-one.
    assert found["upper_bounds"]["identified"] > plain["upper_bounds"]["identified"]
