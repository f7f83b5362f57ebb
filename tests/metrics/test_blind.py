"""The blind baseline: chance on a random split, above it on a planted shift."""

import numpy as np
import pytest

from medleak.api import Records, multilabel
from medleak.metrics.blind import blind_auc


def scans(n=400, side=28, seed=0, scans_each=1):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n // scans_each), scans_each)
    shape = rng.normal(size=(n // scans_each, 1, 4, 4))[patients]
    x = (
        120
        + 25 * np.kron(shape, np.ones((side // 4, side // 4)))
        + rng.normal(size=(n, 1, side, side))
    )
    y = rng.integers(0, 2, n // scans_each)[patients]
    return Records(np.clip(x, 0, 255).astype(np.uint8), y, patients)


def coins(records, seed):
    coin = np.random.default_rng(seed).random(records.patients.max() + 1) < 0.5
    return coin[records.patients]


@pytest.mark.parametrize("scans_each", [1, 4])
def test_a_random_split_is_at_chance(scans_each):
    records = scans(scans_each=scans_each)
    got = [blind_auc(records, coins(records, seed)) for seed in range(8)]
    assert abs(np.mean([g.value for g in got]) - 0.5) < 0.06
    assert sum(g.low <= 0.5 <= g.high for g in got) >= 7
    assert got[0].n == 400 // scans_each


@pytest.mark.parametrize("side", [28, 96])
def test_a_brightness_shift_is_found(side):
    records = scans(side=side)
    member = coins(records, 0)
    x = records.x.copy()
    x[member] += 6
    got = blind_auc(Records(x, records.y, records.patients), member)
    assert got.low > 0.6


def test_a_sharpness_shift_is_found():
    records = scans()
    member = coins(records, 0)
    x = records.x.astype(float)
    x[member] += 3 * np.random.default_rng(1).normal(size=x[member].shape)
    got = blind_auc(
        Records(np.clip(x, 0, 255).astype(np.uint8), records.y, records.patients), member
    )
    assert got.low > 0.8


def test_a_label_shift_is_found():
    records = scans()
    member = coins(records, 0)
    y = np.where(np.random.default_rng(0).random(400) < 0.8, member, ~member).astype(int)
    assert blind_auc(Records(records.x, y, records.patients), member).low > 0.6


def test_tables_multilabel_and_colour():
    rng = np.random.default_rng(0)
    member = rng.random(300) < 0.5
    table = rng.normal(size=(300, 10)).astype(np.float32)
    table[member, 3] += 1.5
    y = rng.integers(0, 2, (300, 3))
    assert blind_auc(Records(table, y, np.arange(300)), member, task=multilabel).low > 0.6
    colour = rng.random((300, 3, 30, 31)).astype(np.float32)
    assert blind_auc(Records(colour, y, np.arange(300)), member, task=multilabel).low < 0.5


def test_too_few_patients_is_not_measured():
    records = scans(16)
    got = blind_auc(records, np.arange(16) < 8)
    assert got.value is None
    assert got.flag.startswith("too few")


def test_the_same_seed_gives_the_same_figure():
    records = scans(100)
    assert blind_auc(records, coins(records, 0), 3) == blind_auc(records, coins(records, 0), 3)
