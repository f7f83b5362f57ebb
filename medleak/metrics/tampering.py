"""How well clients tell the models that a dishonest server sends from honest ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medleak.api import Curve, Estimate, MembershipScores, MembershipTruth

SHARES = {"tpr_at_10fpr": 0.1, "tpr_at_1fpr": 0.01}
"""Of honest models that a client may take for tampered ones."""


def detected(noticed: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Estimate | Curve]:
    """A client's detector: "auc", the share of tampered models seen at each of `SHARES`, and "roc".

    The detector is one threshold on what a client notices, the same for all clients. A client sees several
    models of both sorts, which are one observation of each: intervals and `n` are by client.

    Args:
        noticed: "honest" and "tampered" -> pairs of client and what it noticed (higher: more suspect).
    """
    from medleak.metrics.membership import AUC, ROCCurve, TPRAtFPR

    both = [np.reshape(noticed[kind], (-1, 2)) for kind in ("honest", "tampered")]
    tampered = np.repeat([False, True], [len(part) for part in both])
    client, scores = np.concatenate(both).T
    scored = MembershipScores(scores, 2 * client.astype(np.int64) + tampered)
    metrics = {"auc": AUC(), **{n: TPRAtFPR(fpr=f) for n, f in SHARES.items()}, "roc": ROCCurve()}
    n = len(np.unique(client))
    found = {name: metric(scored, MembershipTruth(tampered)) for name, metric in metrics.items()}
    return {
        name: replace(one, n=n, method=one.method.replace("by patient", "by client"))
        for name, one in found.items()
    }
