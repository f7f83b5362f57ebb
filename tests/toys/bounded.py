"""Upper bounds and violations of membership metrics, as the engine computes them."""

from medleak.api import Sample
from medleak.engine import figures
from medleak.metrics.privacy.upper_bounds import applicable


def upper_bounds(metrics, guarantees, *, unit="patient", max_records=1):
    fitting = applicable(guarantees, unit=unit, max_records=max_records)
    return {name: metric.upper_bound(fitting) for name, metric in metrics.items()}


def violations(metrics, scored, truth, bounds):
    return list(figures.violations(metrics, Sample("natural", "patient", scored, truth), bounds))
