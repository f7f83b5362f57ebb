"""Encrypted and shared evaluation of square networks, beside the plain one."""

import os
import pickle
import tempfile
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
import torch

from medleak.api import ConfigError, Hidden, MedleakError, ProblemSpec, Release, task_of
from medleak.defenses.serve._square_networks import Linear, SquareNetwork, averages, read
from medleak.defenses.serve.encrypted_inference import EncryptedInference
from medleak.defenses.serve.label_only import LabelOnly
from medleak.defenses.serve.mpc_inference import MPCInference
from medleak.targets.architectures.he_cnn import HECNN, HEMLP
from medleak.targets.architectures.mlp import MLP

SMALL = (1, 10, 10)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def packed():
    pytest.importorskip("tenseal", reason="the extra 'he' is not installed")
    from medleak.defenses.serve import _packed

    return _packed


@pytest.fixture
def mpyc():
    if find_spec("mpyc") is None:  # not imported: it would read the options of pytest
        pytest.skip("the extra 'mpc' is not installed")


def release(model, *, task="multiclass"):
    """What a run releases: log-probabilities by torch in float32, and the state of the model."""

    def scores(x):
        x = torch.from_numpy(x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1))
        with torch.no_grad():
            return task_of(task).log_probabilities(model(x).numpy())

    weights = {name: array.numpy() for name, array in model.state_dict().items()}
    return Release({"scores": scores, "labels": lambda x: scores(x).argmax(-1), "weights": weights})


def problem(shape, outputs=2, task="multiclass"):
    return ProblemSpec(100, 100, 1, shape, outputs, task)


def case(cls=HECNN, shape=SMALL, outputs=2, hidden=8, **options):
    """A release with logits of a few units, its setting, and records."""
    task = options.pop("task", "multiclass")
    model = cls(in_shape=shape, n_outputs=outputs, hidden=hidden, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    x = np.random.default_rng(0).random((6, *shape), dtype=np.float32)
    made = release(model, task=task)
    return made, problem(shape, outputs, task), x


# --------------------------------------------------------------------------- the plain network


@pytest.mark.parametrize(
    ("cls", "shape"),
    [(HECNN, (1, 28, 28)), (HECNN, (3, 45, 31)), (HECNN, (1, 8, 64)), (HEMLP, (3, 9, 64)), (HEMLP, (30,))],
)  # fmt: skip
def test_the_network_that_is_read_is_the_one_that_is_served(cls, shape):
    served, _, x = case(cls, shape, outputs=3, hidden=16)
    network = read(served.weights, shape)
    logits = network.plain(network.entries(x))
    assert task_of("multiclass").log_probabilities(logits) == pytest.approx(
        served.scores(x), abs=1e-5
    )
    assert len(network.layers) == (3 if cls is HECNN else 2)
    if len(shape) == 3:
        pixels = np.round(x * 255).astype(np.uint8)
        assert network.entries(pixels) == pytest.approx(network.entries(pixels / 255), abs=1e-9)


@pytest.mark.parametrize("side", [10, 28, 29, 56, 64, 224])
def test_averages_are_those_of_torch(side):
    x = torch.rand(1, 1, side, 1, dtype=torch.double)
    pooled = torch.nn.functional.adaptive_avg_pool2d(x, (min(28, side), 1))
    assert averages(side) @ x.flatten().numpy() == pytest.approx(pooled.flatten().numpy())


@pytest.mark.parametrize("defense", [EncryptedInference(), MPCInference()])
def test_the_client_sees_scores_and_no_weights(defense):
    plain, public, x = case()
    served = defense.apply(plain, problem=public)
    assert served.plaintext_surrogate
    assert not plain.plaintext_surrogate
    assert np.array_equal(served.scores(x), plain.scores(x))
    assert np.array_equal(served.labels(x), plain.labels(x))
    with pytest.raises(Hidden, match="parameters"):
        _ = served.weights
    labels = LabelOnly().apply(served, problem=public)
    assert labels.plaintext_surrogate
    assert np.array_equal(labels.labels(x), plain.labels(x))
    (promise,) = defense.guarantees(public, None)
    assert promise.epsilon is None
    assert promise.adversaries == ("server",)


@pytest.mark.parametrize("defense", [EncryptedInference(), MPCInference()])
def test_other_networks_are_refused_in_one_line(defense):
    name, (plain, public, _) = type(defense).__name__, case()
    other = release(MLP(in_shape=SMALL, n_outputs=2))
    hidden = plain.without({"weights": "gone"})
    for subject, where, words in (
        (other, public, "HECNN or HEMLP"),
        (plain, problem((1, 20, 20)), r"do not fit records of shape \(1, 20, 20\)"),
        (plain, problem((3, 10, 10)), r"does not fit records of \(3, 10, 10\)"),
        (plain, problem((100,)), r"does not fit records of \(100,\)"),
        (hidden, public, "list it before the fillings that hide them"),
    ):
        with pytest.raises(ConfigError, match=f"{name}.*{words}") as caught:
            defense.apply(subject, problem=where)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("defense", "words"),
    [(EncryptedInference(ring=4096), "ring 4096 must be one of 8192"), (MPCInference(deadline=-1), "deadline -1")],
)  # fmt: skip
def test_faults(defense, words):
    plain, public, _ = case()
    assert words in defense.invalid_parameters()[0]
    with pytest.raises(ConfigError, match=words):
        defense.apply(plain, problem=public)


