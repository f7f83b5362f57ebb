from dataclasses import replace

import numpy as np
import pytest

from medleak.api import ConfigError, MedleakError, Release, multiclass
from medleak.attacks._kernels import relative_rank
from medleak.attacks.membership._moments import Moments
from medleak.attacks.membership.rmia import (
    DEFAULT_A,
    GRID,
    RMIA,
    fitted_slope,
    majority,
    online_average,
)
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world


def probabilities(release, records):
    return multiclass.tempered_probability(release.scores(records.x), records.y, temperature=2.0)


def brute_force_offline(experiment, a, gamma):
    """Loops over records and references, straight from the formula."""
    release, challenge, _, knowledge = experiment
    shadows = list(knowledge.shadows)

    def ratios(records, members):
        target = probabilities(release, records)
        references = [probabilities(s.release, records) for s in shadows]
        found = []
        for i in range(len(records)):
            out = [p[i] for p, m in zip(references, members, strict=True) if not m[i]]
            if out:
                found.append(target[i] / (((1 + a) * np.mean(out) + 1 - a) / 2))
        return found

    x = ratios(challenge.records, [s.member for s in shadows])
    z = ratios(knowledge.auxiliary, [s.auxiliary_member for s in shadows])
    return [np.mean([rx >= gamma * rz for rz in z]) for rx in x]


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_offline_equals_loops_that_leave_out_references_that_saw_the_record(pool):
    experiment = membership_world(leak=4.0, n=60, n_shadows=6, pool=pool)
    scores = RMIA(mode="offline", a=0.4, gamma=1.25).execute(*experiment[:2], experiment[3]).scores
    assert np.allclose(scores, brute_force_offline(experiment, 0.4, 1.25), atol=1e-12)


def test_references_that_saw_a_z_do_not_count_for_it():
    """Whatever such a reference answers about its own z changes nothing."""
    release, challenge, _, knowledge = membership_world(
        leak=1.0, n=60, n_shadows=6, pool="auxiliary"
    )

    def lying(shadow):
        own = {row.tobytes() for row in knowledge.auxiliary.x[shadow.auxiliary_member]}

        def scores(x):
            log_p = shadow.release.scores(x).copy()
            log_p[[row.tobytes() in own for row in x]] = np.log([0.98, 0.01, 0.01])
            return log_p

        return replace(shadow, release=Release({"scores": scores}))

    attack = RMIA(mode="offline", a=0.5)
    honest = attack.execute(release, challenge, knowledge).scores
    changed = replace(knowledge, shadows=[lying(s) for s in knowledge.shadows])
    assert np.array_equal(attack.execute(release, challenge, changed).scores, honest)


def test_online_average_fills_what_is_unknown_by_the_line():
    rng = np.random.default_rng(0)
    p_out = rng.uniform(0.2, 0.9, 30)
    p_in = 1 - 0.6 * (1 - p_out)
    assert fitted_slope(p_in, p_out) == pytest.approx(0.6)
    some = np.arange(30)
    inside = Moments(
        some != 0, np.where(some != 0, p_in, 0), np.zeros(30)
    )  # record 0 is in no shadow
    outside = Moments(some != 1, np.where(some != 1, p_out, 0), np.zeros(30))  # record 1 in all
    assert np.allclose(online_average(inside, outside), (p_in + p_out) / 2)


def test_slope_of_perfect_models_is_defined():
    assert fitted_slope(np.ones(3), np.ones(3)) == 1.0


def chosen_slope(attack, knowledge, release, challenge):
    """The `a` in the grid whose scores the tuned attack reproduces."""
    tuned = attack.execute(release, challenge, fresh(knowledge)).scores
    fixed = {a: RMIA(mode="offline", gamma=attack.gamma, a=a) for a in GRID}
    return [
        a
        for a, other in fixed.items()
        if np.array_equal(other.execute(release, challenge, fresh(knowledge)).scores, tuned)
    ]


