"""Each clause of the contract is broken by one small plugin, and the check says which."""

import sys
import textwrap

import numpy as np
import pytest

from medleak.api import Attack, Defense, Guarantee, Records, Release, ThreatModel, Trained, Trainer
from medleak.config import instantiate as components
from medleak.goals.membership.goal import Membership
from medleak.goals.registry import known_goals
from medleak.metrics.statistics.roc import auc
from medleak.testing import (
    check_attack,
    check_defense,
    check_target,
    membership_world,
    not_exercised,
)


class Good(Attack):
    """Log-probability of the true class."""

    requires = ThreatModel(goal="membership", access="scores")
    paper = "Nobody 2024, Nothing, Nowhere"

    def __init__(self, *, power=1.0):
        self.power = power

    def fit(self, release, knowledge):
        self._knowledge = knowledge

    def run(self, release, challenge):
        return self.power * np.array(self.confidence(release, challenge))

    def confidence(self, release, challenge):
        log_p = release.scores(challenge.x)
        if challenge.y.ndim == 2:
            return np.take_along_axis(log_p, challenge.y[..., None], axis=2).sum(axis=(1, 2))
        return log_p[np.arange(len(challenge)), challenge.y]


def attack(**members):
    """A variant of `Good` with some members replaced."""
    members.setdefault("__doc__", Good.__doc__)
    return type("Variant", (Good,), members)()


def only(problems, *words):
    """One problem, that holds each of `words`."""
    assert len(problems) == 1, problems
    for word in words:
        assert word in problems[0]


def test_a_good_attack_passes():
    assert check_attack(Good()) == []
    assert check_attack(Good(power=2.0), rng=3) == []


def test_a_plugin_that_raises_is_one_line():
    def run(self, release, challenge):
        raise ValueError("bad\nworse")

    only(check_attack(attack(run=run)), "run raised ValueError: bad")


def test_wrong_shape():
    only(check_attack(attack(run=lambda s, r, c: np.zeros((len(c), 2)))), "shape (500, 2)")


def test_infinite_scores_are_an_order_and_nan_is_none():
    def run(self, release, challenge):
        scores = self.confidence(release, challenge)
        return np.where(scores > -0.1, np.inf, np.where(scores < -9, -np.inf, scores))

    assert check_attack(attack(run=run)) == []
    release, challenge, _, knowledge = membership_world(leak=6.0)
    assert np.isinf(attack(run=run).execute(release, challenge, knowledge).scores).any()
    nan = attack(run=lambda s, r, c: np.full(len(c), np.nan))
    only(check_attack(nan), "returned NaN for 500 values")


def test_a_plugin_that_leaves_is_told_and_not_followed():
    def run(self, release, challenge):
        sys.exit(0)

    only(check_attack(attack(run=run)), "run raised SystemExit: 0")


def test_invalid_parameters():
    only(
        check_attack(attack(invalid_parameters=lambda s: ["power 1.0 is odd"])),
        "invalid parameter: power 1.0 is odd",
    )
    only(
        check_attack(attack(invalid_parameters=lambda s: None)), "invalid_parameters returned None"
    )


def test_a_view_that_was_not_asked_for():
    weights = ThreatModel(goal="membership", access="labels")
    only(check_attack(attack(requires=weights)), "Hidden", "declared access to 'labels' only")


def test_a_view_of_the_shadows_that_was_not_asked_for():
    def run(self, release, challenge):
        for shadow in self._knowledge.shadows:
            assert shadow.release.weights
        return self.confidence(release, challenge)

    only(check_attack(attack(run=run)), "Hidden", "view 'weights'")


def test_randomness_from_elsewhere():
    def from_numpy(self, release, challenge):
        return self.confidence(release, challenge) + 1e-3 * np.random.rand(len(challenge))

    def from_the_air(self, release, challenge):
        noise = np.random.default_rng().random(len(challenge))
        return self.confidence(release, challenge) + 1e-3 * noise

    assert any("changes NumPy's global" in p for p in check_attack(attack(run=from_numpy)))
    only(check_attack(attack(run=from_the_air)), "differ between two runs")


