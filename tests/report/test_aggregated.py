import dataclasses
import random

import numpy as np
import pytest

from medleak.api import Curve, Estimate
from medleak.metrics.statistics.means import mean_curve, mean_estimate
from medleak.report import aggregate
from medleak.report.columns import bound_text


def test_intervals_are_averaged_and_never_shrunk(make_row):
    seeds = [make_row("none", "lira", 250, seed) for seed in range(5)]
    (one,) = aggregate(seeds)
    estimates = [row.leakage["auc"] for row in seeds]
    auc = one.leakage["auc"]
    assert auc.value == pytest.approx(np.mean([e.value for e in estimates]))
    assert auc.low == pytest.approx(np.mean([e.low for e in estimates]))
    assert auc.high == pytest.approx(np.mean([e.high for e in estimates]))
    assert auc.high - auc.low >= min(e.high - e.low for e in estimates)
    assert auc.n == estimates[0].n
    assert one.seeds == (0, 1, 2, 3, 4)


def test_one_seed_changes_nothing(make_row):
    row = make_row("dp_sgd_eps8", "rmia", 250, 0)
    (one,) = aggregate([row])
    assert {k: v for k, v in one.leakage.items() if k != "roc"} == {
        k: v for k, v in row.leakage.items() if k not in ("roc", "tpr_at_01fpr")
    } | {"tpr_at_01fpr": one.leakage["tpr_at_01fpr"]}
    np.testing.assert_allclose(one.leakage["roc"].y, row.leakage["roc"].y)


def test_a_failed_seed_is_counted_for_every_kind_of_record(make_row, bare_row):
    rows = [make_row("none", "lira", 250, 0, kind) for kind in ("natural", "mislabelled")]
    rows.append(bare_row("none", "lira", 250, 1, "failed", "disk full"))
    found = aggregate(rows)
    assert [one.row.records for one in found] == ["natural", "mislabelled"]
    for one in found:
        assert (one.status, one.seeds, one.asked) == ("ok", (0,), (0, 1))
        assert one.note == "1 of 2 seeds failed: disk full"


def test_a_cell_without_figures_keeps_its_status_and_reason(bare_row):
    rows = [
        bare_row("none", "lira", 250, 0, "not_run", "budget spent"),
        bare_row("none", "lira", 250, 1, "failed", "disk full"),
    ]
    (one,) = aggregate(rows)
    assert one.status == "failed"
    assert one.leakage == {}
    assert "failed: disk full" in one.note
    assert "not run: budget spent" in one.note


def test_an_invalid_row_enters_no_mean(make_row):
    good = make_row("none", "lira", 250, 0)
    bad = make_row("none", "lira", 250, 1, status="invalid", reason="collapsed shadows")
    (one,) = aggregate([good, bad])
    assert one.leakage["auc"].value == good.leakage["auc"].value
    assert one.note == "1 of 2 seeds invalid: collapsed shadows"


def test_values_that_one_seed_lacks_are_flagged():
    measured = Estimate(0.6, 0.5, 0.7, 100, flag="N*FPR < 10")
    mean = mean_estimate([measured, Estimate(None, None, None, 90, flag="undefined here")])
    assert (mean.value, mean.n) == (0.6, 100)
    assert mean.flag == "N*FPR < 10; undefined here; 1 of 2 not measured"
    assert mean_estimate([Estimate(None, None, None, 90)]).value is None


def test_a_missing_bound_is_not_averaged_away():
    mean = mean_estimate([Estimate(0.6, 0.5, 0.7, 100), Estimate(0.8, None, None, 100)])
    assert mean.value == pytest.approx(0.7)
    assert (mean.low, mean.high) == (None, None)


def test_mean_curve_interpolates_between_grids():
    line = Curve((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), 10)
    step = Curve((0.0, 0.5, 1.0), (0.0, 1.0, 1.0), (0.0, 0.8, 1.0), (0.2, 1.0, 1.0), 8)
    mean = mean_curve([line, step])
    assert mean.x == (0.0, 0.5, 1.0)
    assert mean.y == pytest.approx((0.0, 0.75, 1.0))
    assert mean.low == pytest.approx((0.0, 0.65, 1.0))
    assert mean.n == 8


def test_mean_curve_is_thinned_and_keeps_its_ends():
    x = tuple(np.linspace(0, 1, 5000))
    mean = mean_curve([Curve(x, x, x, x, 10)])
    assert len(mean.x) <= 200
    assert (mean.x[0], mean.x[-1]) == (0.0, 1.0)
    np.testing.assert_allclose(mean.y, mean.x)


