"""LiRA and RMIA against plain loops over the same stored logits, written from the papers' formulas."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import Challenge, Knowledge, ProblemSpec, Records, Release, Shadow, task_of
from medleak.attacks.membership.lira import LiRA
from medleak.attacks.membership.rmia import RMIA

N, M, K, Q, C = 30, 25, 40, 18, 3


class Stored:
    """Float32 logits ``(Q N + M, C)`` of a model, answered in the order in which attacks ask."""

    def __init__(self, logits, *, task):
        self.logits, self.task, self.next = logits, task, 0

    def __call__(self, x):
        start, self.next = self.next, self.next + len(x)
        return self.task.log_probabilities(self.logits[start : self.next])


class ExperimentData:
    def __init__(self, task):
        rng = np.random.default_rng(5)
        self.task, self.multilabel = task, task == "multilabel"
        shape = (N + M, C) if self.multilabel else (N + M,)
        self.y = rng.integers(0, 2 if self.multilabel else C, shape)
        self.member = rng.random((K + 1, N)) < 0.5  # the last model is the target
        assert self.member[:K].sum(axis=0).min() >= 2
        assert (~self.member[:K]).sum(axis=0).min() >= 2
        rows = np.concatenate([np.tile(np.arange(N), Q), N + np.arange(M)])
        true = 2.0 * self.y - 1 if self.multilabel else np.eye(C)[self.y]
        pull = np.concatenate([1.0 + self.member, np.ones((K + 1, M))], axis=1)
        self.logits = (2 * rng.normal(size=(K + 1, len(rows), C))
                       + true[rows] * pull[:, rows, None]).astype(np.float32)  # fmt: skip

    def scores(self, attack):
        x = np.zeros((N + M, 1, 2, 2), dtype=np.uint8)
        parts = [Records(x[i], self.y[i], i) for i in np.split(np.arange(N + M), [N])]
        shadows = [
            Shadow(self.member[k], np.zeros(M, dtype=bool), self.release(k)) for k in range(K)
        ]
        task = self.task
        problem = ProblemSpec(N // 2, N // 2, 1, (1, 2, 2), C, task)
        knowledge = Knowledge(problem, auxiliary=parts[1], shadows=shadows)
        challenge = Challenge(parts[0], np.full(N, "natural"))
        return attack.execute(self.release(K), challenge, knowledge).scores

    def release(self, k):
        return Release({"scores": Stored(self.logits[k], task=task_of(self.task))})

    def phi(self, k, q, i):
        """One logit score per label, from the logits alone."""
        z, y = self.logits[k, q * N + i].astype(float), self.y[i]
        if self.multilabel:
            return [z[j] if y[j] else -z[j] for j in range(C)]
        return [z[y] - math.log(sum(math.exp(z[j]) for j in range(C) if j != y))]

    def p(self, k, row, record):
        """Probability of the true outcome at temperature 2."""
        z, y = self.logits[k, row].astype(float) / 2, self.y[record]
        if self.multilabel:
            return math.prod(1 / (1 + math.exp(-z[j] if y[j] else z[j])) for j in range(C))
        return math.exp(z[y]) / sum(math.exp(v) for v in z)


@pytest.fixture(scope="module", params=["multiclass", "multilabel"])
def experiment(request):
    return ExperimentData(request.param)


def pooled(groups):
    squares = sum(sum((v - np.mean(g)) ** 2 for v in g) for g in groups)
    return squares / sum(len(g) - 1 for g in groups)


@pytest.mark.parametrize("variance", ["pooled", "per_example"])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_lira_with_18_queries(experiment, mode, variance):
    labels, expected = C if experiment.multilabel else 1, np.zeros(N)

    def deviation(group, common):
        own = (sum((v - np.mean(group)) ** 2 for v in group) + 2 * common) / (len(group) + 1)
        return math.sqrt(common if variance == "pooled" else own)

    for q in range(Q):
        phi = np.array([[experiment.phi(k, q, i) for i in range(N)] for k in range(K + 1)])
        for j in range(labels):
            sides = [
                [
                    [phi[k, i, j] for k in range(K) if experiment.member[k, i] == side]
                    for i in range(N)
                ]
                for side in (True, False)
            ]
            common = [pooled(groups) for groups in sides]
            for i in range(N):
                v = phi[K, i, j]
                (m_in, s_in), (m_out, s_out) = (
                    (np.mean(groups[i]), deviation(groups[i], c))
                    for groups, c in zip(sides, common, strict=True)
                )
                if mode == "offline":
                    expected[i] += norm.logcdf((v - m_out) / s_out) / Q
                else:
                    expected[i] += (norm.logpdf(v, m_in, s_in) - norm.logpdf(v, m_out, s_out)) / Q
    scores = experiment.scores(LiRA(mode=mode, variance=variance, queries="all"))
    assert np.allclose(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(("queries", "n_queries"), [("identity", 1), ("all", Q)])
def test_rmia(experiment, mode, queries, n_queries):
    a, gamma = 0.4, 1.1

    def ratio(row, record):
        sides = {True: [], False: []}
        for k in range(K):
            sides[bool(record < N and experiment.member[k, record])].append(
                experiment.p(k, row, record)
            )
        out = np.mean(sides[False])
        if mode == "offline":
            return experiment.p(K, row, record) / (((1 + a) * out + 1 - a) / 2)
        return experiment.p(K, row, record), sides[True], out

    first = n_queries * N  # the population is asked after the queries
    offset = Q * N - first  # and stored after all 18 of them
    world_logits = experiment.logits
    experiment.logits = np.delete(world_logits, np.s_[first : first + offset], axis=1)
    try:
        x = [[ratio(q * N + i, i) for i in range(N)] for q in range(n_queries)]
        z = [ratio(first + i, N + i) for i in range(M)]
        if mode == "online":
            known = [(np.mean(i), o) for row in x for _, i, o in row]
            slope = sum((1 - i) * (1 - o) for i, o in known) / sum((1 - o) ** 2 for _, o in known)
            slope = min(max(slope, 0.0), 1.0)
            x = [[p / ((np.mean(i) + o) / 2) for p, i, o in row] for row in x]
            z = [p / ((1 - slope * (1 - o) + o) / 2) for p, _, o in z]  # no model saw a z
        votes = [
            [sum(row[i] / r >= gamma for row in x) > n_queries / 2 for r in z] for i in range(N)
        ]
        attack = RMIA(mode=mode, gamma=gamma, a=a, queries=queries)
        assert np.allclose(experiment.scores(attack), np.mean(votes, axis=1), rtol=0, atol=1e-6)
    finally:
        experiment.logits = world_logits