def test_the_attacks_own_generator_is_welcome():
    def run(self, release, challenge):
        noise = self._knowledge.rng.random(len(challenge))
        return self.confidence(release, challenge) + 0.1 * noise

    assert check_attack(attack(run=run)) == []


def test_order_of_the_records():
    def run(self, release, challenge):
        return self.confidence(release, challenge) + np.arange(len(challenge)) / 200

    only(check_attack(attack(run=run)), "depend on the order")


def test_changed_inputs():
    def run(self, release, challenge):
        scores = self.confidence(release, challenge)
        challenge.y[:] = 0
        return scores

    assert "it changes its input challenge.records.y" in check_attack(attack(run=run))


def test_queries_past_the_counter():
    def run(self, release, challenge):
        return release.views["labels"](challenge.x) + self.confidence(release, challenge)

    assert any("past the counter" in p for p in check_attack(attack(run=run)))


def test_an_attack_that_finds_nothing():
    only(
        check_attack(attack(run=lambda s, r, c: c.x.reshape(len(c), -1).mean(1))),
        "positive control",
    )


def test_an_attack_that_sees_a_leak_where_there_is_none():
    """Such as one that was handed the truth of the null world."""
    _, challenge, secret, _ = membership_world(leak=0.0, n_shadows=0)
    truth = {x.tobytes(): m for x, m in zip(challenge.x, secret.member, strict=True)}

    def run(self, release, challenge):
        known = np.array([truth.get(x.tobytes(), False) for x in challenge.x], dtype=float)
        return self.confidence(release, challenge) + 3 * known

    only(check_attack(attack(run=run)), "null control")


@pytest.mark.parametrize(
    ("init", "words"),
    [
        (lambda self, *, power=1.0: setattr(self, "strength", power), "does not store"),
        (lambda self, power=1.0: setattr(self, "power", power), "not keyword-only"),
        (lambda self, *, power=1.0: self.__dict__.update(power=power, cache={}), "sets 'cache'"),
        (lambda self, *, power=1.0: setattr(self, "power", power + 1), "repr does not rebuild"),
    ],
)
def test_constructors_only_store(init, words):
    assert any(words in p for p in check_attack(attack(__init__=init)))


def test_docstring_and_paper():
    assert "the class has no docstring" in check_attack(attack(__doc__=""))
    assert any("`paper` is missing" in p for p in check_attack(attack(paper="")))


def test_incompatibilities():
    only(check_attack(attack(incompatibilities=lambda *_: None)), "incompatibilities returned None")
    only(check_attack(attack(incompatibilities=lambda *_: "no")), "a list of strings is needed")
    only(
        check_attack(attack(incompatibilities=lambda *_: ["too hard"])),
        "refuses every example",
        "too hard",
    )
    tables_only = attack(
        incompatibilities=lambda self, s, k: ["images"] if len(s.in_shape) == 3 else []
    )
    assert check_attack(tables_only) == []


GOALS = {
    "membership": {"access": "scores"},
    "reconstruction": {"access": "aggregate", "adversary": "server"},
    "inversion": {"access": "weights"},
    "attribute": {"access": "scores"},
    "property": {"access": "scores"},
}


def test_every_goal_is_among_those_tried_here():
    assert sorted(GOALS) == known_goals()


@pytest.mark.parametrize("goal", GOALS)
def test_an_attack_that_always_raises_fails_whatever_its_goal(goal):
    def run(self, release, challenge):
        raise ValueError("bad")

    requires = ThreatModel(goal=goal, **GOALS[goal])
    only(check_attack(attack(requires=requires, run=run)), "run raised ValueError: bad")


@pytest.mark.parametrize("goal", GOALS)
def test_an_attack_that_always_says_the_same_finds_nothing_whatever_its_goal(goal):
    def run(self, release, challenge):
        return np.zeros([2 if n is None else n for n in challenge.shape])

    requires = ThreatModel(goal=goal, **GOALS[goal])
    only(check_attack(attack(requires=requires, run=run)), "positive control")


