"""Originals beside what was rebuilt: which are shown, that they are the right ones, and who sees them."""

import base64
import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from medleak.api import (
    Challenge,
    ConfigError,
    DataError,
    Reconstructions,
    ReconstructionTruth,
    Records,
)
from medleak.core.store import Store
from medleak.metrics.reconstruction import PSNR, SSIM, Identified
from medleak.report import aggregate, galleries, publish, scan, write
from medleak.report.images import address

N, SIDE = 60, 12
FRESH, TRAINED = "fresh model", "trained model"


def pixels_of(told):
    from matplotlib.image import imread

    return imread(io.BytesIO(base64.b64decode(told.partition(",")[2])))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_holds_the_pixels(channels):
    x = np.random.default_rng(0).integers(0, 256, (channels, 7, 5), dtype=np.uint8)
    found = np.round(pixels_of(address(x)) * 255).astype(np.uint8)
    assert np.array_equal(found, x[0] if channels == 1 else np.moveaxis(x, 0, -1))
    assert np.array_equal(pixels_of(address(x / 255)), pixels_of(address(x)))
    assert address(np.zeros(9)) is None


def test_values_out_of_range_are_cut():
    assert pixels_of(address(np.array([[[-3.0, 0.5, 7.0]]]))).max() == 1.0


@pytest.fixture(scope="module")
def experiment():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (N, 1, SIDE, SIDE), dtype=np.uint8)
    records = Records(x, np.arange(N) % 2, np.arange(N))
    challenge = Challenge(records, np.full(N, "natural"))
    return SimpleNamespace(challenge=challenge, dataset=SimpleNamespace(fingerprint="5f1d" * 16))


@pytest.fixture(scope="module")
def positions():
    """Ten messages of fresh models with three images each, and one of a trained one with six."""
    found = np.full((11, 6), -1)
    found[:10, :3] = np.arange(30).reshape(10, 3)
    found[10] = np.arange(40, 46)
    return found


@pytest.fixture(scope="module")
def images(experiment, positions):
    """Each message's originals in reverse, with a little noise."""
    made = np.zeros((*positions.shape, 1, SIDE, SIDE), dtype=np.float32)
    noise = np.random.default_rng(1).normal(0, 0.02, made.shape)
    for t, row in enumerate(positions):
        mine = row[row >= 0]
        made[t, : len(mine)] = experiment.challenge.x[mine[::-1]] / 255 + noise[t, : len(mine)]
    return made


@pytest.fixture
def store(tmp_path, images, positions):
    store = Store(tmp_path / "store")
    store.ready()
    ages = [FRESH] * 10 + [TRAINED]
    arrays = {"reconstructions": images, "note/positions": positions}
    for defense in ("fedsgd", "fedavg"):
        store.save("answers", f"cell-{defense}-imprint-0", {"ages": ages}, arrays)
    return store


@pytest.fixture
def measured(experiment, images, positions, make_rebuilt):
    """A row with the figures of what is stored."""

    def make(age=TRAINED, **changes):
        mine = np.arange(11) < 10 if age == FRESH else np.arange(11) == 10
        records, counts = experiment.challenge.records, (positions[mine] >= 0).sum(1)
        rebuilt = Reconstructions(images[mine], counts, records.x / 255, records.patients)
        truth = ReconstructionTruth(positions[mine])
        metrics = {"psnr": PSNR(), "ssim": SSIM(), "identified": Identified()}
        leakage = {name: metric(rebuilt, truth) for name, metric in metrics.items()}
        return make_rebuilt(age=age, leakage=leakage, **changes)

    return make


@pytest.fixture
def known(monkeypatch, experiment):
    """The patients are found without composing anything."""
    monkeypatch.setattr(galleries, "experiment", lambda row: experiment)


def shown(rows, store, experiment):
    return galleries.galleries(aggregate(rows), store, world_of=lambda row: experiment)


def test_each_original_stands_beside_its_own_reconstruction(measured, store, experiment, positions):
    (gallery,) = shown([measured()], store, experiment)
    (message,) = gallery.messages
    assert message.n_records == 6
    assert len(message.pairs) == 4
    for i, pair in enumerate(message.pairs):
        assert pair.original == address(experiment.challenge.x[positions[10, i]] / 255)
        away = np.abs(pixels_of(pair.original) - pixels_of(pair.rebuilt)).mean()
        assert away < 0.03
        assert re.fullmatch(r"3\d\.\d dB", pair.alike[0])
        assert pair.alike[1] in ("SSIM 0.99", "SSIM 1.00")
        assert pair.named == "named"


def test_the_first_messages_are_shown_with_the_ages_together(measured, store, experiment):
    rows = [measured(age, defense=d, cell=f"cell-{d}-imprint-0")
            for d in ("fedsgd", "fedavg") for age in (FRESH, TRAINED)]  # fmt: skip
    found = shown(rows, store, experiment)
    told = [(g.one.defense, g.one.row.records, len(g.messages)) for g in found]
    assert told == [
        ("fedavg", FRESH, 8), ("fedavg", TRAINED, 1), ("fedsgd", FRESH, 8), ("fedsgd", TRAINED, 1),
    ]  # fmt: skip


