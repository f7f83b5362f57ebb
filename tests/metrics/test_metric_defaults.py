"""What a metric has where its author writes the measurement alone."""

import inspect
from pathlib import Path

import pytest
from bounded import upper_bounds, violations

from medleak.api import Curve, Estimate, Metric
from medleak.config.instantiate import load


class Mean(Metric):
    """The mean of what it is given."""

    def __call__(self, output, secret):
        value = None if output is None else sum(output) / len(output)
        return Estimate(value, None, None, 3, flag="" if value is not None else "nothing")


class Line(Metric):
    """A curve."""

    def __call__(self, output, secret):
        return Curve((0.0,), (0.0,), (0.0,), (0.0,), 5)


def test_the_defaults_claim_nothing():
    metric = Mean()
    assert metric.upper_bound([]) is None
    assert metric.upper_bound([], 0.1) is None
    assert metric.lower_bound([1.0], None) is None
    assert (metric.label, metric.unit, metric.digits, metric.direction) == ("", "", 3, "higher")
    assert upper_bounds({"mean": metric}, []) == {"mean": None}
    assert violations({"mean": metric}, [5.0], None, {"mean": 1.0}) == []


def test_the_default_excess_is_the_difference_without_an_interval():
    found = Mean().excess([3.0, 5.0], [1.0], None)
    assert (found.value, found.low, found.high, found.n) == (3.0, None, None, 3)
    assert Mean().excess(None, [1.0], None) == Estimate(None, None, None, 3, flag="nothing")
    assert Line().excess([1.0], [1.0], None).value is None


def test_the_direction_follows_what_is_leakier():
    class Lower(Mean):
        higher_is_leakier = False

    class Further(Lower):
        pass

    assert (Lower.direction, Further.direction, Mean.direction) == ("lower", "lower", "higher")


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[2] / "conf" / "metric").glob("*.yaml")),
    ids=lambda p: p.stem,
)
def test_every_shipped_metric_has_the_base_signatures(path):
    (target,) = (
        line.split(": ")[1] for line in path.read_text().splitlines() if "_target_" in line
    )
    metric = load(target)
    for name in ("upper_bound", "lower_bound", "excess"):
        ours, base = (
            list(inspect.signature(getattr(c, name)).parameters) for c in (metric, Metric)
        )
        assert ours == base, name
    assert metric.direction == ("higher" if metric.higher_is_leakier else "lower")