def test_an_attack_that_no_example_suits_is_said_to_be_unexercised():
    odd = attack(requires=ThreatModel(goal="inversion", access="ciphertext"))
    assert check_attack(odd) == []
    assert "no view 'ciphertext'" in not_exercised(odd)
    assert not_exercised(Good()) == ""


def test_a_goal_whose_example_raises_is_one_line(monkeypatch):
    def example(self, attack, knowledge, *, leak, seed=0):
        raise ValueError("bad")

    monkeypatch.setattr(Membership, "example", example)
    only(check_attack(Good()), "the example of its goal raised ValueError: bad")


def test_a_goal_that_nobody_has():
    only(check_attack(attack(requires=ThreatModel(goal="membershp", access="scores"))),
         "did you mean 'membership'")  # fmt: skip


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that writes a plugin's module and returns the `_target_` of its class."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(components, "_roots", set(components._roots))

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        components.add_plugin_folder(tmp_path)
        return f"{name}.Mine"

    return write


LOSS = """
    import numpy as np
    from medleak.api import Attack, ThreatModel

    ACCESS = "scores"

    class Mine(Attack):
        "The loss."

        requires = ThreatModel(goal="membership", access={access})
        paper = "Me 2024"

        def __init__(self, *, power=1.0):
            self.power = power

        def incompatibilities(self, problem, knowledge):
            return ["one class per record"] if problem.task == "multilabel" else []

        def run(self, release, challenge):
            return release.scores(challenge.x)[np.arange(len(challenge)), challenge.y]
"""


def test_a_plugin_is_checked_by_its_yaml(plugin):
    block = {"name": "mine", "_target_": plugin("plain_loss", LOSS.format(access="'scores'"))}
    assert check_attack(block) == []
    assert check_attack({**block, "knowledge": {"budget": 500}}) == []
    only(check_attack({**block, "knowledge": {"budget": 499}}), "overdraw the budget of 499")
    only(check_attack({**block, "pwer": 2.0}), "did you mean 'power'")
    assert check_attack({**block, "power": 3.0, "knowledge": {"pool": "auxiliary"}}) == []


def test_attributes_that_list_cannot_read(plugin):
    only(check_attack({"_target_": plugin("computed", LOSS.format(access="ACCESS"))}),
         "`requires` is no literal")  # fmt: skip


def test_literals_that_change_at_run_time(plugin):
    source = LOSS.format(access="'scores'") + "\n    Mine.paper = 'Someone else 1999'\n"
    only(check_attack({"_target_": plugin("changed", source)}), "`paper` reads 'Me 2024'")


# --------------------------------------------------------------------------- the world


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_the_world_leaks_what_was_planted(pool, task):
    for leak, low, high in ((0.0, 0.4, 0.6), (6.0, 0.9, 1.0)):
        release, challenge, secret, knowledge = membership_world(
            leak=leak, n_shadows=2, pool=pool, task=task
        )
        scores = Good().confidence(release, challenge)
        assert low < auc(scores, secret.member) <= high
        for shadow in [*knowledge.shadows, knowledge.reference]:
            records = challenge.records if pool == "audit" else knowledge.auxiliary
            member = shadow.member if pool == "audit" else shadow.auxiliary_member
            other = shadow.auxiliary_member if pool == "audit" else shadow.member
            assert low < auc(Good().confidence(shadow.release, records), member) <= high
            assert not other.any()


def test_the_world_is_a_function_of_its_seed():
    one, two, other = (membership_world(leak=1.0, n=40, n_shadows=3, seed=s) for s in (1, 1, 2))
    x = one[1].x
    assert np.array_equal(x, two[1].x)
    assert not np.array_equal(x, other[1].x)
    first, again = ([s.release.scores(x) for s in w[3].shadows] for w in (one, two))
    assert np.array_equal(first, again)
    assert len({s.tobytes() for s in first}) == 3
    assert np.allclose(np.exp(first[0]).sum(axis=1), 1)


