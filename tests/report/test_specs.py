"""Report specs: data for every goal, and templates that render."""

import dataclasses
from pathlib import Path

import pytest

from medleak.api import Estimate
from medleak.report import formatting, narrative
from medleak.report.specs import headline, spec_of
from medleak.results.aggregate import aggregate

CONF = Path(__file__).parents[2] / "conf"
GOALS = ("membership", "reconstruction", "inversion", "attribute", "property")


@pytest.fixture(scope="module")
def shipped():
    return {path.stem for path in (CONF / "metric").glob("*.yaml")}


@pytest.mark.parametrize("goal", GOALS)
def test_a_spec_is_frozen_data_about_shipped_metrics(goal, shipped):
    spec = spec_of(goal)
    assert spec is spec_of(goal)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.goal = "another"
    measured = ("measure", "without", "gain", "bound", "worst group", "n")
    names = {column.measure for column in spec.columns if column.what in measured}
    names |= {spec.headline, *spec.labels, *spec.compared, *spec.spoken}
    assert {name.removesuffix("_added") for name in names} <= shipped


def test_anchors_do_not_clash():
    anchors = [spec_of(goal).anchor for goal in (*GOALS, "unheard_of")]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("goal", [*GOALS, "unheard_of"])
def test_templates_render(goal, make_row):
    spec = spec_of(goal)
    name = next(iter(spec.spoken), spec.headline) or "found"
    row = dataclasses.replace(
        make_row("none", "lira", 250, 0, records="some of them"), goal=goal,
        leakage={name: Estimate(0.7, 0.6, 0.8, 30)},
        controls={"asked": {"attribute": "sex", "values": ["F", "M"], "left_out": 3}},
    )  # fmt: skip
    assert len(narrative.question(row)) >= 2
    (summary,) = narrative.summaries(aggregate([row]))
    assert any("lira" in sentence for sentence in summary.sentences)
    for text in (*narrative.question(row), *summary.sentences):
        assert "{" not in text
        assert "  " not in text


def test_the_headline_is_what_the_lines_have(make_row, make_rebuilt):
    spec = spec_of("membership")
    row = make_row("none", "lira", 250, 0)
    assert headline(spec, aggregate([row])) == "auc"
    few = dataclasses.replace(row, leakage={"advantage": Estimate(0.2, 0.1, 0.3, 9)})
    assert headline(spec, aggregate([few])) == "advantage"
    mse = dataclasses.replace(make_rebuilt(), excess={"mse": Estimate(0.1, 0.0, 0.2, 9)})
    assert headline(spec_of("reconstruction"), aggregate([mse])) == "mse"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("psnr", "PSNR (dB)"),
        ("tpr_at_1fpr", "TPR at 1% FPR"),
        ("auroc", "AUROC"),
        ("my_own", "my own"),
    ],
)
def test_measures_have_names_without_a_spec_too(name, text):
    spec = spec_of("reconstruction") if name == "psnr" else None
    assert formatting.metric(name, spec) == text


def test_costs_are_printed_by_their_unit():
    assert formatting.cost("client_bytes")(4e6) == "4 MB"
    assert formatting.cost("query_bytes_in")(4e6) == "4 MB"
    assert formatting.cost("train_seconds")(30.0) == "30.0 s"
    assert formatting.cost("queries")(1000) == "1,000"