def fresh(knowledge):
    return replace(knowledge, rng=np.random.default_rng(0))


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_a_is_tuned_on_the_reference_and_never_on_the_target(pool):
    release, challenge, _, knowledge = membership_world(leak=1.0, n=120, n_shadows=4, pool=pool)
    attack = RMIA(mode="offline", gamma=1.0)
    (a,) = chosen_slope(attack, knowledge, release, challenge)
    # Against another target the choice is the same; with another reference's truth it is not.
    other = membership_world(leak=0.0, n=120, n_shadows=4, pool=pool)[0]
    assert chosen_slope(attack, knowledge, other, challenge) == [a]
    reference = knowledge.reference
    flipped = replace(
        reference, member=~reference.member if pool == "audit" else reference.member,
        auxiliary_member=reference.auxiliary_member if pool == "audit" else ~reference.auxiliary_member,
    )  # fmt: skip
    assert chosen_slope(attack, replace(knowledge, reference=flipped), release, challenge) != [a]


def test_without_a_reference_a_is_the_default():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=80, n_shadows=4)
    alone = replace(knowledge, reference=None)
    assert chosen_slope(RMIA(mode="offline", gamma=1.0), alone, release, challenge) == [DEFAULT_A]


def test_population_is_cut_to_its_limit_and_the_budget():
    release, challenge, secret, knowledge = membership_world(leak=4.0, n=200, n_shadows=8)
    few = RMIA(max_population=40).execute(release, challenge, fresh(knowledge))
    assert few.queries == 240
    assert auc(few.scores, secret.member) > 0.9
    broke = RMIA().execute(release, challenge, replace(knowledge, budget=230))
    assert broke.queries == 230


@pytest.mark.parametrize("queries", [1, 2, 3, 18])
def test_a_record_beats_z_where_more_than_half_of_its_queries_do(queries):
    rng = np.random.default_rng(0)
    x, z = rng.integers(1, 9, (queries, 30)) / 4, rng.integers(1, 9, 40) / 4
    votes = np.array([[(x[:, i] >= 1.25 * r).sum() > queries / 2 for r in z] for i in range(30)])
    assert np.array_equal(relative_rank(majority(x), z, gamma=1.25), votes.mean(axis=1))


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_augmented_queries_find_the_leak_within_the_budget(mode):
    release, challenge, secret, knowledge = membership_world(leak=3.0, n=150, n_shadows=8)
    attack = RMIA(mode=mode, queries="flip", gamma=1.0)
    output = attack.execute(release, challenge, fresh(knowledge))
    assert output.queries == 3 * 150
    assert auc(output.scores, secret.member) > 0.9
    cut = attack.execute(release, challenge, replace(fresh(knowledge), budget=400))
    assert cut.queries == 300


def test_no_population_is_an_error():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=40, n_shadows=4)
    with pytest.raises(MedleakError, match="no auxiliary records"):
        RMIA().execute(release, challenge, replace(knowledge, auxiliary=None))
    everywhere = [replace(s, auxiliary_member=np.ones(40, dtype=bool)) for s in knowledge.shadows]
    with pytest.raises(MedleakError, match="none can serve as z"):
        RMIA().execute(release, challenge, replace(knowledge, shadows=everywhere))


def test_refusals():
    assert RMIA().incompatibilities(None, {"n_shadows": 4}) == []
    assert len(RMIA().incompatibilities(None, {"n_shadows": 3, "pool": "auxiliary"})) == 2
    assert RMIA(mode="offline").incompatibilities(None, {"n_shadows": 1, "pool": "auxiliary"}) == []
    assert len(RMIA(mode="offline").incompatibilities(None, {"n_shadows": 1})) == 1


@pytest.mark.parametrize(
    "option",
    [{"mode": "x"}, {"queries": 2}, {"gamma": 0}, {"temperature": "2"}, {"a": 1.5}, {"a": True}],
)
def test_options_out_of_range_are_configuration_errors(option):
    with pytest.raises(ConfigError, match="RMIA"):
        RMIA(**option).incompatibilities(None, {"n_shadows": 9})