def test_wrong_originals_are_never_shown(measured, store, experiment, make_rebuilt):
    (gallery,) = shown([make_rebuilt(named=0.5)], store, experiment)
    assert (gallery.messages, gallery.missing) == (
        (),
        "its figures cannot be repeated from what is stored",
    )
    (gallery,) = shown([measured(fingerprint="other")], store, experiment)
    assert gallery.missing == "the data have changed since"
    (gallery,) = shown([measured(provenance={"answers": ["gone"]})], store, experiment)
    assert gallery.missing == "its answers are no longer in the store"

    def lost(row):
        raise DataError("no such file")

    (gallery,) = galleries.galleries(aggregate([measured()]), store, world_of=lost)
    assert gallery.missing == "no such file"


def test_the_patients_are_found_from_the_overrides_that_name_them(monkeypatch):
    asked = []
    monkeypatch.setattr(galleries, "_world", lambda words: asked.append(words))
    words = ["target=a", "+target.split.seed=3", "defense=d", "attack.k=2", "n_members=9", "seed=1"]
    galleries.experiment(SimpleNamespace(provenance={"overrides": words}))
    assert asked == [("target=a", "+target.split.seed=3", "n_members=9")]


def test_only_rebuilt_rows_have_galleries(make_row, bare_row, store, experiment):
    rows = [make_row("none", "lira", 250, 0),
            bare_row("none", "dlg", 250, 0, "failed", "x", goal="reconstruction")]  # fmt: skip
    assert shown(rows, store, experiment) == []


@pytest.mark.usefixtures("known")
def test_the_local_gallery_is_a_page_of_its_own_with_a_warning(measured, store, tmp_path):
    report = write([measured()], tmp_path / "g", store=store).read_text()
    page = (tmp_path / "g" / "gallery.html").read_text()
    assert page.count("<img") == 8
    assert "This page shows patients" in page
    assert "default-src 'none'; img-src data:" in page
    assert "<img" not in report
    assert 'href="gallery.html"' in report
    again = write([measured()], tmp_path / "g").read_text()
    assert 'href="gallery.html"' in again  # it is still there


def test_there_is_no_gallery_of_membership(make_row, store, tmp_path):
    report = write([make_row("none", "lira", 250, 0)], tmp_path / "g", store=store).read_text()
    assert not (tmp_path / "g" / "gallery.html").exists()
    assert "gallery" not in report


@pytest.mark.usefixtures("known")
def test_a_gallery_of_patients_is_never_published(measured, store, manifest, tmp_path):
    rows = [
        measured(),
        measured(FRESH, simulated=True, defense="fedavg", cell="cell-fedavg-imprint-0"),
    ]
    for some in (rows[:1], rows):
        name = f"real{len(some)}"
        folder = publish(some, name, manifest=manifest, root=tmp_path, store=store)
        assert not (folder / "gallery.html").exists()
        assert scan(folder) == []
        assert not [path for path in folder.rglob("*.html") if b"data:image" in path.read_bytes()]


@pytest.mark.usefixtures("known")
def test_a_gallery_of_the_phantom_is_published(measured, store, manifest, tmp_path):
    row = measured(simulated=True, target="phantom_cnn")
    folders = [
        publish([row], "phantom", manifest=manifest, root=tmp_path / name, store=store)
        for name in ("a", "b")
    ]
    pages = [(folder / "gallery.html").read_bytes() for folder in folders]
    assert pages[0] == pages[1]
    assert pages[0].count(b"<img") == 8
    assert b"no real patient is concerned" in pages[0]
    assert b"This page shows patients" not in pages[0]
    assert scan(folders[0]) == []


PICTURE = '<img src="data:image/png;base64,iVBORw0KGgo=" alt="original">'


@pytest.mark.parametrize(
    ("name", "content", "rows", "clean"),
    [
        ("gallery.html", PICTURE, [{"simulated": True}], True),
        ("gallery.html", PICTURE, [{"simulated": True}, {"simulated": False}], False),
        ("gallery.html", PICTURE, [], False),
        ("gallery.html", PICTURE, [{}], False),
        ("gallery.html", PICTURE, None, False),
        ("report.html", PICTURE, [{"simulated": True}], False),
        ("gallery.html", '<img src="scan.png">', [{"simulated": True}], False),
        ("gallery.html", '<img src="https://x.example/a.png">', [{"simulated": True}], False),
        ("gallery.html", PICTURE + "<object data='x'></object>", [{"simulated": True}], False),
        ("gallery.html", PICTURE + "/home/alice/x", [{"simulated": True}], False),
    ],
)
def test_scan_lets_only_simulated_pictures_pass(tmp_path, name, content, rows, clean):
    (tmp_path / name).write_text(content)
    if rows is not None:
        (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert (scan(tmp_path, names=[]) == []) is clean


def test_a_planted_picture_stops_publication(make_rebuilt, manifest, tmp_path):
    row = make_rebuilt(simulated=True, provenance={"images": [0.1, 0.2]})
    with pytest.raises(ConfigError, match="not published"):
        publish([row], "phantom", manifest=manifest, root=tmp_path)
