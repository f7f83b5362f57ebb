"""A trained network as a function that remembers its answers in the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import MedleakError
from medleak.core.keys import digest
from medleak.core.store import Corrupt, Store
from medleak.training.artefacts import unpacked
from medleak.training.run_spec import RunSpec, with_weights

BATCH = 512


RECENT_BYTES = 32 * 2**20


LEAST_REMEMBERED = 32
"""Fewer records than this are computed again: attacks that query one by one would fill the disk."""


class _Recent:
    """The answers used last, up to `most` bytes: with several targets the same ones serve again."""

    def __init__(self, most: int):
        self.most, self.held, self.kept = most, 0, OrderedDict()

    def get(self, key: str) -> np.ndarray | None:
        if key in self.kept:
            self.kept.move_to_end(key)
        return self.kept.get(key)

    def put(self, key: str, value: np.ndarray) -> None:
        value.flags.writeable = False  # one attack's arithmetic must not reach the next
        self.kept[key] = value
        self.held += value.nbytes
        while self.held > self.most:
            self.held -= self.kept.popitem(last=False)[1].nbytes


_RECENT = _Recent(RECENT_BYTES)


class StoredModel:
    """A trained model as a function, which remembers its answers in the store.

    The answer to a batch of records is an artefact of its own, keyed by run and content: whatever
    an attack asks of a shadow is computed once, and only one shadow is in memory at a time.
    """

    def __init__(self, spec: RunSpec, store: Store, device: str = "cpu", model: Any = None):
        self.spec, self.store, self.device, self.model = spec, store, device, model

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> parameter."""
        if self.model is None:
            return self._weights()
        return {n: t.detach().cpu().numpy() for n, t in self.model.state_dict().items()}

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Outputs before softmax, float32 ``(N, outputs)``; of masks ``(N, K, H, W)``."""
        if len(x) < LEAST_REMEMBERED:
            return self.forward(x)
        key = self._signal_key(x)
        logits = _RECENT.get(key)
        if logits is None:
            stored = self.store.get("signals", key)
            if stored is None:
                logits = self.forward(x)
                self.remember(x, logits)
            else:
                logits = stored.arrays["logits"]
            _RECENT.put(key, logits)
        return logits

    def remember(self, x: np.ndarray, logits: np.ndarray) -> None:
        """Store the answers to `x`, unless they are too few to be worth a folder."""
        if len(x) >= LEAST_REMEMBERED:
            facts = {"run": self.spec.key, "n": len(x)}
            self.store.save("signals", self._signal_key(x), facts, {"logits": logits})

    def _signal_key(self, x: np.ndarray) -> str:
        """By the weights as stored: a run that was trained again may differ in its last bits."""
        try:
            _, weights = self.store.facts("runs", self.spec.key)
        except (KeyError, Corrupt):
            self._stored()  # sets a damaged run aside, and says what is wrong
            raise
        return digest([self.spec.key, weights, self.spec.experiment.content(x)])

    def forward(self, x: np.ndarray) -> np.ndarray:
        """As `logits`, computed anew."""
        import torch

        model = self._load().to(self.device).eval()
        rows = []
        with torch.inference_mode():
            for start in range(0, len(x), BATCH):
                batch = torch.from_numpy(np.array(x[start : start + BATCH])).to(self.device)
                batch = batch.float() / 255 if batch.dtype == torch.uint8 else batch.float()
                rows.append(model(batch).float().cpu().numpy())
        return np.concatenate(rows)

    def activations(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits ``(N, outputs)`` and what the last linear layer receives, ``(N, D)``; computed anew."""
        from medleak.api.networks import last_layer

        network = self._load().cpu().eval()
        features, _, answers = last_layer(network, x, self.spec.experiment.problem.n_outputs)
        return answers, features

    def _load(self) -> Any:
        if self.model is None:
            self.model = with_weights(self.spec.target, self.spec.experiment, self._weights())
        return self.model

    def _weights(self) -> dict[str, np.ndarray]:
        if not self.spec.fitted:
            raise MedleakError(
                f"run {self.spec.key[:12]} trains no network: it makes {self.spec.makes}"
            )
        return unpacked(self._stored().arrays, self.spec.fitted[0], self.spec.makes)

    def _stored(self):
        stored = self.store.get("runs", self.spec.key)
        if stored is None:
            raise MedleakError(f"run {self.spec.key[:12]} is not in the store")
        return stored


def facts_of(spec: RunSpec, store: Store) -> Mapping[str, Any]:
    """What is stored of a run in addition to its weights; raises `MedleakError` where it is gone or damaged."""
    try:
        return store.facts("runs", spec.key)[0]
    except (KeyError, Corrupt) as error:
        store.get("runs", spec.key)  # sets a damaged run aside, so that it is made again
        raise MedleakError(f"run {spec.key[:12]}: {error}") from None
