"""The training run: the only thing that is ever trained. A target is one column of the membership
matrix, a shadow another."""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak import skews
from medleak.api import (
    OWN,
    AdversaryPolicy,
    Challenge,
    ClientPolicy,
    Knowledge,
    MedleakError,
    PoisoningPolicy,
    Records,
    Release,
    ServerPolicy,
    Trainer,
    Watch,
)
from medleak.components import build, identities, static
from medleak.games import World, load_world, member_digest
from medleak.keys import BENCH_VERSION, array_digest, digest, rng_for, seed_for
from medleak.slots import Slots, filling_blocks, training_blocks
from medleak.store import Corrupt, Store
from medleak.transcripts import Recorder, Transcript

BATCH = 512
RECENT_BYTES = 32 * 2**20
LEAST_REMEMBERED = 32
"""Fewer records than this are computed again: attacks that query one by one would fill the disk."""


@dataclass(frozen=True)
class RunSpec:
    """What a training run is made from; plain data, so that it can be sent to a worker.

    Attributes:
        target: the resolved target YAML.
        slots: the fillings that change training (`slots.training_blocks`).
        n_members: expected number of member patients (None: the target's own).
        pool: "audit" (challenge patients) or "auxiliary", or a skewed one of them (`medleak.skews`).
        column: column of the membership matrix.
        policy: of an active adversary (None: none).
    """

    target: Mapping[str, Any]
    slots: Mapping[str, Any]
    n_members: int | None
    pool: str
    column: int
    policy: Mapping[str, Any] | None = None

    @functools.cached_property
    def world(self) -> World:
        """The patients; loaded once per process."""
        return load_world(self.target, self.n_members)

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 over everything that decides the weights; not device, workers or paths."""
        world = self.world
        return digest(
            {
                "recipe": self.recipe_key,
                "data": world.dataset.fingerprint,
                "members": member_digest(self.records, self.member),
                "validation": self._validation_digest(),
                "bench": BENCH_VERSION,
                "setting": list(world.setting.__dict__.values()),
                "pool": self.pool,
                "column": self.column,
            }
        )

    @property
    def base(self) -> str:
        """Whose patients it is trained on: "audit" or "auxiliary"."""
        return skews.read(self.pool)[0]

    @property
    def records(self) -> Records:
        """The records of the pool, members or not."""
        return self.world.pool(self.base)

    @property
    def member(self) -> np.ndarray:
        """Which of them it is trained on, ``(N,)`` bool."""
        return skews.member(self.world, self.pool, self.column)

    def _validation_digest(self) -> str:
        """Only what may be read: of what is shipped, early stopping and the fillings that say so."""
        recipe, validation = self.target["recipe"], self.world.validation
        blocks = [recipe]
        for filling in self.slots.values():
            blocks += filling_blocks(filling)
        read = [static(block["_target_"]) for block in blocks if block and "_target_" in block]
        if recipe.get("early_stopping") or any(
            not part.builtin or part.literals.get("reads_validation") for part in read
        ):
            return array_digest(validation.x, validation.y)
        return ""

    @functools.cached_property
    def recipe_key(self) -> str:
        """What replicas share: model, recipe, training slots and component versions."""
        return recipe_key(self.target, self.slots, self.policy)

    @functools.cached_property
    def adversary(self) -> AdversaryPolicy | None:
        """The active adversary, built."""
        return build(self.policy, of=AdversaryPolicy) if self.policy else None

    @property
    def challenge(self) -> Challenge:
        """Who is asked about, with what a poisoning adversary planted, and a curious client owns."""
        challenge, adversary = self.world.challenge, self.adversary
        if isinstance(adversary, PoisoningPolicy):
            return adversary.marked(challenge)
        if isinstance(adversary, ClientPolicy):
            records, setting = challenge.records, self.world.setting
            own = make_trainer(self).owned(records, adversary.client, setting)
            return Challenge(records, np.where(own, OWN, challenge.kind))
        return challenge

    @property
    def cost_class(self) -> str:
        """Runs of one class take about the same time."""
        return digest([self.recipe_key, self.world.setting.n_records, self.world.dataset.name])[:16]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "world"}


def recipe_key(
    target: Mapping[str, Any], slots: Mapping[str, Any], policy: Mapping[str, Any] | None = None
) -> str:
    """Digest of model, recipe, training slots and policy, with the versions of their components."""
    blocks = [target["model"], target["recipe"], training_blocks(slots)]
    blocks += [policy] if policy else []
    return digest({"blocks": blocks, "versions": identities(blocks)})


def build_model(target: Mapping[str, Any], world: World, seed: int) -> Any:
    """A fresh ``nn.Module`` whose initial weights depend on `seed` alone."""
    import torch

    setting = world.setting
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return build(target["model"], in_shape=setting.in_shape, n_outputs=setting.n_outputs)


def with_weights(
    target: Mapping[str, Any], world: World, weights: Mapping[str, np.ndarray] | None
) -> Any:
    """The target's network carrying `weights` (None: untrained ones), in evaluation mode."""
    import torch

    model = build_model(target, world, 0)
    if weights is not None:
        model.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()})
    return model.eval()


