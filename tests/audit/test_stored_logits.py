"""``medleak audit`` on stored signals: attacked, refused where malformed, one shadow at a time."""

import tracemalloc

import numpy as np
import pytest
from audited_scores import audited, stored

from medleak import cli
from medleak.api import DataError, MembershipScores, MembershipTruth
from medleak.audit import stored_logits as signals
from medleak.metrics.membership import AUC
from medleak.metrics.statistics.roc import auc, per_patient

pytestmark = pytest.mark.usefixtures("own_folder")


def test_stored_signals_are_attacked(capsys):
    stored("sig")
    facts, page = audited("--signals", "sig", name="sig")
    lira, rmia = facts["rows"]
    assert [lira["attack"], rmia["attack"]] == ["lira", "rmia"]
    for row in facts["rows"]:
        assert row["leakage"]["auc"]["low"] > 0.7
        assert (row["n_shadows"], row["pool"]) == (8, "audit")
        assert row["controls"]["replica"] == {"ok": True, "notes": []}
    assert len(facts["bounds"]) == 6
    assert page.count("<svg") == 1


def test_lira_on_stored_signals_is_the_likelihood_ratio():
    folder = stored("sig", shadows=24)
    lira = signals.read(folder)[0]
    y = np.load(folder / "labels.npz")["y"]

    def phi(file):
        z = np.load(file)["logits"].astype(np.float64)
        own = z[np.arange(len(y)), y]
        others = np.where(np.arange(z.shape[1]) == y[:, None], -np.inf, z)
        return own - np.log(np.exp(others).sum(axis=1))

    files = sorted(folder.glob("shadow_*.npz"))
    values = np.stack([phi(file) for file in files])
    inside = np.stack([np.load(file)["member"] for file in files])
    target, member = phi(folder / "target.npz"), np.load(folder / "target.npz")["member"]
    score, at = 0.0, lira.patients  # without `patients`, a record's position is its patient
    for mask, sign in ((inside, 1), (~inside, -1)):
        chosen = np.where(mask, values, np.nan)
        mean = np.nanmean(chosen, axis=0)
        challenge = np.isin(np.arange(len(y)), at)
        residual = np.nansum((chosen - mean)[:, challenge] ** 2)
        variance = residual / (mask[:, challenge].sum() - challenge.sum())
        score += sign * (-((target - mean) ** 2) / variance - np.log(variance)) / 2
    assert len(at) == 320
    np.testing.assert_allclose(lira.scores, score[at], atol=1e-6)
    np.testing.assert_array_equal(lira.member, member[at])


def test_the_null_has_no_leak():
    for sample in signals.read(stored("sig", gap=0.0, n=600)):
        low, high = (
            AUC(level=0.998)(
                MembershipScores(sample.scores, sample.patients), MembershipTruth(sample.member)
            ),
            0,
        )
        assert low.low < 0.5 < low.high, high


def test_the_population_is_apart_from_the_challenge():
    patients = np.arange(400) // 4
    folder = stored("sig", labels={"patients": patients})
    target = np.load(folder / "target.npz")["member"]
    held = [np.setdiff1d(patients, sample.patients) for sample in signals.read(folder)]
    np.testing.assert_array_equal(*held)
    assert len(held[0]) == 20
    named = np.isin(patients, [3, 5]) & ~target
    folder = stored("named", labels={"patients": patients, "population": named})
    for sample in signals.read(folder):
        assert set(patients) - set(sample.patients.tolist()) == set(patients[named])
    folder = stored("wrong", labels={"population": np.ones(400, bool)})
    with pytest.raises(DataError, match="population holds members of the target"):
        signals.read(folder)


def test_shadows_without_challenge_records_are_offline():
    lira, rmia = signals.read(stored("sig", online=False))
    assert (lira.attack, rmia.attack) == ("lira_offline", "rmia_offline")
    assert (lira.facts["pool"], lira.facts["n_shadows"]) == ("auxiliary", 7)
    for sample in (lira, rmia):
        assert auc(sample.scores, sample.member) > 0.7