def test_weights_of_a_world_without_a_leak_do_not_tell():
    release, challenge, secret, _ = membership_world(leak=0.0, n=300, n_shadows=0)
    leaky, *_ = membership_world(leak=1.0, n=300, n_shadows=0)
    rows = ((challenge.x / 255 - 0.5) * np.sqrt(12)).mean(axis=-1).reshape(300, -1)

    def nearest(weights):
        return -np.abs(rows[:, None] - weights["centres"][None]).sum(-1).min(1)

    assert auc(nearest(leaky.weights), secret.member) > 0.99
    assert abs(auc(nearest(release.weights), secret.member) - 0.5) < 0.12


# --------------------------------------------------------------------------- defenses


class Recipe(Trainer):
    """Trains nothing."""

    def fit(self, model, records, *, problem, seed, validation=None, device="cpu"):
        return Trained(model, {})


class LabelsOnly(Defense):
    """Labels, nothing else."""

    slot = "serve"
    hides = {"scores": "only labels are served", "weights": "the model is served"}

    def apply(self, subject, *, problem):
        return subject.without(self.hides)


def defense(base=LabelsOnly, **members):
    members.setdefault("__doc__", base.__doc__)
    return type("Variant", (base,), members)()


def check(made):
    return check_defense(made, trainer=Recipe())


def softened(subject, by):
    return subject.replaced(scores=lambda x: by(subject.view("scores")(x)))


def test_a_good_defense_passes():
    assert check(LabelsOnly()) == []
    exposing = defense(hides={}, exposes=("ciphertext",),
                       apply=lambda s, r, *, problem: r.replaced(ciphertext=b""))  # fmt: skip
    assert check(exposing) == []


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"slot": "server"}, "`slot` is 'server'"),
        ({"hides": {"score": "why"}}, "view 'score' does not exist"),
        ({"hides": {"scores": "", "weights": "why"}}, "no reason for 'scores'"),
        ({"apply": lambda s, r, *, problem: r}, "view 'scores' is in `hides`, but still there"),
        ({"hides": {"scores": "why"}, "apply": lambda s, r, *, problem: r.without({"scores": "a", "weights": "b"})},
         "view 'weights' is gone, but not in `hides`"),
        ({"hides": {}, "apply": lambda s, r, *, problem: r.replaced(records=1)}, "view 'records' is new"),
        ({"apply": lambda s, r, *, problem: r.views}, "apply returned dict: a Release is needed"),
        ({"apply": lambda s, r, *, problem: None}, "a Release is needed"),
        ({"apply": lambda s, r, *, problem: 1 / 0}, "apply raised ZeroDivisionError"),
        ({"incompatibilities": lambda s, problem, trainer: None}, "incompatibilities returned None"),
        ({"incompatibilities": lambda s, problem, trainer: ["never"]}, "refuses the plain recipe: never"),
        ({"guarantees": lambda s, problem, trainer: ["dp"]}, "a list of Guarantee is needed"),
        ({"hides": {}, "apply": lambda s, r, *, problem: softened(r, np.exp)}, "values above 0"),
        ({"hides": {}, "apply": lambda s, r, *, problem: softened(r, lambda p: p[:, :1])}, "has shape"),
        ({"hides": {}, "apply": lambda s, r, *, problem: softened(r, np.float32)}, "float64"),
        ({"hides": {}, "apply": lambda s, r, *, problem: softened(r, lambda p: p - np.random.rand(*p.shape))},
         "answers differently"),
        ({"__doc__": " "}, "no docstring"),
    ],
)  # fmt: skip
def test_a_broken_defense_is_told_why(members, words):
    assert any(words in p for p in check(defense(**members))), check(defense(**members))


def test_a_release_that_is_changed_in_place():
    def apply(self, subject, *, problem):
        for view in self.hides:
            del subject.views[view]
        return subject

    assert any("changes the release" in p for p in check(defense(apply=apply)))


class Noisy(Defense):
    """Wraps a trainer."""

    slot = "train"

    def apply(self, subject, *, problem):
        return Recipe()

    def guarantees(self, problem, trainer):
        return [Guarantee("dp", "record", "anyone", epsilon=1.0, delta=1e-5)]


