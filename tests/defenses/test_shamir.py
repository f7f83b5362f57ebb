"""Shamir's shares: any threshold of them gives the secret, and fewer say nothing of it."""

import itertools

import pytest

from medleak.api import MedleakError
from medleak.defenses.aggregate import _shamir


@pytest.mark.parametrize(("t", "n"), [(1, 1), (1, 3), (2, 3), (3, 5), (5, 5), (7, 10)])
def test_any_threshold_of_shares_gives_the_secret(t, n):
    secret = bytes(range(32))
    shares = dict(enumerate(_shamir.split(secret, t, n), start=1))
    for holders in itertools.combinations(shares, t):
        chosen = {h: shares[h] for h in holders}
        assert _shamir.join(chosen, _shamir.weights(list(holders))) == secret


def test_shares_lie_on_one_polynomial_by_brute_force(monkeypatch):
    """In a small field all polynomials can be listed: fewer shares leave every secret equally likely."""
    monkeypatch.setattr(_shamir, "PRIME", 11)
    for t, n in ((2, 3), (3, 4)):
        for secret in (0, 4, 10):
            shares = _shamir.split(bytes([secret]), t, n)
            values = [int.from_bytes(s, "little") for s in shares]
            fits = [
                c
                for c in itertools.product(range(11), repeat=t)
                if all(
                    sum(a * x**i for i, a in enumerate(c)) % 11 == v
                    for x, v in enumerate(values, 1)
                )
            ]
            assert [c[0] for c in fits] == [secret]
            few = [
                c[0]
                for c in itertools.product(range(11), repeat=t)
                if all(
                    sum(a * x**i for i, a in enumerate(c)) % 11 == v
                    for x, v in list(enumerate(values, 1))[: t - 1]
                )
            ]
            assert sorted(few) == list(range(11))


def test_too_few_shares_give_something_else():
    secret = bytes(range(32))
    shares = dict(enumerate(_shamir.split(secret, 3, 5), start=1))
    for holders in itertools.combinations(shares, 2):
        chosen = {h: shares[h] for h in holders}
        assert _shamir.join(chosen, _shamir.weights(list(holders))) != secret


def test_the_field_holds_every_secret():
    for secret in (bytes(32), b"\xff" * 32):
        shares = dict(enumerate(_shamir.split(secret, 2, 3), start=1))
        assert _shamir.join({1: shares[1], 3: shares[3]}, _shamir.weights([1, 3])) == secret
    assert all(pow(a, _shamir.PRIME - 1, _shamir.PRIME) == 1 for a in (2, 3, 5, 7, 11, 13))
    with pytest.raises(MedleakError, match=r"threshold 4 must lie in 1\.\.3"):
        _shamir.split(bytes(32), 4, 3)
