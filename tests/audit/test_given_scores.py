"""``medleak audit``: figures are the metrics', claims are judged, and nothing malformed is measured."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from audited_scores import audited, stored

from medleak import cli
from medleak.api import MembershipScores, MembershipTruth
from medleak.audit import given_scores as audit
from medleak.metrics.membership import AUC, TPRAtFPR
from medleak.metrics.privacy.epsilon import OneRunEpsilon

pytestmark = pytest.mark.usefixtures("own_folder")


def experiment(n=600, shift=2.0, seed=0):
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    return {"scores": shift * member + rng.normal(size=n), "member": member}


def test_figures_are_those_of_the_metrics(capsys):
    given = experiment()
    np.savez("s.npz", **given)
    facts, page = audited("--scores", "s.npz")
    [row] = facts["rows"]
    scored, secret = (
        MembershipScores(given["scores"], np.arange(600)),
        MembershipTruth(given["member"]),
    )
    for name, metric in {"auc": AUC(), "tpr_at_10fpr": TPRAtFPR(fpr=0.1)}.items():
        expected, found = metric(scored, secret), row["leakage"][name]
        assert (found["value"], found["low"], found["high"]) == (
            expected.value,
            expected.low,
            expected.high,
        )
    bound = OneRunEpsilon()(scored, secret)
    assert row["leakage"]["epsilon"]["value"] == bound.value > 1
    assert facts["bounds"][0]["epsilon"] == bound.value
    assert len(facts["bounds"]) == 3
    assert all(one["assumes"] for one in facts["bounds"])
    told = capsys.readouterr().out
    assert f"≥ {bound.value:.3f}" in told
    assert "600 records" in told
    assert f"report: {audit.OUT / 's' / 'audit.html'}" in told
    assert f"≥ {bound.value:.3f}" in page
    assert row["unit"] == "record (patient unknown)"


def test_the_page_is_one_file(capsys):
    np.savez("s.npz", **experiment(), group_sex=np.array(["<script>x</script>", "M"] * 300))
    facts, page = audited("--scores", "s.npz")
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""\b(src|href)\s*=\s*["'](?!#)""", page.replace("xlink:", ""))
    assert set(facts["rows"][0]["groups"]) == {"sex=<script>x</script>", "sex=M"}
    assert not re.search(r"/(?:home|tmp|root)/", page + json.dumps(facts))