def make_trainer(spec: RunSpec) -> Trainer:
    """The target's trainer under the training slots of `spec`."""
    return Slots(spec.slots).trainer(build(spec.target["recipe"]), spec.world.setting)


def train(spec: RunSpec, store: Store, *, device: str = "cpu") -> float | None:
    """Train `spec` unless it is stored; the run and its standard answers are then in the store.

    Returns:
        Seconds of training (0 if it was there), or None where another process is at it.
    """
    if store.has("runs", spec.key):
        return 0.0
    with store.claim("runs", spec.key) as mine:
        if not mine:
            return None
        if store.get("runs", spec.key) is not None:
            return 0.0
        return _train(spec, store, device)


def _train(spec: RunSpec, store: Store, device: str) -> float:
    world, start = spec.world, time.perf_counter()
    seed = seed_for("run", spec.recipe_key, world.split_seed, spec.pool, spec.column)
    trainer, records, member = _prepared(spec, seed)
    model = build_model(spec.target, world, seed)
    recorder = Recorder(store, spec.key, _positions(records, spec, member))
    policy = spec.adversary if isinstance(spec.adversary, ServerPolicy) else None
    seat = spec.adversary.client if isinstance(spec.adversary, ClientPolicy) else None
    rng = rng_for("policy", seed)
    knowledge = Knowledge(world.setting, auxiliary=world.auxiliary, rng=rng)
    trained = trainer.watched(Watch(policy, knowledge, recorder, seat)).fit(
        model,
        records,
        setting=world.setting,
        seed=seed,
        validation=world.validation,
        device=device,
    )
    seconds = time.perf_counter() - start
    n_members = len(np.unique(spec.records.patients[member]))
    facts = {**trained.facts, "n_members": n_members, "seconds": seconds}
    facts |= {"messages": recorder.kept} if recorder.kept else {}
    network = Network(spec, store, device, trained.model)
    parts = (world.challenge.records, world.auxiliary, world.evaluation)
    answers = [(part.x, network.forward(part.x)) for part in parts if len(part)]
    if not all(np.isfinite(logits).all() for _, logits in answers):
        raise MedleakError("training diverged: the model answers NaN or infinity")
    store.save("runs", spec.key, facts, network.arrays())
    for x, logits in answers:
        network.remember(x, logits)
    remember_cost(store, cost_key(spec.cost_class, device), seconds)
    return seconds


def _prepared(spec: RunSpec, seed: int) -> tuple[Trainer, Records, np.ndarray]:
    """The trainer, the records and which of the pool they are."""
    world = spec.world
    member = spec.member
    trainer, records = make_trainer(spec), spec.records.take(member)
    if isinstance(spec.adversary, PoisoningPolicy):
        # Who is planted among the shadows of pool "auxiliary" is nobody of the challenge.
        natural = Challenge(world.auxiliary, np.full(len(world.auxiliary), "natural"))
        asked = spec.challenge if spec.base == "audit" else natural
        trainer, records = spec.adversary.poison(trainer, asked, member, seed=seed)
    return trainer, Slots(spec.slots).records(records, world.setting), member


