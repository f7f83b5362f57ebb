"""Realistic rows without any training: figures follow from a Gaussian leak of known strength."""

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import Curve, Estimate
from medleak.results.row import Row

DEFENSES = {"none": None, "dp_sgd_eps1e9": 1e9, "dp_sgd_eps8": 8.0, "dp_sgd_eps1": 1.0}
ATTACKS = {"yeom": 0.5, "modified_entropy": 0.6, "lira": 1.0, "rmia": 0.95}
STRENGTH = {"none": 0.35, "dp_sgd_eps1e9": 0.2, "dp_sgd_eps8": 0.08, "dp_sgd_eps1": 0.02}
ACCURACY = {"none": 0.93, "dp_sgd_eps1e9": 0.91, "dp_sgd_eps8": 0.87, "dp_sgd_eps1": 0.80}
CEILINGS = {
    "dp_sgd_eps1e9": {"auc": None, "tpr_at_10fpr": None, "tpr_at_1fpr": None},
    "dp_sgd_eps8": {"auc": 0.93, "tpr_at_10fpr": 0.79, "tpr_at_1fpr": 0.35},
    "dp_sgd_eps1": {"auc": 0.66, "tpr_at_10fpr": 0.24, "tpr_at_1fpr": 0.031},
}


def _estimate(value, n, flag="", method="patient-clustered bootstrap"):
    half = 1.96 * np.sqrt(max(value * (1 - value), 0.004) / n)
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(float(value), float(low), float(high), n, 0.95, method, flag)


