"""Homomorphic aggregation: sums, who is left out, what it costs, and where the secret key is not."""

import pickle
import tempfile

import numpy as np
import pytest

from medleak.api import ConfigError, MedleakError, ProblemSpec
from medleak.defenses.aggregate import _ckks
from medleak.defenses.aggregate.ckks_aggregation import CKKSAggregation, PartialCKKSAggregation
from medleak.defenses.train.federated import Federated
from medleak.targets.recipes import SGD
from medleak.testing import check_defense

PROBLEM = ProblemSpec(100, 100, 1, (1, 28, 28), 2)
STEP = 2.0**-26


@pytest.fixture
def tenseal():
    return pytest.importorskip("tenseal", reason="the extra 'he' is not installed")


def messages(n=4, length=5000, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return {client: scale * rng.normal(size=length) for client in range(n)}


def summed(defense, sent, dropped=()):
    return defense.aggregate(sent, dropped=dropped, rng=np.random.default_rng(0))


@pytest.mark.parametrize("length", [1, 4096, 5000])
@pytest.mark.parametrize("key_holder", ["authority", "clients"])
def test_the_sum_is_that_of_the_rounded_messages(tenseal, length, key_holder):
    sent = messages(length=length)
    told = summed(CKKSAggregation(key_holder=key_holder), sent)
    assert told.survivors == (0, 1, 2, 3)
    assert np.array_equal(told.total, sum(np.rint(m / STEP) * STEP for m in sent.values()))
    assert np.abs(told.total - sum(sent.values())).max() <= len(sent) * STEP / 2
    assert told.cost["clipped_values"] == 0


def test_the_noise_is_far_below_half_a_step(tenseal):
    """With a hundred clients: else sums would not be exact."""
    holder = _ckks.KeyHolder()
    sent = [_ckks.rounded(m, 100) for m in messages(100, 1000).values()]
    cipher = _ckks.add(holder.public(), [_ckks.encrypt(holder.public(), m) for m in sent])
    raw = tenseal.ckks_vector_from(holder._context, cipher[0]).decrypt()
    error = np.abs(np.array(raw) - np.sum(sent, axis=0)).max()
    assert 0 < error < STEP / 8


def test_the_largest_values_do_not_overflow(tenseal):
    sent = {client: np.array([1e9, -1e9, 1023.0]) for client in range(4)}
    told = summed(CKKSAggregation(), sent)
    assert told.total == pytest.approx([4096, -4096, 4092], abs=1e-6)
    assert told.cost["clipped_values"] == 8


def test_who_is_left_out_and_why(tenseal):
    sent = messages(6) | {4: np.full(5000, np.nan), 5: np.zeros(7)}
    told = summed(CKKSAggregation(), sent, dropped=[1])
    assert told.survivors == (0, 2, 3)
    assert np.abs(told.total - sent[0] - sent[2] - sent[3]).max() < 1e-7
    assert "vanished" in told.excluded[1]
    assert "finite" in told.excluded[4]
    assert "shape" in told.excluded[5]
    with pytest.raises(MedleakError, match="2 of 6 clients are left, 3 are needed") as caught:
        summed(CKKSAggregation(), sent, dropped=[1, 2])
    assert "\n" not in str(caught.value)


def test_costs_are_those_of_real_ciphertexts(tenseal):
    sent = messages(4, 5000)
    cost = summed(CKKSAggregation(), sent).cost
    # Two ciphertexts of two polynomials of 8192 coefficients, 60 bits each, compressed.
    assert 0.9 * 2 * 2 * 8192 * 60 / 8 < cost["client_bytes"] < 2 * 2 * 8192 * 8 * 1.1
    assert cost["server_bytes"] == pytest.approx(cost["client_bytes"], rel=0.01)
    shared = summed(CKKSAggregation(key_holder="clients"), sent).cost
    assert shared["server_bytes"] == pytest.approx(4 * cost["server_bytes"], rel=0.01)
    assert min(cost[f"{who}_seconds"] for who in ("client", "server", "key_holder")) > 0


def test_part_of_a_message_is_encrypted(tenseal):
    sent = messages(3, 10_000)
    defense = PartialCKKSAggregation(share=0.2, part="last")
    told = summed(defense, sent)
    seen = defense.visible(10_000)
    assert seen.sum() == 8000
    assert not seen[8000:].any()
    assert np.abs(told.total - sum(sent.values())).max() < 1e-5
    whole = summed(CKKSAggregation(), sent).cost["client_bytes"]
    assert told.cost["client_bytes"] < whole / 2
    assert not PartialCKKSAggregation(part="first").visible(50)[:5].any()
    assert "updates" not in defense.hides
    assert defense.guarantees(PROBLEM, federation()) == []


def test_the_key_stays_with_its_holder(tenseal, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    holder = _ckks.KeyHolder()
    public = tenseal.context_from(holder.public())
    assert not public.has_secret_key()
    assert not public.is_private()
    cipher = _ckks.encrypt(holder.public(), np.ones(3))[0]
    with pytest.raises(ValueError, match="secret_key"):
        tenseal.ckks_vector_from(public, cipher).decrypt()
    with pytest.raises(TypeError, match="not written down"):
        pickle.dumps(holder)
    defense = CKKSAggregation()
    summed(defense, messages(3, 10))
    assert repr(defense) == "CKKSAggregation(key_holder='authority', minimum=3)"
    assert vars(defense) == {"key_holder": "authority", "minimum": 3}
    assert list(tmp_path.iterdir()) == []


def test_equal_messages_are_not_equal_ciphertexts(tenseal):
    public = _ckks.KeyHolder().public()
    assert _ckks.encrypt(public, np.zeros(5)) != _ckks.encrypt(public, np.zeros(5))


def federation(**options):
    return Federated(**{"n_clients": 4, "rounds": 2} | options).apply(SGD(), problem=PROBLEM)


def test_what_is_promised_and_refused():
    assert CKKSAggregation().incompatibilities(PROBLEM, federation()) == []
    assert "SGD" in CKKSAggregation().incompatibilities(PROBLEM, SGD())[0]
    assert (
        "3 are needed" in CKKSAggregation().incompatibilities(PROBLEM, federation(n_clients=2))[0]
    )
    (promise,) = CKKSAggregation(key_holder="clients").guarantees(PROBLEM, federation())
    assert (promise.kind, promise.epsilon, promise.adversaries) == ("ind-cpa", None, ("server",))
    assert any("each of them has the key" in line for line in promise.assumptions)


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        (CKKSAggregation(key_holder="server"), "a server with the key would read every message"),
        (CKKSAggregation(minimum=1), "minimum 1 must be"),
        (PartialCKKSAggregation(share=1.0), "share 1.0 must be"),
        (PartialCKKSAggregation(part="middle"), "part 'middle' must be one of first, last"),
    ],
)
def test_faults(defense, words):
    assert words in defense.invalid_parameters()[0]
    with pytest.raises(ConfigError, match=words):
        summed(defense, messages())


def test_without_tenseal(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tenseal", None)
    with pytest.raises(ConfigError, match=r"CKKSAggregation needs TenSEAL: .*medleak\[he\]"):
        summed(CKKSAggregation(), messages())


@pytest.mark.parametrize("defense", [CKKSAggregation(), PartialCKKSAggregation()])
def test_contract(defense):
    assert check_defense(defense, trainer=federation()) == []
    assert vars(eval(repr(defense))) == vars(defense)
