from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from medleak.api import MedleakError
from medleak.attacks._kernels import augmented
from medleak.attacks.membership._queries import Queries, inside, known, population
from medleak.testing import membership_world


@pytest.fixture
def experiment():
    return membership_world(leak=1.0, n=40, n_shadows=2, pool="auxiliary")


@pytest.mark.parametrize("remembered", [0, 2**20])
def test_queries_are_the_same_for_every_model(monkeypatch, remembered):
    monkeypatch.setattr("medleak.attacks.membership._queries.REMEMBERED", remembered)
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    sent = Queries(x, partial(augmented, queries="all"))
    first, second = list(sent), list(sent)
    assert len(sent) == len(first) == 18
    for one, two, wanted in zip(first, second, augmented(x, "all"), strict=True):
        assert np.array_equal(one, wanted)
        assert np.array_equal(two, wanted)
    assert (first[5] is second[5]) == bool(remembered)  # made once where they fit


def test_queries_are_cut_and_a_table_has_one():
    x = np.zeros((5, 1, 8, 8), dtype=np.uint8)
    made = partial(augmented, queries="all")
    assert [len(Queries(x, made, most=n)) for n in (1, 7, 99)] == [1, 7, 18]
    assert len(list(Queries(x, made, most=1))) == 1
    assert len(Queries(np.zeros((5, 3)), made)) == 1


def test_a_population_is_whole_or_drawn_or_cut_by_the_budget(experiment):
    knowledge = experiment[3]
    records, chosen = population(knowledge, "it", most=40, spent=0)
    assert records is knowledge.auxiliary
    assert chosen == slice(None)
    records, chosen = population(knowledge, "it", most=9, spent=0)
    assert len(records) == len(set(chosen)) == 9
    assert np.array_equal(records.y, knowledge.auxiliary.y[chosen])
    cut = replace(knowledge, budget=50)
    assert len(population(cut, "it", most=40, spent=45)[0]) == 5
    assert len(population(cut, "it", most=40, spent=99)[0]) == 1
    with pytest.raises(MedleakError, match="it: the target has no auxiliary records"):
        population(replace(knowledge, auxiliary=None), "it", most=9, spent=0)


def test_what_is_known_follows_the_pool(experiment):
    _, challenge, _, knowledge = experiment
    shadow = next(iter(knowledge.shadows))
    assert known(knowledge, challenge, "it") is knowledge.auxiliary
    assert inside(knowledge, shadow) is shadow.auxiliary_member
    audit = replace(knowledge, pool="audit")
    assert known(audit, challenge, "it") is challenge.records
    assert inside(audit, shadow) is shadow.member
