"""Scores to audit, and the command that audits them."""

import json

import numpy as np

from medleak import cli
from medleak.audit import given_scores as audit


def audited(*words, status=0, name="s"):
    """The JSON file and the page of an audit."""
    assert cli.main(["audit", *words]) == status
    folder = audit.OUT / name
    return json.loads((folder / "audit.json").read_text()), (folder / "audit.html").read_text()


def stored(
    path, *, n=400, classes=3, shadows=8, gap=1.5, seed=0, online=True, share=0.5, labels=None,
    multilabel=False,
):  # fmt: skip
    """A folder of stored logits: a record's own logit rises by `gap` where it was trained on."""
    from pathlib import Path

    folder, rng = Path(path), np.random.default_rng(seed)
    folder.mkdir()
    shape = (n, classes)
    y = rng.integers(0, 2, shape) if multilabel else rng.integers(0, classes, n)
    base = rng.normal(size=shape)
    np.savez(folder / "labels.npz", y=y, **(labels or {}))
    for k in range(-1, shadows):
        member = rng.random(n) < share
        if k >= 0 and not online:
            member[:] = False
        z = base + 0.5 * rng.normal(size=shape)
        if multilabel:
            z += np.where(y, 1, -1) * (1 + gap * member[:, None])
        else:
            z[np.arange(n), y] += 1 + gap * member
        name = "target.npz" if k < 0 else f"shadow_{k:03d}.npz"
        np.savez(folder / name, logits=z.astype(np.float32), member=member)
    return folder