@pytest.mark.parametrize("defense", [EncryptedInference(ring=16384), MPCInference(deadline=5)])
def test_repr_rebuilds(defense):
    assert vars(eval(repr(defense))) == vars(defense)


def test_a_release_that_is_no_twin_is_refused():
    plain, public, x = case()
    other = case(outputs=2)[0]
    mixed = plain.replaced(weights=other.weights)
    with pytest.raises(MedleakError, match="no plaintext surrogate"):
        EncryptedInference().verify_surrogate(mixed, x, problem=public, n=2)
    with pytest.raises(ConfigError, match="as many records: there are 6"):
        EncryptedInference().verify_surrogate(plain, x, problem=public)


# --------------------------------------------------------------------------- ciphertexts


@pytest.mark.parametrize(
    ("cls", "shape", "outputs", "most"),
    [(HECNN, SMALL, 2, 1e-2), (HECNN, (3, 7, 13), 9, 1e-2), (HEMLP, (30,), 5, 1e-4), (HEMLP, (1, 5, 5), 1, 1e-4)],
)  # fmt: skip
def test_encrypted_logits_are_the_plain_ones(packed, cls, shape, outputs, most):
    task = "multilabel" if outputs == 1 else "multiclass"
    plain, public, x = case(cls, shape, outputs, task=task)
    proof = EncryptedInference().verify_surrogate(plain, x, problem=public, n=3)
    assert 0 < proof.error < most
    assert proof.n == 3
    assert proof.agreement == 1
    assert proof.twin_error < 1e-5
    # A fresh ciphertext: two polynomials of 8192 coefficients, over all primes but the special one.
    assert 250_000 < proof.bytes_in < 2 * 8192 * 8 * 6 * 1.01
    assert proof.bytes_out < 2 * 8192 * 8 * 1.01
    assert 0 < proof.plain_seconds < proof.seconds <= proof.seconds_p95
    assert proof.overhead == proof.seconds / proof.plain_seconds


def test_a_larger_ring_is_more_precise(packed):
    plain, public, x = case(shape=(1, 7, 7), hidden=4)
    one, other = (
        EncryptedInference(ring=ring).verify_surrogate(plain, x, problem=public, n=2)
        for ring in (8192, 16384)
    )
    assert other.error < one.error / 100
    assert other.bytes_in > 2 * one.bytes_in


@pytest.mark.parametrize("sizes", [(5, 3, 2), (3, 20, 1), (40, 40, 33), (1, 1, 1), (7, 64, 5, 9)])
def test_any_sizes(packed, sizes):
    """More outputs than inputs and fewer, and several layers with biases."""
    rng = np.random.default_rng(0)
    layers = tuple(
        Linear(rng.normal(size=(m, n)) / np.sqrt(n), rng.normal(size=m)) for n, m in pairwise(sizes)
    )
    network = SquareNetwork(layers, (sizes[0],))
    entry = rng.normal(size=sizes[0]) / 2
    with packed.session(network, 16384) as session:
        logits = session.ask(entry).logits
    assert logits.shape == (sizes[-1],)
    assert logits == pytest.approx(network.plain(entry[None])[0], abs=1e-5)


