"""``medleak audit``: membership scores, or stored logits of shadows, of any model; no training."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path


def main(arguments: Namespace) -> int:
    from medleak.api import ConfigError
    from medleak.audit import given_scores as audit
    from medleak.audit.page import terminal, write

    if (arguments.scores is None) == (arguments.signals is None):
        raise ConfigError("one of --scores FILE and --signals DIR is needed")
    given = arguments.scores or arguments.signals
    name = audit.named(arguments.name, given)
    if arguments.scores:
        samples = [audit.read_scores(given)]
    else:
        from medleak.audit import stored_logits as signals

        samples = signals.read(given)
    promises = audit.claimed(samples, arguments.epsilon, arguments.delta, arguments.unit)
    found = audit.of_samples(
        samples,
        name=name,
        source=Path(given).name,
        guarantees=promises,
        delta=arguments.delta,
    )
    page = write(found, arguments.out)
    print(terminal(found))
    print(f"\nreport: {page}")
    return 1 if any(row.violations or row.status != "ok" for row in found.rows) else 0