def test_csv_and_npz_give_the_same(capsys):
    given = experiment()
    patients = np.arange(600) // 2
    given["member"] = np.repeat(given["member"][:300], 2)
    np.savez("s.npz", **given, patients=patients)
    with open("s.csv", "w", encoding="utf-8-sig", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["patients", "scores", "member"])
        words = np.where(given["member"], "True", "false")
        lines.writerows(zip([f"p{p:04d}" for p in patients], given["scores"], words, strict=True))
    one = audit.read_scores("s.npz")
    other = audit.read_scores("s.csv")
    for part in ("scores", "member", "patients"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    assert one.patients_known
    assert other.patients_known


def test_scans_of_a_patient_count_once(capsys):
    one = experiment(300)
    many = {name: np.repeat(values, 4) for name, values in one.items()}
    np.savez("s.npz", **many, patients=np.repeat(np.arange(300), 4))
    np.savez("one.npz", **one)
    found, _ = audited("--scores", "s.npz")
    alone, _ = audited("--scores", "one.npz", name="one")
    assert found["rows"][0]["leakage"] == alone["rows"][0]["leakage"]
    assert found["rows"][0]["n_members"] == one["member"].sum()
    # A promise for one record limits nothing here; one for patients does.
    words = ["--scores", "s.npz", "--epsilon", "0.1", "--delta", "1e-5"]
    assert cli.main(["audit", *words]) == 2  # which of the two was promised, nobody can guess
    vacuous, _ = audited(*words, "--unit", "record")
    assert set(vacuous["rows"][0]["upper_bounds"].values()) == {None}
    broken, _ = audited(*words, "--unit", "patient", status=1)
    assert "epsilon" in broken["rows"][0]["violations"]


def test_losses_in_place_of_scores_are_noticed(capsys):
    one = experiment()
    np.savez("s.npz", **{**one, "scores": -one["scores"]})
    _, page = audited("--scores", "s.npz")
    assert "Were losses given?" in page
    assert "Were losses given?" in capsys.readouterr().out
    np.savez("s.npz", **one)
    assert "Were losses given?" not in audited("--scores", "s.npz")[1]


def test_claims_are_judged(capsys):
    np.savez("s.npz", **experiment())
    facts, page = audited("--scores", "s.npz", "--epsilon", "1", "--delta", "1e-5", status=1)
    assert {"epsilon", "auc"} <= set(facts["rows"][0]["violations"])
    assert facts["rows"][0]["upper_bounds"]["epsilon"] == 1
    assert "Above what is claimed" in page
    assert "ABOVE WHAT IS CLAIMED: given scores, " in capsys.readouterr().out
    facts, page = audited("--scores", "s.npz", "--epsilon", "8", "--delta", "1e-5")
    assert facts["rows"][0]["violations"] == []
    assert "Above what is claimed" not in page
    np.savez("null.npz", **experiment(shift=0.0))
    facts, _ = audited("--scores", "null.npz", "--epsilon", "0", "--delta", "0", name="null")
    assert facts["rows"][0]["leakage"]["epsilon"]["value"] == 0


def test_the_claims_delta_is_the_audits(capsys):
    np.savez("s.npz", **experiment())
    strict, _ = audited("--scores", "s.npz", "--delta", "1e-3")
    loose, _ = audited("--scores", "s.npz", "--delta", "0")
    values = [facts["rows"][0]["leakage"]["epsilon"]["value"] for facts in (strict, loose)]
    assert 0 < values[0] < values[1]
    assert [one["delta"] for one in strict["bounds"]] == [1e-3] * 3
    assert [one["delta"] for one in loose["bounds"]] == [0, 0]


def test_members_that_no_coin_chose_are_no_evidence_of_epsilon(capsys):
    rng = np.random.default_rng(0)
    np.savez("s.npz", scores=rng.normal(size=500), member=rng.random(500) < 0.8)
    facts, page = audited("--scores", "s.npz", "--epsilon", "1", "--delta", "1e-5")
    assert "not drawn by fair coins" in facts["rows"][0]["leakage"]["epsilon"]["flag"]
    assert facts["bounds"] == []
    assert "None: members cannot have been drawn by fair coins" in page


def test_infinite_scores_are_the_surest(capsys):
    given = experiment()
    given["scores"][given["member"]] = np.inf
    np.savez("s.npz", **given)
    facts, _ = audited("--scores", "s.npz")
    assert facts["rows"][0]["leakage"]["auc"]["value"] == 1


def test_name_and_folder_are_chosen(capsys, tmp_path):
    np.savez("my scores.npz", **experiment())
    assert cli.main(["audit", "--scores", "my scores.npz", "--out", "o"]) == 0
    assert cli.main(["audit", "--scores", "my scores.npz", "--out", "o", "--name", "b"]) == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["b", "my-scores"]
    assert sorted(p.name for p in (tmp_path / "o" / "b").iterdir()) == ["audit.html", "audit.json"]


def test_neither_torch_nor_hydra_is_imported():
    np.savez("s.npz", **experiment(100))
    stored("sig", n=100, shadows=4)
    code = (
        "import sys; from medleak.cli import main; assert main(['audit', '--help']) == 0;"
        "assert 'numpy' not in sys.modules;"
        "status = main(['audit', '--scores', 's.npz']) + main(['audit', '--signals', 'sig']);"
        "loaded = {'torch', 'hydra', 'omegaconf', 'sklearn'} & set(sys.modules);"
        "assert not loaded, loaded; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Evil:
    def __reduce__(self):
        return open, ("pwned", "w")


def bad(**changes):
    given = {k: v for k, v in (experiment(50) | changes).items() if v is not None}
    np.savez("s.npz", **given)


def text(content, name="s.csv"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(content)


BAD = {
    "NaN": (lambda: bad(scores=np.full(50, np.nan)), "s.npz", "50 of the scores are NaN"),
    "shape": (lambda: bad(scores=np.zeros((50, 2))), "s.npz", "(50, 2): (N,) is needed"),
    "short": (lambda: bad(member=np.ones(3, bool)), "s.npz", "member has shape (3,): (50,)"),
    "two": (lambda: bad(member=np.arange(50) % 3), "s.npz", "member holds 2: 0 or 1 is needed"),
    "half": (lambda: bad(member=np.full(50, 0.5)), "s.npz", "member holds 0.5: 0 or 1"),
    "ones": (lambda: bad(member=np.ones(50)), "s.npz", "all records are members"),
    "noughts": (lambda: bad(member=np.zeros(50)), "s.npz", "all records are non-members"),
    "empty": (lambda: bad(scores=np.zeros(0), member=np.zeros(0)), "s.npz", "has no records"),
    "missing": (lambda: bad(member=None), "s.npz", "has no column 'member' (there are: scores)"),
    "strange": (
        lambda: bad(patient=np.arange(50)), "s.npz",
        "unknown column 'patient': did you mean 'patients'?",
    ),
    "pickle": (
        lambda: bad(scores=np.array([Evil()] * 50)), "s.npz",
        "cannot be read: an array of Python objects",
    ),
    "words": (lambda: bad(scores=np.array(["x"] * 50)), "s.npz", "scores are no numbers"),
    "complex": (lambda: bad(scores=np.zeros(50, complex)), "s.npz", "complex128"),
    "mixed": (lambda: bad(patients=np.zeros(50, int)), "s.npz", "is both member and non-member"),
    "groups": (lambda: bad(group_sex=np.array(["F"])), "s.npz", "group_sex has shape (1,)"),
    "patients": (lambda: bad(patients=np.full(50, np.nan)), "s.npz", "50 of the patients are NaN"),
    "no file": (lambda: None, "s.npz", "'s.npz' is no file"),
    "header": (lambda: text("score,member\n1,1\n"), "s.csv", "unknown column 'score': did you mean"),
    "ending": (lambda: text("", "s.txt"), "s.txt", "ends in .npz or .csv"),
    "broken": (lambda: text("x" * 99, "s.npz"), "s.npz", "cannot be read"),
    "nothing": (lambda: text(""), "s.csv", "has no column 'scores'"),
    "ragged": (lambda: text("scores,member\n1,1\n2\n"), "s.csv", "line 3 has 1 values for 2"),
    "twice": (lambda: text("scores,scores\n1,1\n"), "s.csv", "two columns of one name"),
    "letters": (lambda: text("scores,member\na,1\n2,0\n"), "s.csv", "scores are no numbers"),
    "maybe": (lambda: text("scores,member\n1,1\n2,no\n"), "s.csv", "member holds no: 0 or 1"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("fault", BAD)
def test_malformed_scores_are_refused_in_one_line(fault, capsys, tmp_path):
    make, file, message = BAD[fault]
    make()
    before = sorted(tmp_path.iterdir())
    assert cli.main(["audit", "--scores", file]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of --scores FILE and --signals DIR is needed"),
        (["--scores", "s.npz", "--signals", "d"], "one of --scores FILE"),
        (["--scores", "s.npz", "--epsilon", "1"], "give delta, too"),
        (["--scores", "s.npz", "--epsilon", "-1", "--delta", "0"], "epsilon -1.0: zero or more"),
        (["--scores", "s.npz", "--epsilon", "nan", "--delta", "0"], "epsilon nan"),
        (["--scores", "s.npz", "--epsilon", "inf", "--delta", "0"], "epsilon inf"),
        (["--scores", "s.npz", "--delta", "1"], "delta 1.0: a number from 0 to 1"),
        (["--scores", "s.npz", "--unit", "patents"], "unknown unit of a claim 'patents': did you"),
        (["--scores", "s.npz", "--name", "../x"], "'../x' cannot name an audit"),
        (["--signals", "nowhere"], "'nowhere' is no folder"),
        (["--scors", "s.npz"], "unrecognized arguments: --scors"),
    ],
)
def test_requests_that_cannot_be_met(words, message, capsys, tmp_path):
    np.savez("s.npz", **experiment(50))
    assert cli.main(["audit", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]