def test_several_labels_and_patients_with_scans():
    folder = stored("sig", multilabel=True, labels={"group_site": np.array(["A", "B"] * 200)})
    for sample in signals.read(folder):
        assert auc(sample.scores, sample.member) > 0.7
        assert set(sample.groups["site"]) == {"A", "B"}
    n = 400
    folder = stored("scans", labels={"patients": np.arange(n) // 2})
    for file in [folder / "target.npz", *folder.glob("shadow_*.npz")]:
        arrays = dict(np.load(file))
        np.savez(file, **arrays | {"member": np.repeat(arrays["member"][::2], 2)})
    for sample in signals.read(folder):
        _, names, _ = per_patient(sample.scores, sample.patients, sample.member)
        assert len(names) == 160


def test_shadows_that_are_no_replicas_are_not_measured(capsys):
    folder = stored("sig")
    for file in folder.glob("shadow_*.npz"):
        arrays = dict(np.load(file))
        np.savez(file, **arrays | {"logits": arrays["logits"] * 0.05})
    facts, page = audited("--signals", "sig", status=1, name="sig")
    for row in facts["rows"]:
        assert row["status"] == "invalid"
        assert "replica check" in row["reason"]
    assert "Not measured" in page
    assert "<svg" not in page
    assert facts["bounds"] == []
    assert "AUC" not in capsys.readouterr().out


def test_one_shadow_is_in_memory_at_a_time():
    folder = stored("sig", n=2000, classes=40, shadows=24)
    one = 2000 * 40 * 4
    tracemalloc.start()
    signals.read(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * one  # all of them would be 25, and as many again in float64


def rewrite(name, **changes):
    def change(folder):
        given = dict(np.load(folder / name)) if (folder / name).exists() else {}
        given |= changes
        np.savez(folder / name, **{k: v for k, v in given.items() if v is not None})

    return change


SHADOW = "shadow_003.npz"
BAD_SIGNALS = {
    "no labels": (lambda folder: (folder / "labels.npz").unlink(), "has no labels.npz"),
    "no target": (lambda folder: (folder / "target.npz").unlink(), "has no target.npz"),
    "few": (
        lambda folder: [f.unlink() for f in list(folder.glob("shadow_*"))[:5]],
        "has 3 shadow_*.npz: at least 4 are needed",
    ),
    "shape": (
        rewrite(SHADOW, logits=np.zeros((400, 4))),
        "logits have shape (400, 4): (400, 3) is needed",
    ),
    "one": (rewrite("target.npz", logits=np.zeros(400)), "(400,): (N, C) is needed"),
    "ints": (rewrite(SHADOW, logits=np.zeros((400, 3), int)), "logits are int64: floats"),
    "NaN": (rewrite(SHADOW, logits=np.full((400, 3), np.nan)), "logits hold NaN or +inf"),
    "-inf": (rewrite(SHADOW, logits=np.full((400, 3), -np.inf)), "logits are all -inf"),
    "member": (rewrite(SHADOW, member=np.ones(3)), "member has shape (3,): (400,) is needed"),
    "missing": (rewrite(SHADOW, member=None), "has no column 'member'"),
    "strange": (
        rewrite(SHADOW, logit=np.zeros(3)), "unknown array 'logit': did you mean 'logits'?"
    ),
    "nobody": (rewrite("target.npz", member=np.zeros(400)), "all records are non-members"),
    "y": (rewrite("labels.npz", y=np.zeros(400)), "y is float64 (400,): integers"),
    "class": (rewrite("labels.npz", y=np.arange(400)), "y holds 0..399: classes 0..2"),
    "labels": (rewrite("labels.npz", y=np.ones((400, 2), int)), "0 or 1 for each of 3 labels"),
    "binary": (
        lambda folder: [
            rewrite(f.name, logits=np.zeros((400, 1)))(folder)
            for f in folder.glob("[st]*.npz")
        ],
        "write (N, 2) for a binary task",
    ),
    "typo": (rewrite("labels.npz", patient=np.zeros(400)), "unknown column 'patient'"),
    "mixed": (
        rewrite("labels.npz", patients=np.arange(400) // 4), "is both member and non-member"
    ),
    "broken": (lambda folder: (folder / SHADOW).write_text("x"), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_SIGNALS)
def test_malformed_signals_are_refused_in_one_line(fault, capsys, tmp_path):
    change, message = BAD_SIGNALS[fault]
    change(stored("sig"))
    assert cli.main(["audit", "--signals", "sig"]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert [p.name for p in tmp_path.iterdir()] == ["sig"]