def _leakage(shift, n, rng):
    def tpr(fpr):
        return norm.cdf(norm.ppf(fpr) + shift)

    fpr = np.concatenate([[0.0], np.geomspace(1 / n, 1, 60)])
    y = np.clip(tpr(fpr) + np.append(0, rng.normal(0, 0.004, 60)) * np.sqrt(fpr), 0, 1)
    y = np.maximum.accumulate(y)
    half = 1.96 * np.sqrt(np.maximum(y * (1 - y), 1 / n) / n)
    few = "N*FPR < 10" if n * 0.01 < 10 else ""
    auc = float(norm.cdf(shift / np.sqrt(2)) + rng.normal(0, 0.006))
    return {
        "auc": _estimate(auc, n),
        "tpr_at_10fpr": _estimate(tpr(0.1), n // 2, method="Clopper–Pearson"),
        "tpr_at_1fpr": _estimate(tpr(0.01), n // 2, few, "Clopper–Pearson"),
        "tpr_at_01fpr": Estimate(None, None, None, n // 2, flag="needs 1000 non-members"),
        "precision_at_prior_10": _estimate(0.1 + (auc - 0.5) * 0.2, n),
        "balanced_accuracy": _estimate(0.5 + (auc - 0.5) * 0.7, n),
        "roc": Curve(
            tuple(map(float, fpr)),
            tuple(map(float, y)),
            tuple(map(float, np.clip(y - half, 0, 1))),
            tuple(map(float, np.clip(y + half, 0, 1))),
            n,
        ),
    }


def _guarantees(defense):
    budget = DEFENSES.get(defense)
    if budget is None:
        return ()
    return (
        {
            "kind": "dp", "unit": "record", "protects_from": "anyone who sees the model",
            "epsilon": budget, "delta": 1e-5, "adjacency": "add/remove", "accountant": "PLD",
            "assumptions": ("Poisson sampling of records", "hyper-parameters tuned on other patients"),
            "mechanism": {"name": "poisson_gaussian", "q": 0.064, "sigma": 1.1, "steps": 480},
        },
    )  # fmt: skip


def make_row(defense, attack, n_members, seed, kind="natural", **changes):
    rng = np.random.default_rng([seed, n_members, *defense.encode(), *attack.encode()])
    n = 2 * n_members if kind == "natural" else n_members // 5
    boost = (1.0 if n_members < 500 else 0.6) * (1 if kind == "natural" else 5)
    shift = boost * STRENGTH.get(defense, 0.1) * ATTACKS.get(attack, 0.7) + rng.normal(0, 0.01)
    leakage = _leakage(shift, n, rng)
    auc = leakage["auc"].value
    groups = {
        f"sex={sex}": {"auc": _estimate(min(1, auc + shift_), n // 2)}
        for sex, shift_ in (("F", 0.012), ("M", -0.011))
    }
    accuracy = ACCURACY.get(defense, 0.85) - (0.03 if n_members < 500 else 0) + rng.normal(0, 0.004)
    shadows = 16 if attack in ("lira", "rmia") else 0
    values = dict(
        key=rng.bytes(4).hex(),
        cell=f"cell-{defense}-{attack}-{n_members}-{seed}",
        status="ok",
        target="pneumonia_cnn",
        defense=defense,
        attack=attack,
        n_members=n_members,
        seed=seed,
        data="PneumoniaMNIST 28",
        fingerprint="5f1d" * 16,
        records=kind,
        unit="image (patient unknown)",
        access="scores",
        adversary="honest-but-curious outsider",
        pool="audit" if shadows else "",
        n_shadows=shadows,
        utility={
            "accuracy": _estimate(accuracy, 600, method="Wilson"),
            "auroc": _estimate(min(0.99, accuracy + 0.04), 600),
        },
        utility_groups={"sex=F": {"accuracy": _estimate(accuracy - 0.01, 300)}},
        guarantees=_guarantees(defense),
        leakage=leakage,
        groups=groups,
        worst_group={"auc": {"group": "sex=F", **vars(groups["sex=F"]["auc"])}},
        upper_bounds=CEILINGS.get(defense, {}),
        controls={
            "blind_auc": _estimate(0.5 + rng.normal(0, 0.01), n),
            "replica": {"ok": True, "notes": ["size within 4 s.d.", "accuracy gap 0.004"]},
        },
        cost={
            "train_seconds": 6.2 + (8 if DEFENSES.get(defense) else 0),
            "shadow_seconds": 5.1 * shadows,
            "attack_seconds": 0.4 + shadows * 0.1,
            "queries": n * (2 if shadows else 1),
        },
        provenance={
            "overrides": [
                "target=pneumonia_cnn", f"defense={defense}", f"attack={attack}",
                f"n_members={n_members}", f"seed={seed}",
            ],
            "run": "ab" * 32,
            "versions": {"medleak": "0.1.0", "torch": "2.13.0"},
        },
    )  # fmt: skip
    return Row(**{**values, **changes})


def bare_row(defense, attack, n_members, seed, status, reason, **changes):
    """A cell that was not measured."""
    return Row(
        key=f"{status[:4]}{seed}{n_members}", cell="c", status=status, target="pneumonia_cnn",
        defense=defense, attack=attack, n_members=n_members, seed=seed, reason=reason,
        data="PneumoniaMNIST 28", **changes,
    )  # fmt: skip


def make_rows():
    rows = []
    for n_members in (250, 1000):
        for defense in DEFENSES:
            for attack in ATTACKS:
                for seed in (0, 1):
                    cell = (defense, attack, n_members, seed)
                    if cell == ("dp_sgd_eps8", "rmia", 250, 1):
                        rows.append(bare_row(*cell, "failed", "OSError: disk <full>"))
                    elif cell[:3] == ("dp_sgd_eps1", "modified_entropy", 1000):
                        rows.append(bare_row(*cell, "not_run", "budget of 60 min spent"))
                    elif cell[:3] == ("dp_sgd_eps1", "rmia", 1000):
                        rows.append(bare_row(*cell, "invalid", "replica check: accuracy gap 0.21"))
                    else:
                        rows += [make_row(*cell, kind) for kind in ("natural", "mislabelled")]
        for attack in ("yeom", "lira"):
            reason = "view 'scores': the release gives labels only"
            rows += [
                bare_row("label_only", attack, n_members, s, "not_applicable", reason)
                for s in (0, 1)
            ]
    return rows


# Defense -> who is named of fresh and of trained models, epsilon, megabytes a client sends, accuracy.
FEDERATIONS = {
    "fedsgd": (0.97, 0.85, None, 4.0, 0.93),
    "fedavg": (0.6, 0.35, None, 0.4, 0.94),
    "secure_aggregation": (0.22, 0.1, None, 9.0, 0.93),
    "client_dp_eps8": (0.03, 0.01, 8.0, 4.0, 0.88),
    "client_dp_eps1": (0.01, 0.01, 1.0, 4.0, 0.8),
}
REBUILDERS = {"imprint": 1.0, "inverting_gradients": 0.5}
AGES = ("fresh model", "trained model")


def _share(value, n=128, units=16):
    half = 1.96 * np.sqrt(max(value * (1 - value), 0.02) / units)
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(float(value), float(low), float(high), n, 0.95, "Clopper-Pearson", "")


def _reconstruction(named, n):
    prior = {"mean image": 0.0, "typical image": 0.004, "other messages": 0.01}
    shares = {"identified": named, "recovered": 0.9 * named}
    db = 18 + 60 * named
    leakage = {name: _share(value, n) for name, value in shares.items()}
    leakage["psnr"] = Estimate(db, db - 4, db + 4, n, 0.95, "t", "")
    leakage["ssim"] = Estimate(0.6 + 0.4 * named, 0.5, 1.0, n, 0.95, "t", "")
    leakage["mse"] = Estimate(0.02 - 0.015 * named, 0.001, 0.03, n, 0.95, "t", "")
    baselines = {
        name: {
            "identified": _share(share, n),
            "recovered": _share(0.0, n),
            "psnr": Estimate(18.0 - i, 17.0 - i, 19.0 - i, n, 0.95, "t", ""),
            "ssim": Estimate(0.6, 0.5, 0.7, n, 0.95, "t", ""),
            "mse": Estimate(0.02, 0.01, 0.03, n, 0.95, "t", ""),
        }
        for i, (name, share) in enumerate(prior.items())
    }
    best = {"identified": 0.01, "recovered": 0.0, "psnr": 18.0, "ssim": 0.6, "mse": 0.02}
    excess = {}
    for name, value in best.items():
        ours = leakage[name]
        gain = ours.value - value
        half = (ours.high - ours.low) / 2
        excess[name] = Estimate(gain, gain - half, gain + half, n, 0.95, ours.method, "")
    return {"leakage": leakage, "baselines": baselines, "excess": excess}


def _detected():
    x = np.array([0.0, 0.01, 0.1, 0.5, 1.0])
    y = np.array([0.6, 0.7, 0.9, 1.0, 1.0])
    return {
        "auc": _estimate(0.99, 10),
        "tpr_at_10fpr": _estimate(0.9, 10),
        "tpr_at_1fpr": Estimate(0.7, 0.4, 0.9, 10, flag="N*FPR < 10"),
        "roc": Curve(*(tuple(v.tolist()) for v in (x, y, y - 0.2, np.minimum(1, y + 0.1))), 10),
    }


def make_rebuilt(defense="fedsgd", attack="imprint", seed=0, age="trained model", **changes):
    """A row of reconstruction; figures follow from `FEDERATIONS` and `REBUILDERS`."""
    rng = np.random.default_rng([seed, *defense.encode(), *attack.encode(), *age.encode()])
    fresh, trained, epsilon, sent, accuracy = FEDERATIONS.get(defense, FEDERATIONS["fedsgd"])
    named = (fresh if age == AGES[0] else trained) * REBUILDERS.get(attack, 0.7)
    named = changes.pop("named", named)
    promise = {
        "kind": "dp", "unit": "record", "protects_from": "the server", "epsilon": epsilon,
        "delta": 1e-5, "adversaries": ("outsider", "client", "server"),
        "assumptions": ("Poisson batches inside each client",),
    }  # fmt: skip
    roof = None if epsilon is None else min(1.0, epsilon / 10)
    values = dict(
        key=rng.bytes(4).hex(), cell=f"cell-{defense}-{attack}-{seed}", status="ok",
        target="pneumonia_cnn", defense=defense, attack=attack, n_members=1000, seed=seed,
        data="PneumoniaMNIST 28", fingerprint="5f1d" * 16, records=age,
        unit="image (patient unknown)", goal="reconstruction", access="updates",
        adversary="malicious server",
        utility={"accuracy": _estimate(accuracy, 600, method="Wilson")},
        guarantees=() if epsilon is None else (promise,),
        upper_bounds={"identified": roof, "recovered": roof, "psnr": None, "ssim": None, "mse": None},
        controls={"blind_auc": _estimate(0.5, 2000),
                  "tampering": {**_detected(), "architecture_kept": False}},
        cost={"train_seconds": 30.0, "shadow_seconds": 0, "attack_seconds": 0.4, "queries": 0,
              "client_bytes": 1e6 * sent, "server_bytes": 1e7 * sent, "client_seconds": 0.2,
              "server_seconds": 0.1},
        provenance={"overrides": ["target=pneumonia_cnn", f"defense={defense}", f"attack={attack}"],
                    "answers": [f"cell-{defense}-{attack}-{seed}"]},
    )  # fmt: skip
    return Row(**{**values, **_reconstruction(named, 128), **changes})


def make_rebuilt_rows():
    rows = [
        make_rebuilt(defense, attack, seed, age)
        for defense in FEDERATIONS
        for attack in REBUILDERS
        for seed in (0, 1)
        for age in AGES
        if (defense, attack) != ("fedavg", "inverting_gradients")
    ]
    like = {"goal": "reconstruction", "access": "updates", "adversary": "malicious server"}
    hidden = "needs 'updates': the server adds ciphertexts"
    rows += [
        bare_row("homomorphic", attack, 1000, 0, "not_applicable", hidden, **like)
        for attack in REBUILDERS
    ]
    spent = "budget of 60 min spent"
    rows.append(bare_row("fedavg", "inverting_gradients", 1000, 0, "not_run", spent, **like))
    rows.append(bare_row("fedsgd", "spear", 1000, 0, "failed", "RankError: <full>", **like))
    return rows


@pytest.fixture(name="make_rebuilt")
def _make_rebuilt():
    return make_rebuilt


@pytest.fixture(name="rebuilt_rows", scope="session")
def _rebuilt_rows():
    return make_rebuilt_rows()


@pytest.fixture(name="make_row")
def _make_row():
    return make_row


@pytest.fixture(name="bare_row")
def _bare_row():
    return bare_row


@pytest.fixture(name="rows", scope="session")
def _rows():
    return make_rows()


@pytest.fixture(name="phantom_rows", scope="session")
def _phantom_rows():
    return [
        make_row(
            "none", attack, 250, 0, target="phantom_cnn", data="phantom", simulated=True,
            unit="patient", provenance={"overrides": ["target=phantom_cnn", f"attack={attack}"]},
        )
        for attack in ATTACKS
    ]  # fmt: skip


@pytest.fixture(name="manifest")
def _manifest():
    return {
        "name": "demo",
        "created": "2026-01-02T03:04:05Z",
        "config": {"target": {"name": "pneumonia_cnn", "split": {"n_members": 1000}}},
        "overrides": ["target=pneumonia_cnn", "attack=yeom,lira"],
        "versions": {"medleak": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        "data": {"PneumoniaMNIST 28": "5f1d" * 16},
        "hardware": {"cpu": "2 cores", "memory": "8 GiB"},
        "git": {"commit": "0123abcd", "dirty": False},
    }