def test_mean_curve_takes_the_top_of_a_vertical_step():
    curve = Curve((0.0, 0.0, 1.0), (0.0, 0.4, 1.0), (0.0, 0.3, 1.0), (0.0, 0.5, 1.0), 10)
    assert mean_curve([curve]).y == (0.4, 1.0)


def test_one_vacuous_ceiling_makes_the_mean_vacuous(make_row):
    low, high = (make_row("dp_sgd_eps8", "lira", 250, seed) for seed in (0, 1))
    (both,) = aggregate([low, dataclasses.replace(high, upper_bounds={"auc": 0.95})])
    assert both.upper_bounds["auc"] == 0.95
    assert both.upper_bounds["tpr_at_1fpr"] is None
    assert bound_text(both.find("leakage", "tpr_at_1fpr")) == "vacuous"
    (none,) = aggregate([make_row("none", "lira", 250, 0)])
    assert bound_text(none.find("leakage", "auc")) == "–"


def test_the_worst_group_is_the_highest_mean_not_the_mean_of_the_highest(make_row):
    def row(seed, f, m):
        groups = {"sex=F": Estimate(f, 0, 1, 50), "sex=M": Estimate(m, 0, 1, 50)}
        worst = max(groups, key=lambda name: groups[name].value)
        return make_row(
            "none", "lira", 250, seed,
            groups={name: {"auc": e} for name, e in groups.items()},
            worst_group={"auc": {"group": worst, **dataclasses.asdict(groups[worst])}},
        )  # fmt: skip

    (one,) = aggregate([row(0, 0.7, 0.5), row(1, 0.5, 0.6)])
    group, estimate = one.worst_group["auc"]
    assert group == "sex=F"
    assert estimate.value == pytest.approx(0.6)


def test_violations_are_counted_over_seeds(make_row):
    rows = [make_row("dp_sgd_eps1", "lira", 250, s, violations=("auc",) * (s == 1)) for s in (0, 1)]
    (one,) = aggregate(rows)
    assert one.violations == {"auc": 1}


def test_other_axes_separate_cells_and_join_their_names(make_row):
    rows = [make_row("none", "lira", 250, 0, extra={"attack.variance": v}) for v in ("a", "b")]
    assert [one.attack for one in aggregate(rows)] == ["lira (variance=a)", "lira (variance=b)"]


def test_an_axis_that_never_varies_stays_out_of_the_names(make_row):
    rows = [
        make_row("none", "yeom", 250, 0),
        make_row("none", "lira", 250, 0, extra={"n_shadows": 8}),
        make_row("none", "rmia", 250, 0, extra={"n_shadows": 8}),
    ]
    found = aggregate(rows)
    assert [one.attack for one in found] == ["yeom", "lira", "rmia"]
    assert {one.target for one in found} == {"pneumonia_cnn"}
    more = [*rows, make_row("none", "lira", 250, 0, extra={})]
    assert [one.attack for one in aggregate(more)] == [
        "yeom", "lira (n_shadows=8)", "rmia (n_shadows=8)", "lira",
    ]  # fmt: skip


def test_order_does_not_follow_the_order_in_which_seeds_finished(rows):
    def places(found):
        return [(o.row.n_members, o.row.records, o.defense, o.attack) for o in found]

    by_attack = sorted(rows, key=lambda row: row.attack)
    shuffled = sorted(random.Random(0).sample(rows, len(rows)), key=lambda row: row.attack)
    assert places(aggregate(by_attack)) == places(aggregate(shuffled))
    defenses = list(dict.fromkeys(one.defense for one in aggregate(rows)))
    assert defenses == ["none", "label_only", "dp_sgd_eps1e9", "dp_sgd_eps8", "dp_sgd_eps1"]


def test_every_row_is_accounted_for(rows):
    found = aggregate(rows)
    for one in found:
        assert len(one.seeds) + sum(count for *_, count in one.missing) == len(one.asked) == 2


def test_the_replica_check_speaks_for_shadows_only(make_row):
    failed = {"replica": {"ok": False, "notes": ["gap"]}}
    rows = [make_row("none", "lira", 250, 0), make_row("none", "lira", 250, 1, controls=failed)]
    (one,) = aggregate(rows)
    assert one.replica == (False, ("size within 4 s.d.", "accuracy gap 0.004", "gap"))
    (one,) = aggregate([make_row("none", "yeom", 250, 0)])
    assert one.replica is None
