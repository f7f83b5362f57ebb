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
    promises = audit.claim(arguments.epsilon, arguments.delta, arguments.unit or "record")
    if arguments.scores:
        samples = [audit.read_scores(given)]
    else:
        from medleak.audit import stored_logits as signals

        samples = signals.read(given)
    if promises and arguments.unit is None and any(map(audit.repeated, samples)):
        raise ConfigError(
            "patients have several records: write --unit record or --unit patient, as was promised"
        )
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
