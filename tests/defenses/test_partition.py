"""Which hospital holds whom."""

import numpy as np
import pytest

from medleak.api import ConfigError, Records
from medleak.defenses.train._partition import partition
from medleak.defenses.train.federated import Federated

PLAIN = {"n_clients": 4}


def some_records(n=80):
    rng = np.random.default_rng(0)
    x = rng.random((n, 6)).astype(np.float32)
    site = np.where(np.arange(n) % 3 == 0, "north", "south")
    return Records(x, (x.sum(1) > 3).astype(np.int64), np.arange(n), {"site": site})


def test_patients_stay_with_their_hospital_whoever_is_a_member():
    records, plan = some_records(), Federated(**PLAIN)
    whole = partition(records, plan, n_outputs=2, seed=0)
    assert np.array_equal(np.sort(np.concatenate(whole)), np.arange(80))
    half = np.arange(80) % 2 == 0
    for client, own in enumerate(partition(records.take(half), plan, n_outputs=2, seed=0)):
        assert set(records.patients[half][own]) <= set(records.patients[whole[client]])


def test_scans_of_a_patient_are_never_split():
    records = some_records()
    scans = Records(records.x, records.y, np.arange(80) // 4, records.groups)
    for kind in ("iid", "dirichlet"):
        plan = Federated(**PLAIN | {"partition": kind})
        owners = [set(scans.patients[own]) for own in partition(scans, plan, n_outputs=2, seed=0)]
        assert sum(map(len, owners)) == 20


def test_dirichlet_skews_the_classes():
    records = some_records(4000)
    plan = Federated(**PLAIN | {"partition": "dirichlet", "alpha": 0.1})
    skewed = [
        records.y[own].mean() for own in partition(records, plan, n_outputs=2, seed=0) if len(own)
    ]
    even = Federated(**PLAIN)
    alike = [records.y[own].mean() for own in partition(records, even, n_outputs=2, seed=0)]
    assert np.std(skewed) > 5 * np.std(alike)


def test_natural_clients_are_sites_whoever_is_a_member():
    records = some_records()
    plan = Federated(**PLAIN | {"partition": "natural"})
    whole = partition(records, plan, n_outputs=2, seed=0)
    home = {
        name: next(c for c, own in enumerate(whole) if name in records.groups["site"][own])
        for name in ("north", "south")
    }
    south = records.take(np.flatnonzero(records.groups["site"] == "south"))
    for client, own in enumerate(partition(south, plan, n_outputs=2, seed=0)):
        assert len(own) == (len(south) if client == home["south"] else 0)
    elsewhere = Federated(**PLAIN | {"partition": "natural", "site": "ward"})
    with pytest.raises(ConfigError, match="columns: site"):
        partition(records, elsewhere, n_outputs=2, seed=0)


def test_a_patient_of_two_sites_has_one_hospital():
    records = some_records()
    scans = Records(records.x, records.y, np.arange(80) // 2, records.groups)
    plan = Federated(**PLAIN | {"partition": "natural", "n_clients": 50})
    owners = [set(scans.patients[own]) for own in partition(scans, plan, n_outputs=2, seed=0)]
    assert sum(map(len, owners)) == 40
