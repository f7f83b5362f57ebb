"""MedMNIST by name: the official file, a named file, a download, and every malformed one."""

import functools
import hashlib
import http.server
import threading
from dataclasses import replace

import numpy as np
import pytest

from medleak.api import ConfigError, DataError
from medleak.targets.datasets import _medmnist_facts, medmnist
from medleak.targets.datasets.medmnist import MedMNIST

COUNTS = {"train": 6, "val": 3, "test": 4}


def arrays(*, record=(28, 28), labels=2, wide=1, **replaced):
    """The arrays of a small NPZ in the official layout."""
    rng = np.random.default_rng(0)
    made = {}
    for split, n in COUNTS.items():
        made[f"{split}_images"] = rng.integers(0, 256, (n, *record), dtype=np.uint8)
        made[f"{split}_labels"] = rng.integers(0, labels, (n, wide), dtype=np.uint8)
    return made | replaced


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty MEDLEAK_DATA, and an empty cache."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("MEDLEAK_DATA", str(data))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    return data


def official(monkeypatch, name, path):
    """Let the file at `path` pass for the official one at 28 pixels."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    facts = _medmnist_facts.FAMILY[name]
    monkeypatch.setitem(_medmnist_facts.FAMILY, name, replace(facts, md5=(md5, *facts.md5[1:])))


def load_named(folder, content, name="pneumoniamnist", **options):
    np.savez(folder / "some.npz", **content)
    return MedMNIST(subset=name, file="some.npz", **options).load()


def test_facts_are_complete():
    assert len(_medmnist_facts.FAMILY) == 12
    sums = [md5 for facts in _medmnist_facts.FAMILY.values() for md5 in facts.md5]
    assert len(set(sums)) == 48
    assert all(len(md5) == 32 and int(md5, 16) for md5 in sums)
    assert [n for n, f in _medmnist_facts.FAMILY.items() if f.multilabel] == ["chestmnist"]
    assert len(_medmnist_facts.FAMILY["chestmnist"].classes) == 14


def test_grey(folder):
    content = arrays()
    data = load_named(folder, content)
    assert data.records.x.shape == (13, 1, 28, 28)
    assert data.records.x.dtype == np.uint8
    assert np.array_equal(data.records.x[6:9, 0], content["val_images"])
    assert np.array_equal(data.records.y[9:], content["test_labels"][:, 0])
    assert data.records.y.dtype == np.int64
    assert data.source.tolist() == ["train"] * 6 + ["val"] * 3 + ["test"] * 4
    assert data.unit == "image (patient unknown)"
    assert np.array_equal(data.records.patients, np.arange(13))
    digest = hashlib.sha256((folder / "some.npz").read_bytes()).hexdigest()
    assert data.note == f"unofficial file, sha256 {digest[:16]}"


def test_colour(folder):
    content = arrays(record=(28, 28, 3), labels=8)
    data = load_named(folder, content, "bloodmnist")
    assert data.records.x.shape == (13, 3, 28, 28)
    assert np.array_equal(data.records.x[0, 2], content["train_images"][0, :, :, 2])
    assert len(data.classes) == 8


def test_multilabel(folder):
    content = arrays(record=(64, 64), wide=14)
    data = load_named(folder, content, "chestmnist", size=64)
    assert data.task == "multilabel"
    assert data.name == "chestmnist_64"
    assert np.array_equal(data.records.y[:6], content["train_labels"])


def test_fingerprint_follows_the_content(folder):
    first = load_named(folder, arrays())
    assert load_named(folder, arrays()).fingerprint == first.fingerprint
    changed = arrays()
    changed["test_labels"][0] = 1 - changed["test_labels"][0]
    assert load_named(folder, changed).fingerprint != first.fingerprint


def test_official_file_needs_no_naming(folder, monkeypatch):
    np.savez(folder / "pneumoniamnist.npz", **arrays())
    official(monkeypatch, "pneumoniamnist", folder / "pneumoniamnist.npz")
    assert MedMNIST(subset="pneumoniamnist").load().note == ""
    assert MedMNIST(subset="pneumoniamnist", file="pneumoniamnist.npz").load().note == ""


def test_unofficial_file_is_refused_unless_named(folder):
    np.savez(folder / "pneumoniamnist.npz", **arrays())
    with pytest.raises(DataError, match=r"not the official file .*`file: pneumoniamnist.npz`"):
        MedMNIST(subset="pneumoniamnist", download=True).load()
    assert MedMNIST(subset="pneumoniamnist", file="pneumoniamnist.npz").load().note


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"subset": "pneumonia"}, ConfigError, "did you mean 'pneumoniamnist'"),
        ({"subset": "bloodmnist", "size": 32}, ConfigError, "size '32'.*224"),
        (
            {"subset": "bloodmnist"},
            DataError,
            "bloodmnist.npz not found: .*data and .*download: true",
        ),
        ({"subset": "bloodmnist", "size": 64}, DataError, "bloodmnist_64.npz not found"),
        ({"subset": "bloodmnist", "file": "../x.npz"}, DataError, "'../x.npz' leads out of"),
        ({"subset": "bloodmnist", "file": "x.npz"}, DataError, "'x.npz' not found"),
        ({"subset": "bloodmnist", "file": "."}, DataError, "'.' not found"),
    ],
)
def test_what_cannot_be_found(folder, options, error, words):
    with pytest.raises(error, match=words) as caught:
        MedMNIST(**options).load()
    assert "\n" not in str(caught.value)


def test_link_out_of_the_folder_is_refused(folder, tmp_path):
    np.savez(tmp_path / "outside.npz", **arrays())
    (folder / "link.npz").symlink_to(tmp_path / "outside.npz")
    with pytest.raises(DataError, match="leads out of"):
        MedMNIST(subset="pneumoniamnist", file="link.npz").load()
    assert MedMNIST(subset="pneumoniamnist", file=str(tmp_path / "outside.npz")).load().note


def test_data_folder_not_set_or_wrong(folder, monkeypatch):
    monkeypatch.delenv("MEDLEAK_DATA")
    with pytest.raises(DataError, match="MEDLEAK_DATA is not set"):
        MedMNIST(subset="bloodmnist").load()
    with pytest.raises(DataError, match="relative to MEDLEAK_DATA, which is not set"):
        MedMNIST(subset="bloodmnist", file="bloodmnist.npz").load()
    monkeypatch.setenv("MEDLEAK_DATA", "/nowhere/at/all")
    with pytest.raises(DataError, match="MEDLEAK_DATA=/nowhere/at/all is not a folder"):
        MedMNIST(subset="bloodmnist").load()


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        (
            {"train_images": np.zeros((6, 28, 27), np.uint8)},
            r"train_images has shape \(6, 28, 27\)",
        ),
        ({"val_images": np.zeros((3, 28, 28, 3), np.uint8)}, r"val_images has shape .*28, 28\)"),
        ({"val_images": np.zeros((0, 28, 28), np.uint8)}, r"val_images has shape \(0, 28, 28\)"),
        ({"train_images": np.zeros((6, 28, 28), np.float32)}, "holds float32: uint8"),
        ({"train_images": np.full((6, 28, 28), np.nan)}, "train_images holds 4704 NaN"),
        ({"train_images": np.zeros((5, 28, 28), np.uint8)}, "train has 5 images but 6 labels"),
        ({"test_labels": np.full((4, 1), 2)}, "test_labels holds label 2: 0 to 1"),
        ({"test_labels": np.full((4, 1), -1)}, "test_labels holds label -1"),
        ({"test_labels": np.full((4, 1), 0.5)}, "holds 0.5: whole numbers"),
        ({"test_labels": np.full((4, 1), np.nan)}, "holds 4 NaN"),
        ({"test_labels": np.zeros((4, 14), int)}, r"shape \(4, 14\): \(N, 1\)"),
        ({"test_labels": np.full((4, 1), "a")}, "holds <U1: numbers"),
        ({"test_labels": np.full((4, 1), {}, object)}, "not a readable NPZ of plain arrays"),
    ],
)
def test_malformed_arrays(folder, replaced, words):
    with pytest.raises(DataError, match=words) as caught:
        load_named(folder, arrays(**replaced))
    assert "some.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_multilabel_must_be_binary_and_wide(folder):
    with pytest.raises(DataError, match="holds label 2: 0 to 1"):
        load_named(folder, arrays(wide=14, labels=3), "chestmnist")
    with pytest.raises(DataError, match=r"\(N, 14\) is needed"):
        load_named(folder, arrays(), "chestmnist")


def test_missing_keys_are_named(folder):
    content = arrays()
    del content["val_labels"]
    with pytest.raises(DataError, match=r"lacks val_labels .*has: train_images"):
        load_named(folder, content)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_files_that_are_no_archives(folder, content):
    (folder / "some.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a readable NPZ"):
        MedMNIST(subset="pneumoniamnist", file="some.npz").load()


def test_truncated_archive_and_bare_array(folder):
    np.savez_compressed(folder / "some.npz", **arrays())
    whole = (folder / "some.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (folder / "torn.npz").write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    for name in ("cut.npz", "torn.npz"):
        with pytest.raises(DataError, match="not a readable NPZ"):
            MedMNIST(subset="pneumoniamnist", file=name).load()
    np.save(folder / "bare.npy", np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        MedMNIST(subset="pneumoniamnist", file="bare.npy").load()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine in place of the official one; the folder that it serves."""
    served = tmp_path / "served"
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Quiet."""

    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_address[1]}/{{file}}"
        monkeypatch.setattr(medmnist, "ADDRESS", address)
        yield served
        web.shutdown()


def test_download_is_checked_and_kept(folder, server, monkeypatch):
    np.savez(server / "breastmnist.npz", **arrays())
    official(monkeypatch, "breastmnist", server / "breastmnist.npz")
    source = MedMNIST(subset="breastmnist", download=True)
    assert len(source.load().records) == 13
    (server / "breastmnist.npz").unlink()
    assert source.load().note == ""
    assert [path.name for path in folder.iterdir()] == ["breastmnist.npz"]


def test_download_without_data_folder_goes_to_the_cache(folder, server, tmp_path, monkeypatch):
    monkeypatch.delenv("MEDLEAK_DATA")
    np.savez(server / "breastmnist.npz", **arrays())
    official(monkeypatch, "breastmnist", server / "breastmnist.npz")
    assert len(MedMNIST(subset="breastmnist", download=True).load().records) == 13
    assert (tmp_path / "cache" / "breastmnist.npz").exists()


def test_failed_download_leaves_nothing(folder, server):
    np.savez(server / "breastmnist.npz", **arrays())
    for name in ("breastmnist", "bloodmnist"):  # a wrong checksum; not there at all
        with pytest.raises(DataError, match=f"{name}.npz could not be fetched") as caught:
            MedMNIST(subset=name, download=True).load()
        assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_real_file(real_data):
    data = MedMNIST(subset="pneumoniamnist", file="pneumoniamnist.npz").load()
    assert np.unique(data.source, return_counts=True)[1].tolist() == [624, 4708, 524]
    assert data.records.x.shape[1:] == (1, 28, 28)
    assert set(data.records.y) == {0, 1}