def test_train_and_records_slots_keep_their_type():
    assert check(Noisy()) == []
    only(check(defense(Noisy, apply=lambda s, t, *, problem: Release({}))), "a Trainer is needed")
    assert (
        check(defense(Noisy, slot="records", apply=lambda s, r, *, problem: r.take(r.y == 0))) == []
    )
    half = defense(Noisy, slot="records",
                   apply=lambda s, r, *, problem: Records(r.x[:5], r.y, r.patients))  # fmt: skip
    only(check(half), "x has 5 rows, y has 2000")


def test_a_preset_names_the_slot(plugin):
    source = """
        from medleak.api import Defense

        class Mine(Defense):
            "Labels, nothing else."

            slot = "serve"
            hides = {"scores": "labels only", "weights": "labels only"}

            def apply(self, subject, *, problem):
                return subject.without(self.hides)
    """
    block = {"_target_": plugin("labels_only", source)}
    assert check({"name": "mine", "slots": {"serve": [block]}}) == []
    only(check({"name": "mine", "slots": {"release": block}}), "release: Mine fills slot 'serve'")
    only(check({"slots": {"serve": {**block, "extra": 1}}}), "serve: Mine: building", "'extra'")


# --------------------------------------------------------------------------- targets

TOY = {
    "dataset": {"_target_": "toy.Blobs"},
    "model": {"_target_": "toy.Linear"},
    "recipe": {"_target_": "toy.Steps"},
    "split": {"n_members": 40},
}
DATA = """
    import numpy as np
    from medleak.api import DataError, Dataset, DatasetSource, Records

    class Mine(DatasetSource):
        "Data."

        def __init__(self, *, fault=""):
            self.fault = fault

        def load(self):
            if self.fault == "missing":
                raise DataError("nowhere.npz is not there")
            x, y, p = np.zeros((6, 1, 8, 8), np.uint8), np.zeros(6, np.int64), np.arange(6)
            x, y, p = {"float64": (x.astype(float), y, p), "label": (x, y + 2, p),
                       "rows": (x, y, p[:3]), "none": (x, y, p),
                       "grey": (x + np.float32(3), y, p)}.get(self.fault, (x, y, p))
            source = np.full(5 if self.fault == "source" else 6, "all")
            fingerprint = "" if self.fault == "fingerprint" else "f"
            data = Dataset(Records(x, y, p), source, "mine", ("a", "b"), fingerprint)
            return None if self.fault == "nothing" else data
"""


def test_a_good_target_passes():
    assert check_target(TOY) == []


def test_missing_blocks_are_all_named():
    assert check_target({"model": {}, "split": {}}) == [
        "block 'dataset' is missing", "block 'recipe' is missing",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("float64", "x is float64"),
        ("grey", "float images lie in 3..3"),
        ("label", "y lies in 2..2: 0..1"),
        ("rows", "patients has 3 rows, y has 6"),
        ("source", "source has 5 rows"),
        ("fingerprint", "fingerprint is empty"),
    ],
)
def test_faulty_data_are_told(plugin, fault, words):
    mlp = {"_target_": "medleak.targets.architectures.mlp.MLP"}
    block = {"_target_": plugin("faulty_data", DATA), "fault": fault}
    only(check_target({**TOY, "dataset": block, "model": mlp}), "dataset: ", words)


def test_data_may_be_absent_unless_needed(plugin):
    mlp = {"_target_": "medleak.targets.architectures.mlp.MLP"}
    block = {"_target_": plugin("absent_data", DATA), "fault": "missing"}
    target = {**TOY, "dataset": block, "model": mlp}
    assert check_target(target) == []
    only(check_target(target, need_data=True), "nowhere.npz is not there")


def test_models_and_recipes_are_tried(plugin):
    source = """
        from torch import nn

        class Mine(nn.Linear):
            def __init__(self, *, in_shape, n_outputs, extra=0):
                super().__init__(in_shape[0], n_outputs + extra)
    """
    model = {"_target_": plugin("wide", source)}
    assert check_target({**TOY, "model": model}) == []
    only(
        check_target({**TOY, "model": {**model, "extra": 1}}), "answers (3, 3)", "(3, 2) is needed"
    )
    only(check_target({**TOY, "model": {**model, "extr": 1}}), "model on (40,) raised ConfigError")
    only(check_target({**TOY, "recipe": TOY["dataset"]}), "is no Trainer")
