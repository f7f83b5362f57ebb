"""Three processes on shares: sums, parties that die or stall, and that none is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from medleak.api import ConfigError, MedleakError, ProblemSpec
from medleak.defenses.aggregate import _mpc
from medleak.defenses.aggregate.mpc_aggregation import MPCAggregation
from medleak.defenses.train.federated import Federated
from medleak.targets.recipes import SGD
from medleak.testing import check_defense

PROBLEM = ProblemSpec(100, 100, 1, (1, 28, 28), 2)
STEP = 2.0**-26


@pytest.fixture
def parties(monkeypatch):
    """The processes that a test started; none may run when it is over."""
    if _mpc.find_spec("mpyc") is None:
        pytest.skip("the extra 'mpc' is not installed")
    started, start = [], subprocess.Popen

    def recorded(*args, **kwargs):
        started.append(start(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(_mpc.subprocess, "Popen", recorded)
    yield started
    assert len(started) == 3
    assert all(process.returncode is not None for process in started)


def messages(n=4, length=300, seed=0):
    rng = np.random.default_rng(seed)
    return {client: rng.normal(size=length) for client in range(n)}


def summed(defense, sent, dropped=()):
    return defense.aggregate(sent, dropped=dropped, rng=np.random.default_rng(0))


def job(name, **arrays):
    return [{"job": np.array(name), **arrays}] * _mpc.PARTIES


def test_the_sum_is_that_of_the_rounded_messages(parties):
    sent = messages() | {4: np.full(300, 1e12), 5: np.full(300, np.inf)}
    told = summed(MPCAggregation(), sent, dropped=[1])
    most = (2.0**34 - 1) / 6
    assert told.survivors == (0, 2, 3, 4)
    kept = [np.clip(sent[client], -most, most) for client in told.survivors]
    assert np.array_equal(told.total, sum(np.rint(m / STEP) for m in kept) * STEP)
    assert told.cost["clipped_values"] == 300
    assert told.cost["client_bytes"] == 3 * 300 * 8
    # Each server sends its share of the sum to at least one other, and the model to six clients.
    assert told.cost["server_bytes"] > 300 * 8 + 6 * 300 * 4
    assert set(told.excluded) == {1, 5}


@pytest.mark.skipif(_mpc.find_spec("mpyc") is None, reason="the extra 'mpc' is not installed")
def test_too_few_survivors():
    with pytest.raises(MedleakError, match="2 of 4 clients are left, 3 are needed"):
        summed(MPCAggregation(), messages(), dropped=[0, 1])


# --------------------------------------------------------------------------- shares


def test_shares_join_to_the_secret_and_one_says_nothing():
    values = np.random.default_rng(0).normal(size=(40, 50)) * 1e3
    shares = _mpc.split(values)
    assert np.abs(_mpc.join(shares) - values).max() <= 2.0**-25
    low = np.array([_mpc.from_limbs(share) for share in shares]).astype(float) / _mpc.PRIME
    assert np.abs(low.mean(axis=(1, 2)) - 0.5).max() < 5 / np.sqrt(12 * 2000)
    assert np.abs([np.corrcoef(one.ravel(), values.ravel())[0, 1] for one in low]).max() < 0.1


def test_shares_of_a_sum_are_uniform_whatever_the_secret():
    shares = _mpc.split_sum(np.full(4000, -3.25))
    one, two, three = (share.astype(object) for share in shares)
    assert set((2 * one - two) % _mpc.SUM_PRIME) == {_mpc.SUM_PRIME - int(3.25 * 2**26)}
    assert set((2 * two - three) % _mpc.SUM_PRIME - one) == {0}
    for share in shares:
        tenths = np.histogram(share / _mpc.SUM_PRIME, bins=10, range=(0, 1))[0]
        assert np.abs(tenths - 400).max() < 5 * 20


def test_a_share_that_was_changed_is_noticed():
    shares = _mpc.split(np.ones(3))
    shares[1][0, 0] += np.uint64(1)
    with pytest.raises(MedleakError, match="contradict"):
        _mpc.join(shares)


# --------------------------------------------------------------------------- faults


def ask_after(trouble):
    """A sum asked of three parties after `trouble` has happened to their processes."""
    with _mpc.Parties(60) as three:
        trouble(three.processes)
        three.ask(job("sum", shares=np.ones((3, 50), dtype=np.uint64)))


def test_a_killed_party_is_named_in_one_line(parties):
    with pytest.raises(MedleakError, match="party 1 died") as caught:
        ask_after(lambda processes: processes[1].kill())
    assert "\n" not in str(caught.value)


def test_a_party_that_dies_while_others_wait_for_it(parties):
    def stop_then_kill(processes):
        os.kill(processes[2].pid, signal.SIGSTOP)
        threading.Timer(1, processes[2].kill).start()

    with pytest.raises(MedleakError, match="party 2 died"):
        ask_after(stop_then_kill)


def test_a_party_that_stalls_is_named_at_the_deadline(parties):
    with _mpc.Parties(60) as three:
        three.deadline = 1.5
        os.kill(three.processes[0].pid, signal.SIGSTOP)
        with pytest.raises(MedleakError, match=r"no answer from party 0.* within 1.5 s"):
            # More than a pipe holds, so that even sending stalls.
            three.ask(job("sum", shares=np.ones((3, 100_000), dtype=np.uint64)))


def test_a_party_that_fails_says_why(parties):
    with _mpc.Parties(60) as three:
        with pytest.raises(MedleakError, match="failed: KeyError: 'dance'") as caught:
            three.ask(job("dance"))
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(_mpc.find_spec("mpyc") is None, reason="the extra 'mpc' is not installed")
def test_parties_do_not_outlive_their_parent():
    code = (
        "import os, signal, sys; from medleak.defenses.aggregate import _mpc\n"
        "parties = _mpc.Parties(60).__enter__()\n"
        "print(*[p.pid for p in parties.processes], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pids = [int(word) for word in run.stdout.split()]
    assert len(pids) == 3
    until = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a dead process that nobody has asked about is still found
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_without_mpyc(monkeypatch):
    monkeypatch.setattr(_mpc, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"MPCAggregation needs MPyC: .*medleak\[mpc\]"):
        summed(MPCAggregation(), messages())


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        (MPCAggregation(minimum=1), "minimum 1 must"),
        (MPCAggregation(deadline=0), "deadline 0 must"),
    ],
)
def test_faults(defense, words):
    assert words in defense.invalid_parameters()[0]
    with pytest.raises(ConfigError, match=words):
        summed(defense, messages())


def test_contract():
    trainer = Federated(n_clients=4, rounds=2).apply(SGD(), problem=PROBLEM)
    assert check_defense(MPCAggregation(), trainer=trainer) == []
    assert MPCAggregation().incompatibilities(PROBLEM, trainer) == []
    assert "SGD" in MPCAggregation().incompatibilities(PROBLEM, SGD())[0]
    (promise,) = MPCAggregation().guarantees(PROBLEM, trainer)
    assert (promise.kind, promise.adversaries) == ("secret sharing", ("server",))
