"""Encrypted inference beside the plain network, and encrypted aggregation beside a plain sum."""

import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from medleak.api import ProblemSpec, Release, multiclass
from medleak.defenses.aggregate.ckks_aggregation import CKKSAggregation
from medleak.defenses.aggregate.mpc_aggregation import MPCAggregation
from medleak.defenses.serve.encrypted_inference import EncryptedInference
from medleak.defenses.serve.mpc_inference import MPCInference
from medleak.targets.architectures.he_cnn import HECNN, HEMLP

pytestmark = pytest.mark.bench
SHAPE, CLASSES, QUERIES, CLIENTS = (1, 28, 28), 9, 10, 3
MOST_SECONDS, MOST_ERROR = 3, 1e-2
PACKAGE = {
    EncryptedInference: "tenseal",
    CKKSAggregation: "tenseal",
    MPCInference: "mpyc",
    MPCAggregation: "mpyc",
}


def needs(defense):
    if find_spec(PACKAGE[type(defense)]) is None:
        pytest.skip(f"{PACKAGE[type(defense)]} is not installed")


@pytest.mark.parametrize("cls", [HECNN, HEMLP])
@pytest.mark.parametrize(
    "defense", [EncryptedInference(), EncryptedInference(ring=16384), MPCInference()], ids=repr
)
def test_encrypted_inference(benchmark, defense, cls):
    needs(defense)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = cls(in_shape=SHAPE, n_outputs=CLASSES)
    x = np.random.default_rng(0).random((QUERIES, *SHAPE), dtype=np.float32)

    def scores(x):
        with torch.no_grad():
            return multiclass.log_probabilities(model(torch.from_numpy(x)).numpy())

    weights = {name: array.numpy() for name, array in model.state_dict().items()}
    release = Release({"scores": scores, "weights": weights})
    public = ProblemSpec(100, 100, 1, SHAPE, CLASSES)
    proof = benchmark.pedantic(
        lambda: defense.verify_surrogate(release, x, problem=public, n=QUERIES), rounds=1
    )
    benchmark.extra_info |= vars(proof)
    print(
        f"\n{cls.__name__} {defense}: plain {1e3 * proof.plain_seconds:.2f} ms, encrypted "
        f"{proof.seconds:.2f} s (95%: {proof.seconds_p95:.2f}; x {proof.overhead:.0f}), error "
        f"{proof.error:.1e}, kB in {proof.bytes_in / 1e3:.0f}, out {proof.bytes_out / 1e3:.1f}, "
        f"between {proof.bytes_between / 1e3:.0f}, setup {proof.setup_seconds:.1f} s and "
        f"{proof.setup_bytes / 1e6:.0f} MB"
    )
    assert proof.error < MOST_ERROR
    if getattr(defense, "ring", 8192) == 8192:
        assert proof.seconds < MOST_SECONDS


@pytest.mark.parametrize("length", [50_000, 500_000])
@pytest.mark.parametrize("defense", [CKKSAggregation(), MPCAggregation()], ids=repr)
def test_encrypted_aggregation(benchmark, defense, length):
    needs(defense)
    rng = np.random.default_rng(0)
    messages = {client: rng.normal(size=length) for client in range(CLIENTS)}
    start = time.perf_counter()
    plain = sum(messages.values())
    plain_seconds = time.perf_counter() - start
    told = benchmark.pedantic(lambda: defense.aggregate(messages, dropped=(), rng=rng), rounds=1)
    cost, error = told.cost, np.abs(told.total - plain).max()
    benchmark.extra_info |= {**cost, "error": error}
    print(
        f"\n{length} parameters, {CLIENTS} clients, {defense}: plain {1e3 * plain_seconds:.2f} ms, "
        f"client {cost['client_seconds']:.2f} s and {cost['client_bytes'] / 1e6:.1f} MB "
        f"({cost['client_bytes'] / length / 4:.1f} x float32), server {cost['server_seconds']:.2f} s "
        f"and {cost['server_bytes'] / 1e6:.1f} MB, key holder "
        f"{cost.get('key_holder_seconds', 0):.2f} s, set-up {cost.get('setup_seconds', 0):.1f} s, "
        f"error {error:.1e}"
    )
    assert error <= CLIENTS * 2.0**-27
