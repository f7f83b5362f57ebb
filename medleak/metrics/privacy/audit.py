"""Lower bounds on epsilon from attacks: what a differential-privacy claim must at least have been.

A bound says: were the mechanism (epsilon, delta)-DP with a smaller epsilon, guesses as good as these
would come with probability ``1 - level`` at most. It holds for any attack, under the assumptions that
each `Bound` names; a weak attack makes it small, never wrong. Two kinds of evidence are not to be mixed:

- *trials*: many runs, one secret bit each (a canary in or out), independent of each other (`trials`);
- *one run*: many canaries, each in or out by its own fair coin, in a single model, or in a few
  (`one_run`).

Adjacency is add-or-remove throughout, which is what the coins play: a promise about replacing a record
is another one. A threshold is never chosen on the trials that it is judged by, and the number of
guesses in a run is fixed before anything is seen, or paid for (Bonferroni).
"""

from medleak.metrics.privacy.epsilon_bounds import Bound, gaussian_delta, gaussian_epsilon
from medleak.metrics.privacy.many_runs import (
    Counts,
    audit_runs,
    audit_trials,
    count_on_other_half,
    least_runs,
    trials_epsilon,
    trials_gaussian,
)
from medleak.metrics.privacy.one_run import (
    Guesses,
    approximate_inverse,
    audit_one_run,
    counts_of,
    fdp_epsilon,
    fdp_gaussian,
    fdp_rejects,
    gaussian_inverse,
    guess,
    one_run_epsilon,
    one_run_p_value,
)

__all__ = [
    "Bound",
    "Counts",
    "Guesses",
    "approximate_inverse",
    "audit_one_run",
    "audit_runs",
    "audit_trials",
    "count_on_other_half",
    "counts_of",
    "fdp_epsilon",
    "fdp_gaussian",
    "fdp_rejects",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_inverse",
    "guess",
    "least_runs",
    "one_run_epsilon",
    "one_run_p_value",
    "trials_epsilon",
    "trials_gaussian",
]
