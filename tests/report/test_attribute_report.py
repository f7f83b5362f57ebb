"""What a report says of attributes: tables, words, explanation, and that it may be published."""

import pytest

from medleak.api import Estimate
from medleak.report import explain, publish, terminal
from medleak.report.narrative import method, summaries
from medleak.report.specs import spec_of
from medleak.report.tables import printed, results
from medleak.report.text_tables import markdown
from medleak.results.aggregate import aggregate
from medleak.results.row import Row

PROMISE = {
    "kind": "dp", "unit": "record", "protects_from": "all", "epsilon": 8.0, "delta": 1e-5,
    "mechanism": {}, "assumptions": (),
}  # fmt: skip


def estimate(value, half=0.05):
    return Estimate(value, value - half, value + half, 90, 0.95, "ranks")


def row(attack, auc, *, records="members", name="sex", defense="none", seed=0, **changes):
    leakage = {"attribute_auc": estimate(auc), "attribute_accuracy": estimate(auc - 0.05)}
    if records == "members":
        leakage["attribute_auc_added"] = estimate(0.01)
    excess = {metric: estimate(e.value - 0.6) for metric, e in list(leakage.items())[:2]}
    return Row(
        key=f"{attack}{name}{records}{defense}{seed}"[:24], cell="c", status="ok", target="phantom_cnn",
        defense=defense, attack=attack, n_members=100, seed=seed, goal="attribute", access="scores",
        adversary="honest-but-curious outsider", records=records, unit="patient", data="phantom",
        simulated=True, leakage=leakage, excess=excess,
        baselines={"label": {"attribute_auc": estimate(0.6)}},
        upper_bounds={"attribute_auc": None}, guarantees=(PROMISE,) if defense != "none" else (),
        extra={"attack.knowledge.attribute": name},
        controls={"asked": {"attribute": name, "values": ["F", "M"], "left_out": 3}},
        utility={"accuracy": estimate(0.8)}, **changes,
    )  # fmt: skip


@pytest.fixture
def rows():
    return [
        row(attack, auc, records=records, name=name, defense=defense)
        for defense in ("none", "dp_sgd_eps8")
        for attack, auc in (("score_attribute", 0.62), ("embedding_attribute", 0.9))
        for name in ("sex", "site")
        for records in ("members", "non-members")
    ]


def test_members_and_the_others_stand_side_by_side(rows):
    found = aggregate(rows)
    table = results(spec_of("attribute"), found)
    headers = [column.header for column in table.columns]
    assert headers[:4] == ["defense", "attack", "attribute", "records"]
    said = [[cell.full for cell in line.cells] for line in table.lines]
    assert [line[2:4] for line in said[:2]] == [["sex", "members"], ["sex", "non-members"]]
    assert said[0][1] == "score_attribute"  # the attribute is told by its own column
    place = headers.index("without the model")
    assert {line[place] for line in said} == {"0.600"}
    gains = [line.cells[headers.index("gain")] for line in table.lines]
    assert {cell.tone for cell in gains} == {"", "strong"}
    assert "bound vacuous" in table.caption


def test_the_terminal_and_the_files_have_the_tables(rows):
    told = terminal(rows)
    assert "embedding_attribute" in told
    assert max(map(len, told.splitlines())) <= 136
    text = markdown(printed(aggregate(rows)))
    assert "## Attribute inference" in text
    assert "## Attribute inference: without the model" in text
    assert "Membership" not in text


def test_words_say_what_was_told_and_that_nothing_limits_it(rows):
    found = aggregate(rows)
    saying = next(one for one in summaries(found) if one.defense == "dp_sgd_eps8")
    text = " ".join(saying.sentences)
    assert "Sex: embedding_attribute" in text
    assert "90 of 100 pairs among members and 90 of 100 pairs among non-members" in text
    assert "without the model 60" in text
    assert text.count("No guarantee about membership limits this") == 1
    assert any("Attributes." in paragraph for paragraph in method(found))
    assert not any("Mislabelled canaries" in paragraph for paragraph in method(found))


def test_a_refused_cell_says_why():
    lost = Row(
        key="k", cell="c", status="not_applicable", target="t", defense="label_only",
        attack="score_attribute", n_members=9, seed=0, goal="attribute", access="scores",
        reason="needs 'scores': the service answers with the label only",
    )  # fmt: skip
    assert "needs 'scores'" in terminal([lost])
    assert "needs 'scores'" in summaries(aggregate([lost]))[0].sentences[0]
    assert "Goal: attribute inference" in explain(lost)


def test_a_row_is_explained(rows):
    told = explain(rows[0])
    assert "predicts the sex (F, M)" in " ".join(told.split())
    assert "without the model: label 0.600" in told
    assert "3 records have another value or none" in " ".join(told.split())


def test_it_may_be_published(rows, tmp_path):
    folder = publish(rows, "attributes", manifest={"name": "attributes"}, root=tmp_path)
    page = (folder / "report.html").read_text()
    assert "Attribute inference" in page
    assert "without the model" in page
    assert "attribute_auc_gain" in (folder / "tables.csv").read_text().splitlines()[0]


def share(auc, attack="neuron_sets"):
    return Row(
        key=attack, cell="c", status="ok", target="phantom_cnn", defense="dp_sgd_eps8", attack=attack,
        n_members=100, seed=0, goal="property", access="weights", n_targets=16, n_shadows=32,
        adversary="honest-but-curious outsider", records="sex=F, 0.3 or 0.7", unit="training set",
        data="phantom", simulated=True, pool="auxiliary", guarantees=(PROMISE,),
        leakage={"property_auc": Estimate(auc, auc - 0.2, auc + 0.05, 16, 0.95, "ranks")},
        upper_bounds={"property_auc": None}, utility={"accuracy": estimate(0.8)},
    )  # fmt: skip


def test_a_share_has_a_table_and_words_of_its_own(tmp_path):
    rows = [share(0.9), share(0.55, "score_property")]
    text = terminal(rows)
    assert "share of sex=F, 0.3 or 0.7" in text
    assert "targets 16" in text
    assert "0.900 [0.700, 0.950]" in text
    said = " ".join(summaries(aggregate(rows))[0].sentences)
    assert "neuron_sets identifies the one with the higher share in 90 of 100 cases" in said
    assert "exceeds guessing" in said
    told = " ".join(explain(rows[0]).split())
    assert "each of 16 targets was trained on about 100 patients" in told
    assert "n = 16 targets" in told
    weak = " ".join(summaries(aggregate([share(0.55)]))[0].sentences)
    assert "cannot be distinguished from guessing" in weak
    folder = publish(rows, "shares", manifest={"name": "shares"}, root=tmp_path)
    assert "Property inference" in (folder / "tables.md").read_text()
