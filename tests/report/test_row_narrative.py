import shlex
import subprocess
import sys

from medleak.api import Estimate
from medleak.report import explain


def test_a_measured_row_says_everything(make_row):
    row = make_row("dp_sgd_eps8", "lira", 250, 0)
    text = " ".join(explain(row).split())
    auc = row.leakage["auc"]
    for part in (
        "probability 1/2", "An outsider (honest-but-curious)", "sees its scores", "16 shadow models", "challenge itself",
        "ε = 8, δ = 1e-05", "protecting each record from anyone who sees the model",
        "assumes: Poisson sampling of records", "add/remove",
        f"AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}] 95%", "n = 500",
        "at most 0.930; the whole interval of the evidence lies below it",
        "Most exposed in AUC: sex=F", "Replica check passed", "train 14.2 s", "queries 1,000",
    ):  # fmt: skip
        assert part in text


def test_the_command_is_quoted_for_the_shell(make_row):
    overrides = ["target=x", "attack.a=[1, 2]", "note=it's; rm -rf $HOME"]
    row = make_row("none", "lira", 250, 0, provenance={"overrides": overrides})
    command = explain(row).rstrip().splitlines()[-1].strip()
    assert shlex.split(command) == ["medleak", "run", *overrides]


def test_the_command_names_the_plugin_folders(make_row):
    provenance = {"overrides": ["attack=mine"], "plugins": ["/some where/plugins"]}
    command = explain(make_row("none", "mine", 250, 0, provenance=provenance)).splitlines()[-1]
    assert command == "  medleak --plugins '/some where/plugins' run attack=mine"


def test_a_row_without_provenance_still_has_a_command(make_row):
    text = explain(make_row("none", "lira", 250, 3, provenance={}, extra={"attack.k": 2}))
    assert "target=pneumonia_cnn defense=none attack=lira n_members=250 seed=3 attack.k=2" in text


def test_a_row_that_was_not_measured_says_why_and_claims_nothing(bare_row):
    text = explain(bare_row("label_only", "lira", 250, 0, "not_applicable", "labels only"))
    assert "not applicable: labels only" in text
    assert "not evidence that nothing leaks" in text
    assert "Evidence" not in text


def test_ceilings_are_compared_with_the_evidence(make_row):
    def text(value, low, high, **changes):
        row = make_row(
            "dp_sgd_eps8", "lira", 250, 0, leakage={"auc": Estimate(value, low, high, 9)},
            upper_bounds=changes.pop("upper_bounds", {"auc": 0.7}), **changes,
        )  # fmt: skip
        return " ".join(explain(row).split())

    assert "whole interval of the evidence lies below it" in text(0.6, 0.5, 0.65)
    assert "value lies below it and the interval contains it" in text(0.6, 0.5, 0.8)
    assert "value lies above it and the interval contains it" in text(0.75, 0.65, 0.8)
    assert "VIOLATED" in text(0.9, 0.8, 0.95, violations=("auc",))
    assert "AUC: vacuous" in text(0.9, 0.8, 0.95, upper_bounds={"auc": None})
    assert "None. Nothing limits" in text(0.9, 0.8, 0.95, guarantees=())


def test_groups_too_small_to_measure_are_counted(make_row):
    few = Estimate(None, None, None, 4, flag="too few: 2 members, 2 non-members")
    row = make_row("none", "lira", 250, 0)
    row = make_row("none", "lira", 250, 0, groups={**row.groups, "site=X": {"auc": few}})
    text = " ".join(explain(row).split())
    assert "of 2 groups measured; 1 more are too small to measure." in text


def test_n_says_what_it_counts(make_row):
    assert "n = 500 images" in explain(make_row("none", "lira", 250, 0))
    assert "n = 500 patients" in explain(make_row("none", "lira", 250, 0, unit="record"))


def test_slots_are_printed_as_calls(make_row):
    serve = [{"_target_": "a.b.Round", "digits": 2}, {"_target_": "a.b.LabelOnly"}]
    slots = {"train": {"_target_": "x.DPSGD", "epsilon": 8}, "serve": serve}
    text = explain(make_row("hybrid", "lira", 250, 0, provenance={"slots": slots}))
    assert "hybrid, train stage: DPSGD(epsilon=8)" in text
    assert "hybrid, serve stage: Round(digits=2), then LabelOnly()" in text


def test_simulated_data_are_named(phantom_rows):
    text = explain(phantom_rows[0])
    assert "simulated (phantom)" in text.splitlines()[0]
    assert "no real patient" in text


def test_the_report_is_light_to_import():
    code = (
        "import sys, medleak.report as r; r.explain, r.terminal, r.aggregate, r.publish, r.scan;"
        "print(sorted({'pandas', 'matplotlib', 'jinja2', 'torch', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
