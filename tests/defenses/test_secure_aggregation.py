"""Secure aggregation: the sum and nothing else, whoever drops out, and refusal where it must refuse."""

import math
import random

import numpy as np
import pytest

from medleak.api import Aggregated, ConfigError, MedleakError, ProblemSpec
from medleak.defenses.aggregate import _bonawitz, _shamir
from medleak.defenses.aggregate._bonawitz import Client, Server
from medleak.defenses.aggregate._fixed_point import FixedPoint, unsigned
from medleak.defenses.aggregate._masking import needed
from medleak.defenses.aggregate.secure_aggregation import SecureAggregation
from medleak.defenses.train.federated import Federated, FederatedTrainer
from medleak.targets.recipes import SGD
from medleak.testing import check_defense

PROBLEM = ProblemSpec(1000, 1000, 1, (1, 28, 28), 2)
U32 = unsigned(32)


def messages(k, p=200, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return {10 * i + 3: spread * rng.normal(size=p) for i in range(k)}


def rng(seed=0):
    return np.random.default_rng(seed)


def bound(stage, sent, survivors):
    form = FixedPoint(stage.limit, stage.bits, len(sent))
    return len(survivors) * (form.error + 1e-15 * stage.limit)


# ------------------------------------------------------------------ the sum


@pytest.mark.parametrize(
    ("k", "threshold", "dropped", "vanish"),
    [
        (3, 1.0, 0, 0.0), (4, 0.6, 1, 0.0), (5, 0.51, 2, 0.0), (10, 2 / 3, 0, 0.0),
        (10, 2 / 3, 3, 0.0), (10, 0.6, 2, 0.15), (12, 0.51, 0, 0.2), (25, 0.6, 5, 0.1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bits", [32, 64])
def test_the_sum_is_that_of_the_survivors_within_the_stated_error(
    k, threshold, dropped, vanish, bits
):
    sent = messages(k)
    stage = SecureAggregation(threshold=threshold, bits=bits, vanish=vanish, limit=8.0)
    gone = list(sent)[1 : 1 + dropped]
    told = stage.aggregate(sent, dropped=gone, rng=rng())
    assert isinstance(told, Aggregated)
    assert told.survivors == tuple(c for c in sent if c not in gone)
    assert set(told.excluded) == set(gone)
    wanted = sum(sent[c] for c in told.survivors)
    assert np.abs(told.total - wanted).max() <= bound(stage, sent, told.survivors)
    assert told.total.dtype == np.float64


def test_late_vanishing_happens_and_leaves_the_sum_alone():
    sent = messages(30)
    told = [
        SecureAggregation(threshold=0.51, vanish=v).aggregate(sent, dropped=[], rng=rng(1))
        for v in (0.0, 0.3)
    ]
    assert np.array_equal(told[0].total, told[1].total)
    assert told[0].survivors == told[1].survivors == tuple(sent)
    with pytest.raises(MedleakError, match=r"of 30 clients were left to unmask, 16 are needed"):
        SecureAggregation(threshold=0.51, vanish=0.9).aggregate(sent, dropped=[], rng=rng(1))


def test_a_relative_error_of_1e_7_at_32_bits_and_float_precision_at_64():
    sent = messages(10, p=5000)
    wanted = sum(sent.values())
    for bits, least in ((32, 1e-7), (64, 1e-14)):
        total = SecureAggregation(bits=bits, limit=8.0).aggregate(sent, dropped=[], rng=rng()).total
        assert np.abs(total - wanted).max() / np.abs(wanted).max() < least


@pytest.mark.parametrize(("bits", "n"), [(32, 3), (32, 1000), (64, 3), (64, 7)])
def test_the_largest_sum_does_not_overflow_and_one_more_step_would(bits, n):
    form = FixedPoint(2.0, bits, n)
    for sign in (-1, 1):
        codes = [form.encode(np.array([sign * 1e9, sign * 2.0])) for _ in range(n)]
        total = form.decode(np.sum(codes, axis=0, dtype=unsigned(bits)))
        assert total == pytest.approx(2 * sign * n, rel=1e-9)
    assert n * form.steps < 2 ** (bits - 1) <= n * (form.steps + 1)


def test_the_stated_error_is_reached_but_not_exceeded():
    form = FixedPoint(1.0, 32, 10)
    x = np.random.default_rng(0).uniform(-1, 1, 100_000)
    off = np.abs(form.decode(form.encode(x)) - x)
    assert 0.99 * form.error < off.max() <= form.error * (1 + 1e-6)


def test_values_beyond_the_limit_are_clipped_and_counted():
    sent = messages(4)
    sent[3] = np.full(200, 100.0)
    told = SecureAggregation(limit=64).aggregate(sent, dropped=[], rng=rng())
    others = sum(v for c, v in sent.items() if c != 3)
    assert told.total - others == pytest.approx(64, abs=1e-5)
    assert told.cost["clipped_values"] == 200


def test_keys_do_not_touch_the_result_nor_the_generator():
    sent, own = messages(5), rng(3)
    first = SecureAggregation().aggregate(sent, dropped=[], rng=own)
    state = own.bit_generator.state
    random.seed(1)
    second = SecureAggregation().aggregate(sent, dropped=[], rng=(again := rng(3)))
    assert np.array_equal(first.total, second.total)
    assert again.bit_generator.state == state


def test_keys_come_from_the_operating_system(monkeypatch):
    asked = []
    real = _bonawitz.os.urandom
    monkeypatch.setattr(_bonawitz.os, "urandom", lambda n: asked.append(n) or real(n))
    SecureAggregation().aggregate(messages(3), dropped=[], rng=rng())
    assert asked.count(_bonawitz.KEY_BYTES) >= 9


def test_bytes_are_those_sent():
    k, p = 7, 300
    told = SecureAggregation().aggregate(messages(k, p), dropped=[], rng=rng())
    parcel = 12 + 2 * 33 + 16
    assert told.cost["client_bytes"] == 64 + (k - 1) * parcel + 16 + 4 * p + 33 * k
    assert told.cost["server_bytes"] == k * (64 * k + (k - 1) * parcel + 4 * k + 4 * p)
    assert told.cost["client_seconds"] > 0
    assert told.cost["server_seconds"] > 0


# ------------------------------------------------------------------ refusals


def test_below_the_minimum_it_refuses():
    sent = messages(6)
    stage = SecureAggregation(threshold=0.6)
    assert needed(stage, 6) == 4
    assert len(stage.aggregate(sent, dropped=list(sent)[:2], rng=rng()).survivors) == 4
    with pytest.raises(MedleakError, match=r"3 of 6 messages arrived, 4 are needed") as caught:
        stage.aggregate(sent, dropped=list(sent)[:3], rng=rng())
    assert "\n" not in str(caught.value)
    with pytest.raises(MedleakError):
        SecureAggregation().aggregate(messages(1), dropped=[], rng=rng())
    with pytest.raises(MedleakError):
        SecureAggregation().aggregate({}, dropped=[], rng=rng())


def test_broken_messages_are_excluded_by_name():
    sent = messages(6)
    good = {c: v.copy() for c, v in sent.items()}
    sent[13][5] = math.nan
    sent[43] = np.ones(7)
    told = SecureAggregation(threshold=0.6).aggregate(sent, dropped=[], rng=rng())
    assert told.survivors == (3, 23, 33, 53)
    assert told.excluded[13] == "1 of 200 values are no finite numbers"
    assert told.excluded[43] == "its message has shape (7,), not (200,)"
    wanted = sum(good[c] for c in told.survivors)
    assert np.abs(told.total - wanted).max() < 1e-5


def test_without_a_common_length_there_is_no_sum():
    with pytest.raises(MedleakError, match=r"no common shape"):
        SecureAggregation().aggregate(
            {i: np.ones(i // 2 + 1) for i in range(4)}, dropped=[], rng=rng()
        )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"threshold": 0.5}, "threshold"), ({"threshold": 1.1}, "threshold"),
        ({"minimum": 1}, "minimum"), ({"minimum": 2.5}, "minimum"), ({"limit": 0}, "limit"),
        ({"limit": math.inf}, "limit"), ({"bits": 16}, "bits"), ({"vanish": 1}, "vanish"),
    ],
)  # fmt: skip
def test_impossible_settings_are_named(arguments, named):
    (fault,) = SecureAggregation(**arguments).invalid_parameters()
    assert named in fault
    assert repr(arguments[named]) in fault
    with pytest.raises(ConfigError, match=named):
        SecureAggregation(**arguments).aggregate(messages(3), dropped=[], rng=rng())


def test_too_small_a_federation_is_refused_and_promises_name_the_server():
    few, many = (FederatedTrainer(plan=Federated(n_clients=n, participation=0.2)) for n in (10, 50))
    stage = SecureAggregation()
    assert stage.incompatibilities(PROBLEM, few) == [
        "2 of 10 clients take part in a round: 3 are needed for a sum"
    ]
    assert stage.incompatibilities(PROBLEM, many) == []
    (promise,) = stage.guarantees(PROBLEM, many)
    assert promise.kind == "secure aggregation"
    assert promise.epsilon is None
    assert promise.unit == "client"
    assert "7 or more of 10" in promise.protects_from
    assert stage.guarantees(PROBLEM, SGD()) == []


def test_contract():
    for trainer in (None, FederatedTrainer(plan=Federated())):
        assert check_defense(SecureAggregation(), trainer=trainer) == []
    assert set(SecureAggregation.hides) == {"updates"}


# ------------------------------------------------------------------ what the server sees


class Round:
    """The protocol by hand, so that single messages can be looked at and tampered with."""

    def __init__(self, vectors, threshold):
        self.vectors, self.n = vectors, len(vectors)
        self.clients = [Client(place, threshold) for place in range(self.n)]
        self.server = Server(range(self.n), threshold, len(vectors[0]), U32)
        self.directory = self.server.directory(
            {i: c.advertise() for i, c in enumerate(self.clients)}
        )
        parcels = {i: c.share(self.directory) for i, c in enumerate(self.clients)}
        self.inboxes = self.server.inboxes(parcels)

    def masked(self, i):
        return self.clients[i].mask(self.inboxes[i], self.vectors[i])

    def collect(self, *clients):
        return [self.server.collect(i, self.masked(i)) for i in clients]

    def unmask(self, *helpers):
        request = self.server.survivors()
        return self.server.unmask({i: self.clients[i].reveal(request) for i in helpers})


def vectors(n=4, p=50, seed=0):
    drawn = np.random.default_rng(seed).integers(2**32, size=(n, p), dtype=np.uint64)
    return list(drawn.astype(U32))


@pytest.mark.parametrize(
    ("arrived", "helpers"),
    [((0, 1, 2, 3), (0, 1, 2, 3)), ((0, 1, 2), (0, 1, 2)), ((1, 2, 3), (3, 2, 1)), ((0, 1, 2, 3), (1, 2, 3))],
)  # fmt: skip
def test_integers_come_back_exactly(arrived, helpers):
    r = Round(vectors(), 3)
    assert r.collect(*arrived) == [""] * len(arrived)
    wanted = np.sum([r.vectors[i] for i in arrived], axis=0, dtype=U32)
    assert np.array_equal(r.unmask(*helpers), wanted)


def test_a_masked_message_is_uniform_and_tells_nothing():
    from scipy.stats import chisquare

    p = 200_000
    true = np.arange(p, dtype=np.int64) % 1000
    r = Round([true.astype(U32), *vectors(3, p)], 3)
    seen = r.masked(0)[_bonawitz.SESSION_BYTES :]
    codes = np.frombuffer(seen, U32)
    counts = np.bincount(np.frombuffer(seen, np.uint8), minlength=256)
    assert chisquare(counts).pvalue > 1e-6
    assert abs(np.corrcoef(codes.astype(float), true)[0, 1]) < 5 / math.sqrt(p)
    plain = np.bincount(np.frombuffer(true.astype(U32).tobytes(), np.uint8), minlength=256)
    assert chisquare(plain).pvalue < 1e-6  # the test has power
    assert not np.array_equal(codes, true)


def test_the_sum_of_masked_messages_alone_is_masked_too():
    r = Round(vectors(), 3)
    r.collect(0, 1, 2, 3)
    masked = np.sum(list(r.server._masked.values()), axis=0, dtype=U32)
    plain = np.sum(r.vectors, axis=0, dtype=U32)
    assert (masked == plain).mean() < 0.1


def test_fewer_shares_than_the_threshold_do_not_unmask():
    r = Round(vectors(5), 4)
    r.collect(0, 1, 2, 3, 4)
    with pytest.raises(MedleakError, match=r"3 of 5 clients were left to unmask, 4 are needed"):
        r.unmask(0, 1, 2)
    request = r.server.survivors()
    reveals = {i: r.clients[i].reveal(request) for i in (3, 4)}
    r.server._threshold = 2  # a server that tries all the same
    total = r.server.unmask(reveals)
    assert (total == np.sum(r.vectors, axis=0, dtype=U32)).mean() < 0.1


def test_a_client_reveals_once_and_not_for_too_few():
    r = Round(vectors(4), 3)
    r.collect(0, 1, 2)
    with pytest.raises(MedleakError, match="does not unmask 2 survivors"):
        r.clients[0].reveal(np.array([0, 1], "<u4").tobytes())
    assert len(r.clients[0].reveal(r.server.survivors())) == 33 * 4
    with pytest.raises(MedleakError, match="already"):
        r.clients[0].reveal(r.server.survivors())


def test_of_each_client_one_secret_at_most_is_revealed():
    r = Round(vectors(4), 3)
    r.collect(0, 1, 3)
    told = r.clients[0].reveal(r.server.survivors())
    held = {0: 1, 1: 1, 2: 0, 3: 1}  # survivors: the seed (second), vanished: the key (first)
    for place, which in held.items():
        secrets = (r.clients[place]._mask_key, r.clients[place]._seed)
        others = {i: r.clients[i] for i in (1, 3)}
        share = told[33 * place : 33 * (place + 1)]
        shares = {1: share} | {
            i + 1: c._held[place][33 * which : 33 * (which + 1)] for i, c in others.items()
        }
        assert _shamir.join(shares, _shamir.weights(list(shares))) == secrets[which]


def test_shares_are_encrypted_to_their_holder():
    r = Round(vectors(4), 3)
    swapped = {**r.inboxes, 1: r.inboxes[2]}
    with pytest.raises(MedleakError, match="was not encrypted for it"):
        r.clients[1].mask(swapped[1], r.vectors[1])
    one = bytearray(r.inboxes[2])
    one[20] ^= 1
    with pytest.raises(MedleakError, match="from place 0 to place 2"):
        r.clients[2].mask(bytes(one), r.vectors[2])
    split = [r.clients[0]._mask_key, r.clients[0]._seed]
    assert not any(secret in inbox for secret in split for inbox in r.inboxes.values())


def test_wrong_replayed_and_short_messages_are_told_apart():
    r, old = Round(vectors(), 3), Round(vectors(), 3)
    assert r.server.collect(0, old.masked(0)) == "its message belongs to another round"
    assert r.server.collect(1, r.masked(1)[:-4]) == "its masked message has 196 bytes, not 200"
    assert r.collect(0, 1, 2, 3) == [""] * 4
    assert r.server.collect(2, r.masked(2)) == "a second message in one round"


def test_wrong_shares_of_a_key_are_noticed():
    r = Round(vectors(4), 3)
    r.collect(0, 1, 2)
    request = r.server.survivors()
    reveals = {i: r.clients[i].reveal(request) for i in (0, 1, 2)}
    wrong = bytearray(reveals[1])
    wrong[3 * 33 + 5] ^= 1  # the lowest bits of an X25519 key count for nothing
    with pytest.raises(MedleakError, match=r"wrong key|do not belong together"):
        r.server.unmask({**reveals, 1: bytes(wrong)})
    with pytest.raises(MedleakError, match="2 of 4 clients were left"):
        r.server.unmask({**reveals, 1: reveals[1][:-1]})


def test_secrets_show_in_no_text(caplog):
    r = Round(vectors(4), 3)
    r.collect(0, 1, 2)
    texts = [repr(r.clients[0]), repr(r.server), str(r.clients[0]), caplog.text]
    try:
        r.server.unmask({})
    except MedleakError as error:
        texts.append(repr(error))
    for secret in (r.clients[0]._seed, r.clients[0]._mask_key, r.clients[0]._parcel_key):
        assert not any(secret.hex() in text or repr(secret) in text for text in texts)