def test_the_trap_that_this_packing_avoids(packed):
    """TenSEAL's `mm`, plus a plain list, is wrong in a second `mm`; ours is not (see above)."""
    import tenseal as ts

    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
    context.global_scale = 2**40
    context.generate_galois_keys()
    rng = np.random.default_rng(0)
    x, one, bias, two = (rng.normal(size=shape) for shape in (6, (6, 4), 4, (4, 3)))
    true = (x @ one + bias) @ two
    v = ts.ckks_vector(context, x.tolist())
    listed = (v.mm(one.tolist()) + bias.tolist()).mm(two.tolist()).decrypt()
    bias = ts.ckks_vector(context, bias.tolist())
    added = (v.mm(one.tolist()) + bias).mm(two.tolist()).decrypt()
    assert np.abs(np.array(added) - true).max() < 1e-4
    assert np.abs(np.array(listed) - true).max() > 0.1


def test_what_does_not_fit_the_ring(packed):
    with pytest.raises(ConfigError, match="holds 4096 numbers, not 5000"):
        packed.Ring((5000, 2, 2), 8192)
    with pytest.raises(ConfigError, match="7 levels of 4 layers, where 26 are needed"):
        packed.Ring((4, 4, 4, 4, 4), 8192)
    assert sum(packed.chain(3, 8192).bits) <= 218


def test_no_secret_key_in_any_file_nor_in_the_server(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plain, public, x = case(HEMLP, (12,), hidden=4)
    network = EncryptedInference().network(plain, public)
    with packed.session(network, 8192) as session:
        session.ask(network.entries(x)[0])
        (folder,) = tmp_path.iterdir()
        assert {path.name for path in folder.iterdir()} == {"galois", "relin", "query", "reply"}
        context = session.server.public.context
        for path in folder.iterdir():
            with pytest.raises((RuntimeError, ValueError)):
                packed.seal.SecretKey().load(context, str(path))
        kinds = {type(held).__name__ for held in vars(session.server).values()}
        assert kinds == {"Ring", "Evaluator", "RelinKeys", "GaloisKeys", "list"}
        with pytest.raises(TypeError, match="not written down"):
            pickle.dumps(session.client)
        assert "object at" in repr(session.client)
        strangers = [packed.Client(network.sizes, 8192) for _ in range(5)]
        wrong = np.array([stranger.decrypt(folder / "reply") for stranger in strangers])
        # Real randomness: one of them may be off by a little less, in both of its numbers.
        assert np.abs(wrong - network.plain(network.entries(x))[0]).max() > 1e3
    assert os.listdir(tmp_path) == []


def test_without_the_packages(monkeypatch):
    from medleak.defenses.aggregate import _mpc

    plain, public, x = case()
    monkeypatch.setitem(__import__("sys").modules, "tenseal", None)
    monkeypatch.setattr(_mpc, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"EncryptedInference needs TenSEAL: .*medleak\[he\]"):
        EncryptedInference().verify_surrogate(plain, x, problem=public, n=1)
    with pytest.raises(ConfigError, match=r"MPCInference needs MPyC: .*medleak\[mpc\]"):
        MPCInference().verify_surrogate(plain, x, problem=public, n=1)


# --------------------------------------------------------------------------- shares


@pytest.mark.parametrize(("cls", "shape", "outputs"), [(HECNN, SMALL, 3), (HEMLP, (30,), 2)])
def test_shared_logits_are_the_plain_ones(mpyc, cls, shape, outputs):
    plain, public, x = case(cls, shape, outputs)
    proof = MPCInference().verify_surrogate(plain, x, problem=public, n=3)
    inputs = int(np.prod(shape))
    assert proof.error < 1e-4
    assert proof.agreement == 1
    assert proof.bytes_in == 3 * 16 * inputs
    assert proof.bytes_out == 3 * 16 * outputs
    assert proof.bytes_between > 3 * 8 * 16  # each hidden unit is shared anew at least once


# --------------------------------------------------------------------------- the proof


@pytest.mark.slow
@pytest.mark.parametrize("defense", [EncryptedInference(), MPCInference()])
@pytest.mark.parametrize("cls", [HECNN, HEMLP])
def test_a_hundred_queries_prove_the_twin(packed, mpyc, defense, cls):
    """At full size, on a model that was trained."""
    from medleak.targets.datasets.phantom import Phantom
    from medleak.targets.recipes import SGD

    records = Phantom(n_patients=200, size=28, seed=0).load().records
    public = ProblemSpec(len(records), 200, 3, (1, 28, 28), 2)
    model = cls(in_shape=(1, 28, 28), n_outputs=2)
    recipe = SGD(epochs=15, optimizer="adamw", lr=0.003)
    trained = recipe.fit(model, records, problem=public, seed=0).model
    proof = defense.verify_surrogate(release(trained), records.x, problem=public)
    print(proof)
    assert proof.n == 100
    assert proof.error < 1e-2
    assert proof.agreement >= 0.99
