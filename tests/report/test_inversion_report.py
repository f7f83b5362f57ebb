"""Reports of model inversion: figures beside what is shown without the model."""

import numpy as np
import pytest

from medleak.api import Estimate
from medleak.core.store import Store
from medleak.report import explain, formatting, publish, scan, tables, terminal, write
from medleak.report.inversion_gallery import portraits
from medleak.report.narrative import summaries
from medleak.report.specs import spec_of
from medleak.results.aggregate import aggregate
from medleak.results.row import Row

CONTROLS = {"class mean": 0.05, "best auxiliary image": 0.2}


def estimate(value, half=0.1):
    return Estimate(value, value - half, value + half, 40, 0.95, "t over classes")


def pictured(defense="none", value=0.6, gap=0.05, **changes):
    gain = value - max(CONTROLS.values())
    values = {
        "key": f"{defense:0<12}"[:12], "cell": f"cell-{defense}", "status": "ok", "reason": "",
        "target": "phantom_identity", "defense": defense, "attack": "ppa", "n_members": 40, "seed": 0,
        "data": "phantom", "simulated": True, "records": "persons", "unit": "patient",
        "goal": "inversion", "access": "weights", "adversary": "honest-but-curious outsider",
        "utility": {"accuracy": estimate(0.8)},
        "leakage": {"acc_at_1": estimate(value), "ssim_gap": estimate(gap, 0.02)},
        "upper_bounds": {"acc_at_1": None, "ssim_gap": None},
        "baselines": {
            name: {"acc_at_1": estimate(v), "ssim_gap": estimate(0.0)} for name, v in CONTROLS.items()
        },
        "excess": {"acc_at_1": estimate(gain), "ssim_gap": estimate(gap, 0.06)},
        "controls": {"evaluator": {"evaluator": 0.9, "target": 0.8, "n": 160}},
        "cost": {"train_seconds": 9.0, "shadow_seconds": 0, "attack_seconds": 3.0, "queries": 50},
        "provenance": {"overrides": ["target=phantom_identity", f"defense={defense}", "attack=ppa"],
                       "answers": [f"cell-{defense}"]},
    }  # fmt: skip
    return Row(**{**values, **changes})


ROWS = [
    pictured(),
    pictured("label_smoothing", 0.25),
    pictured("dp_sgd_eps8", 0.0, status="invalid", reason="control failed: the evaluator is worse"),
]


def cells(table, header):
    at = [column.header for column in table.columns].index(header)
    return [line.cells[at] for line in table.lines]


def test_the_gain_is_over_the_best_that_owes_nothing_to_the_model():
    table = tables.results(spec_of("inversion"), aggregate(ROWS))
    assert [cell.text for cell in cells(table, "defense")] == [
        "none",
        "dp_sgd_eps8",
        "label_smoothing",
    ]
    assert [cell.text for cell in cells(table, "without the model")] == [
        "0.20",
        formatting.NONE,
        "0.20",
    ]
    first, void, second = cells(table, "gain")
    assert (first.text, first.tone) == ("0.40", "strong")
    assert (second.text, second.tone) == ("0.05", "")
    assert table.lines[1].span.startswith("invalid: control failed")
    assert void.text == formatting.NONE


def test_words_tell_prototypes_from_persons():
    told = {saying.defense: " ".join(saying.sentences) for saying in summaries(aggregate(ROWS))}
    assert "of persons: acc@1 0.60 [0.50, 0.70] with ppa; without the model 0.20" in told["none"]
    assert "more similar to training images" in told["none"]
    assert "cannot be distinguished from the best guess without" in told["label_smoothing"]
    assert "not measured (invalid: control failed" in told["dp_sgd_eps8"]


def test_explain_names_game_evaluator_and_controls():
    told = " ".join(explain(ROWS[0]).split())
    assert "Model inversion" in told
    assert "without the model: class mean 0.05, best auxiliary image 0.20" in told
    assert "evaluator 0.900, target 0.800" in told


def test_files_hold_the_tables_and_are_fit_to_be_published(tmp_path, manifest):
    write(ROWS, tmp_path / "local", manifest=manifest)
    page = (tmp_path / "local" / "report.html").read_text()
    assert 'id="pictures"' in page
    assert "<svg" in page.partition('id="pictures"')[2]
    assert formatting.SIMULATED in terminal(ROWS)
    folder = publish(ROWS, "pictured", manifest=manifest, root=tmp_path)
    assert scan(folder) == []
    assert "Model inversion: without the model" in (folder / "tables.md").read_text()


def test_portraits_show_what_was_stored(tmp_path):
    from medleak.data.experiment import load_experiment_data

    target = {
        "dataset": {
            "_target_": "medleak.targets.datasets.phantom.Phantom",
            "n_patients": 12,
            "scans_per_patient": [4, 4],
        },
        "split": {"n_identities": 5, "n_auxiliary": 6, "n_evaluation": 1},
    }
    experiment, store = load_experiment_data(target, None), Store(tmp_path)
    row = pictured(fingerprint=experiment.dataset.fingerprint)
    with pytest.raises(Exception, match="no longer in the store"):
        portraits(row, store, lambda _: experiment)
    images = np.zeros((2, 4, 1, 28, 28), np.float32)
    arrays = {"reconstructions": images, "note/classes": np.array([1, 3])}
    arrays["baseline/class mean"] = images
    store.save("answers", row.cell, {}, arrays)
    first, second = portraits(row, store, lambda _: experiment)
    assert (first.name, second.name) == ("person 1", "person 3")
    assert len(first.pictures) == 3
    assert first.controls[0][0] == "class mean"
    assert first.original != second.original
    with pytest.raises(Exception, match="the data have changed"):
        portraits(pictured(fingerprint="other"), store, lambda _: experiment)
