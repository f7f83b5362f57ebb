"""LiRA and RMIA from stored signals: 50,000 records, 256 shadows, 18 queries, on two cores."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medleak.api import Challenge, Knowledge, ProblemSpec, Records, Release, Shadow

pytestmark = pytest.mark.bench
RECORDS, SHADOWS, QUERIES, POPULATION, OUTCOMES = 50_000, 256, 18, 10_000, 2
MOST_SECONDS, MOST_MIB = 20, 2048
TARGET = SHADOWS
"""The last model."""


def generate(folder):
    """Log-probabilities of every model as a file of its own, ``(Q N + M, C)`` float32, and its members."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, OUTCOMES, RECORDS + POPULATION)
    true = np.eye(OUTCOMES, dtype=np.float32)[y]
    rows = np.concatenate([np.tile(np.arange(RECORDS), QUERIES), RECORDS + np.arange(POPULATION)])
    noise = rng.standard_normal((len(rows), OUTCOMES), dtype=np.float32)
    for k in range(SHADOWS + 1):
        member = rng.random(RECORDS) < 0.5
        pull = np.append(1.0 + member, np.ones(POPULATION)).astype(np.float32)
        z = true[rows] * pull[rows, None] + np.roll(noise, 7919 * k, axis=0)
        np.save(folder / f"{k}.npy", z - np.logaddexp.reduce(z, axis=1, keepdims=True))
        np.save(folder / f"member-{k}.npy", member)
    np.save(folder / "y.npy", y)


class Stored:
    """Answers with what is stored, in the order in which attacks ask: the queries, the population."""

    def __init__(self, path):
        self._log_p = np.load(path, mmap_mode="r")
        self._next = 0

    def __call__(self, x):
        start, self._next = self._next, self._next + len(x)
        return self._log_p[start : self._next]


class Pool:
    """Shadows read from their files one at a time."""

    def __init__(self, folder):
        self.folder = folder

    def __len__(self):
        return SHADOWS

    def __iter__(self):
        return map(self.open, range(SHADOWS))

    def open(self, k):
        member = np.load(self.folder / f"member-{k}.npy")
        release = Release({"scores": Stored(self.folder / f"{k}.npy")})
        return Shadow(member, np.zeros(POPULATION, dtype=bool), release)


def measure(folder):
    """Seconds of each attack, its AUC, processor time of both, and the peak memory of the process."""
    import resource
    import time

    from medleak.attacks.membership.lira import LiRA
    from medleak.attacks.membership.rmia import RMIA
    from medleak.metrics.statistics.roc import auc

    def records(y, first):
        x = np.zeros((len(y), 1, 2, 2), dtype=np.uint8)
        return Records(x, y, np.arange(first, first + len(y)))

    y, pool = np.load(folder / "y.npy"), Pool(folder)
    challenge = Challenge(records(y[:RECORDS], 0), np.full(RECORDS, "natural"))
    problem = ProblemSpec(RECORDS // 2, RECORDS // 2, 1, (1, 2, 2), OUTCOMES)
    found, begun = {}, time.process_time()
    for name, attack in (("lira", LiRA(queries="all")), ("rmia", RMIA(queries="all"))):
        target = pool.open(TARGET)
        knowledge = Knowledge(problem, auxiliary=records(y[RECORDS:], RECORDS), shadows=pool)
        start = time.perf_counter()
        scores = attack.execute(target.release, challenge, knowledge).scores
        found[f"{name}_seconds"] = time.perf_counter() - start
        found[f"{name}_auc"] = auc(scores, target.member)
    found["cpu_seconds"] = time.process_time() - begun
    found["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return found


def test_lira_and_rmia_from_stored_signals(benchmark, tmp_path):
    generate(tmp_path)
    here = str(Path(__file__).parent)
    code = (
        "import json, pathlib, sys; sys.path.insert(0, sys.argv[1]); import bench_scores; "
        "print(json.dumps(bench_scores.measure(pathlib.Path(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, here, str(tmp_path)]

    def scores():
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(run.stdout)

    found = benchmark.pedantic(scores, rounds=1)
    benchmark.extra_info |= found
    seconds = found["lira_seconds"] + found["rmia_seconds"]
    print(
        f"\nLiRA {found['lira_seconds']:.1f} s, RMIA {found['rmia_seconds']:.1f} s (processor: "
        f"{found['cpu_seconds']:.1f} s of one core), peak {found['mib']} MiB"
    )
    assert min(found["lira_auc"], found["rmia_auc"]) > 0.7  # the planted leak: scores, not zeros
    assert seconds < MOST_SECONDS
    assert found["mib"] < MOST_MIB
