"""Seconds of a client and of the server in one round of ten, by number of parameters."""

import numpy as np
import pytest

from medleak.defenses.aggregate.distributed_dp import DistributedDP
from medleak.defenses.aggregate.secure_aggregation import SecureAggregation

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("parameters", [50_000, 500_000])
@pytest.mark.parametrize("kind", [SecureAggregation, DistributedDP])
def test_a_round_of_ten_with_two_dropouts(benchmark, kind, parameters):
    rng = np.random.default_rng(0)
    sent = {client: rng.normal(size=parameters) for client in range(10)}

    def one_round():
        return kind().aggregate(sent, dropped=[2, 5], rng=np.random.default_rng(1))

    told = benchmark.pedantic(one_round, rounds=3, warmup_rounds=1)
    plain = 4 * parameters
    benchmark.extra_info.update(
        {**told.cost, "client_bytes_times_plain": told.cost["client_bytes"] / plain}
    )
    assert len(told.survivors) == 8