def _positions(records: Records, spec: RunSpec, member: np.ndarray) -> np.ndarray:
    """Where the training records lie in their pool, if a defense has not replaced them; else -1."""
    positions = np.flatnonzero(member)
    same = np.array_equal(records.patients, spec.records.patients[positions])
    return positions if same else np.full(len(records), -1)


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


class Network:
    """A trained model as a function, which remembers its answers in the store.

    The answer to a batch of records is an artefact of its own, keyed by run and content: whatever
    an attack asks of a shadow is computed once, and only one shadow is in memory at a time.
    """

    def __init__(self, spec: RunSpec, store: Store, device: str = "cpu", model: Any = None):
        self.spec, self.store, self.device, self.model = spec, store, device, model

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> parameter."""
        if self.model is None:
            return dict(self._stored().arrays)
        return {n: t.detach().cpu().numpy() for n, t in self.model.state_dict().items()}

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Outputs before softmax, float32 ``(N, outputs)``."""
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
        return digest([self.spec.key, weights, self.spec.world.content(x)])

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
        from medleak.features import last_layer

        network = self._load().cpu().eval()
        features, _, answers = last_layer(network, x, self.spec.world.setting.n_outputs)
        return answers, features

    def _load(self) -> Any:
        if self.model is None:
            self.model = with_weights(self.spec.target, self.spec.world, self._stored().arrays)
        return self.model

    def _stored(self):
        stored = self.store.get("runs", self.spec.key)
        if stored is None:
            raise MedleakError(f"run {self.spec.key[:12]} is not in the store")
        return stored


def release_of(spec: RunSpec, slots: Slots, store: Store, *, device: str = "cpu") -> Release:
    """What the adversary may observe of a stored run, under the release and serve slots."""
    network = Network(spec, store, device)
    multilabel = spec.world.setting.task == "multilabel"

    def scores(x: np.ndarray) -> np.ndarray:
        return log_probabilities(network.logits(x), multilabel=multilabel)

    def labels(x: np.ndarray) -> np.ndarray:
        return scores(x).argmax(-1)

    views = {"scores": scores, "labels": labels, "weights": _Lazy(network.arrays)}
    open_to = slots.views()
    seated = isinstance(spec.adversary, ClientPolicy)
    if seated or not open_to["aggregate"]:
        views["aggregate"] = Transcript(store, spec.key).messages
    if not seated and not open_to["updates"]:
        views["updates"] = Transcript(store, spec.key).messages
    if spec.adversary and spec.adversary.exposes:
        views |= spec.adversary.seen(store.facts("runs", spec.key)[0])
    apart = {"updates": "a client sees sums"} if seated else {}
    hidden = {name: why for name, why in (open_to | apart).items() if name not in views}
    return slots.release(Release(views, hidden=hidden), spec.world.setting)


def facts_of(spec: RunSpec, store: Store) -> Mapping[str, Any]:
    """What is stored of a run beside its weights; raises `MedleakError` where it is gone or damaged."""
    try:
        return store.facts("runs", spec.key)[0]
    except (KeyError, Corrupt) as error:
        store.get("runs", spec.key)  # sets a damaged run aside, so that it is made again
        raise MedleakError(f"run {spec.key[:12]}: {error}") from None


class _Lazy(Mapping):
    """A mapping that is loaded when it is first looked at."""

    def __init__(self, load: Any):
        self._load = load

    @functools.cached_property
    def _items(self) -> dict[str, np.ndarray]:
        return self._load()

    def __getitem__(self, name: str) -> np.ndarray:
        return self._items[name]

    def __iter__(self):
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def log_probabilities(logits: np.ndarray, *, multilabel: bool = False) -> np.ndarray:
    """Float64 log-softmax ``(N, C)``; multi-label: log-sigmoids ``(N, L, 2)``, absent and present."""
    z = logits.astype(np.float64)
    if multilabel:
        return np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=-1)
    z -= z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def cost_key(cost_class: str, device: str) -> str:
    """Runs or cells of one class on one kind of device take about the same time."""
    return f"{cost_class}-{device.partition(':')[0]}"


def remember_cost(store: Store, key: str, seconds: float) -> None:
    """Keep what a run took, for later estimates."""
    if not store.has("costs", key):
        store.save("costs", key, {"seconds": seconds})
