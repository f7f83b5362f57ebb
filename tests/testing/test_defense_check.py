"""The contract of defenses: what breaks it is named."""

import numpy as np
import pytest
from checked_plugins import only

from medleak.api import Defense, Guarantee, Records, Release, Trained, Trainer
from medleak.testing import check_defense


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


def test_labels_that_scores_contradict_are_reported():
    def turned(kept):
        def apply(self, subject, *, problem):
            return subject.replaced(
                scores=lambda x: subject.view("scores")(x)[:, ::-1],
                **({"labels": subject.view("labels")} if kept else {}),
            )

        return check(defense(hides={}, apply=apply))

    assert turned(kept=False) == []
    assert [problem for problem in turned(kept=True) if "disagree" in problem]
