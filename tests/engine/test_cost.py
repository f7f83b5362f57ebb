"""What a dry run says of the time that a grid will take."""

import pytest

import medleak
from medleak.engine import cost as estimate
from medleak.engine.session import plan

GRID = ("attack=yeom", "defense=none,dropout,mixup,label_smoothing", "seed=0,1")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Four kinds of run, two of each, and a trial that says 3 seconds of every kind."""
    monkeypatch.setattr(estimate, "_try_out", lambda spec, device: 3.0)
    return plan(*GRID, out=tmp_path / "grids", store=tmp_path / "store")


def test_every_kind_of_run_is_tried_out(made):
    assert estimate.estimate_seconds(made, "cpu") == (
        8 * 3.0,
        "from a short trial of each kind of run",
    )


def test_trials_come_to_an_end(made, monkeypatch):
    monkeypatch.setattr(estimate, "TRIALS", 0.0)
    seconds, how = estimate.estimate_seconds(made, "cpu")
    assert seconds == pytest.approx(8 * 3.0)  # the others count as the one that was tried
    assert how == "from a short trial of 1 of 4 kinds of run"


def test_what_the_store_knows_is_not_tried(made, monkeypatch):
    monkeypatch.setattr(estimate, "TRIALS", 0.0)
    spec = made.cells[0].target_spec
    made.store.ready()
    made.store.save("costs", estimate.cost_key(spec.cost_class, "cpu"), {"seconds": 5.0})
    seconds, how = estimate.estimate_seconds(made, "cpu")
    assert seconds == pytest.approx(2 * 5.0 + 2 * 3.0 + 4 * 4.0)  # known, tried, their mean
    assert how == "from a short trial of 1 of 3 kinds of run"


def test_attacks_count_once_cells_like_them_were_measured(made):
    assert estimate.measuring_seconds(made, "cpu") == (0.0, 0)
    assert "attacks not counted" in made.describe()
    made.store.ready()
    own, rough = made.cells[0].cost_classes
    assert own not in made.cells[2].cost_classes  # another defense
    for name, seconds in ((own, 100.0), (rough, 20.0)):
        made.store.save("costs", estimate.cost_key(name, "cpu"), {"seconds": seconds})
    # Two seeds of one kind of run are known by themselves; the other defenses by the same attack.
    assert estimate.measuring_seconds(made, "cpu") == (2 * 100.0 + 6 * 20.0, 8)
    assert "attacks counted in 8 of 8 cells" in made.describe()


def test_measuring_leaves_its_time_behind(tmp_path):
    places = {"out": tmp_path / "grids", "store": tmp_path / "store"}
    asked = ("attack=yeom", "target.recipe.epochs=1")
    medleak.run(*asked, **places)
    later = plan(*asked, "seed=7", **places)
    seconds, counted = estimate.measuring_seconds(later, "cpu")
    assert counted == 1
    assert seconds > 0
