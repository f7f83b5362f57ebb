"""The store: atomic, checksummed, locked."""

import errno
import json
import multiprocessing
import os

import numpy as np
import pytest

from medleak.api import ConfigError, MedleakError
from medleak.core.store import (
    ARRAYS,
    FORMAT,
    KINDS,
    MANIFEST,
    MARKER,
    Corrupt,
    Store,
    write_atomically,
)


def test_what_is_saved_is_loaded(tmp_path):
    store, arrays = Store(tmp_path), {"w": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]}
    store.save("runs", "ab12", {"steps": 3}, arrays)
    found = store.load("runs", "ab12")
    assert found.facts == {"steps": 3}
    np.testing.assert_array_equal(found.arrays["w"], arrays["w"])
    assert store.keys("runs") == ["ab12"]
    assert store.size()["runs"][0] == 1


def test_arrays_keep_their_order(tmp_path):
    store, names = Store(tmp_path), [f"layers.{i}.weight" for i in range(11, -1, -1)]
    store.save("runs", "ab", {}, {name: np.zeros(2) for name in names})
    assert list(store.load("runs", "ab").arrays) == names  # a network's layers are told by it


def test_arrays_of_an_older_store_come_by_name(tmp_path):
    store = Store(tmp_path)
    store.save("runs", "ab", {}, {name: np.zeros(2) for name in "dacb"})
    path = store.folder("runs", "ab") / MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({n: v for n, v in manifest.items() if n != "names"}))
    assert list(store.load("runs", "ab").arrays) == list("abcd")


@pytest.mark.parametrize("names", [["w", "v"], ["v"], ["w", "w"], "w", 3])
def test_a_manifest_that_names_other_arrays_is_damaged(tmp_path, names):
    store = Store(tmp_path)
    store.save("runs", "ab", {}, {"w": np.zeros(2)})
    path = store.folder("runs", "ab") / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "names": names}))
    with pytest.raises(Corrupt, match=MANIFEST):
        store.load("runs", "ab")


def test_first_writer_wins_and_leaves_no_litter(tmp_path):
    store = Store(tmp_path)
    store.save("runs", "ab", {"who": 1})
    store.save("runs", "ab", {"who": 2})
    assert store.load("runs", "ab").facts == {"who": 1}
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("victim", [ARRAYS, MANIFEST])
def test_damage_is_named_and_set_aside(tmp_path, victim, caplog):
    store = Store(tmp_path)
    store.save("runs", "ab", {}, {"w": np.zeros(4)})
    path = store.folder("runs", "ab") / victim
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(Corrupt, match=victim):
        store.load("runs", "ab")
    assert len(store.verify()) == 1
    assert store.get("runs", "ab") is None
    assert "set aside" in caplog.text
    assert not store.has("runs", "ab")
    store.save("runs", "ab", {"again": True})
    assert store.load("runs", "ab").facts == {"again": True}


def test_a_flipped_byte_is_seen(tmp_path):
    store = Store(tmp_path)
    store.save("runs", "ab", {}, {"w": np.zeros(4)})
    path = store.folder("runs", "ab") / ARRAYS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="checksum"):
        store.load("runs", "ab")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", "x."])
def test_no_name_escapes_the_store(tmp_path, name):
    with pytest.raises(MedleakError):
        Store(tmp_path).save("runs", name, {})
    with pytest.raises(MedleakError):
        Store(tmp_path).save(name, "ab", {})


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.save("runs", "ab", {}, {"w": np.zeros(4)})
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "page.html", "x")
    monkeypatch.undo()
    assert not store.has("runs", "ab")
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "page.html").exists()


def _hold(root, ready, release):
    with Store(root).claim("runs", "ab") as mine:
        ready.put(mine)
        release.wait(30)


def test_a_claim_is_exclusive_between_processes_and_dies_with_its_holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Queue(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.get(timeout=60)
    with Store(tmp_path).claim("runs", "ab") as mine:
        assert not mine
    holder.kill()
    holder.join()
    with Store(tmp_path).claim("runs", "ab") as mine:
        assert mine


def test_prune_frees_what_it_says(tmp_path):
    store = Store(tmp_path)
    store.save("runs", "ab", {}, {"w": np.zeros(1000)})
    store.save("cells", "cd", {})
    count, size = store.prune(kind="runs")
    assert (count, store.kinds()) == (1, ["cells", "runs"])
    assert size > 8000
    assert store.prune(days=1)[0] == 0
    with pytest.raises(ConfigError, match="did you mean 'cells'"):
        store.prune(kind="cell")


def _strangers(root):
    """Files that look like a store's leftovers and artefacts, in a folder that is none."""
    names = [
        "tmp/notes.txt",
        "corrupt/scan.png",
        f"photos/ab/cd/{MANIFEST}",
        f"runs/ab/ab12/{MANIFEST}",
    ]
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        os.utime(path, (0, 0))
        os.utime(path.parent, (0, 0))
    return names


def test_a_folder_without_the_marker_loses_nothing(tmp_path):
    names = _strangers(tmp_path)
    for kind in (None, "runs"):
        with pytest.raises(ConfigError, match=MARKER):
            Store(tmp_path).prune(kind=kind)
    assert all((tmp_path / name).is_file() for name in names)
    assert not (tmp_path / MARKER).exists()


def test_a_store_loses_only_what_is_a_stores(tmp_path):
    store = Store(tmp_path)
    store.save("cells", "ab12", {})
    names = _strangers(tmp_path)
    old = tmp_path / "tmp" / ("0" * 32)
    old.mkdir()
    os.utime(old, (0, 0))
    assert store.kinds() == ["cells", "runs"]
    assert store.prune()[0] == 2
    assert not old.exists()
    left = [name for name in names if (tmp_path / name).exists()]
    assert left == [name for name in names if not name.startswith("runs")]


def test_the_first_artefact_marks_the_folder(tmp_path):
    Store(tmp_path / "new").save("runs", "ab12", {})
    assert json.loads((tmp_path / "new" / MARKER).read_text()) == {"format": FORMAT}


def test_saving_adopts_an_earlier_versions_store_and_nothing_else(tmp_path):
    store = Store(tmp_path)
    store.save("runs", "ab12", {})
    (tmp_path / MARKER).unlink()
    (tmp_path / ".DS_Store").write_text("")
    with pytest.raises(ConfigError, match=MARKER):
        store.prune()
    (tmp_path / "letters").mkdir()
    with pytest.raises(ConfigError, match="letters"):
        Store(tmp_path).save("runs", "cd34", {})
    (tmp_path / "letters").rmdir()
    Store(tmp_path).save("runs", "cd34", {})
    assert store.prune()[0] == 2


@pytest.mark.parametrize("marker", ["", "{}", "3", json.dumps({"format": FORMAT + 1})])
def test_a_strange_marker_is_refused(tmp_path, marker):
    (tmp_path / MARKER).write_text(marker)
    for act in (Store(tmp_path).ready, Store(tmp_path).prune):
        with pytest.raises(ConfigError):
            act()


def test_an_unknown_kind_is_not_stored(tmp_path):
    with pytest.raises(MedleakError, match="did you mean 'cells'"):
        Store(tmp_path).save("cell", "ab", {})
    assert len(set(KINDS)) == len(KINDS)


def test_a_private_file_is_never_anybodys(tmp_path, monkeypatch):
    path, seen = tmp_path / "risk.html", []
    path.write_text("old")
    path.chmod(0o666)
    fsync, before = os.fsync, os.umask(0)
    monkeypatch.setattr(
        os, "fsync", lambda fd: (seen.append(os.fstat(fd).st_mode & 0o777), fsync(fd))
    )
    try:
        write_atomically(path, "new", private=True)
        write_atomically(tmp_path / "rows.json", "[]")
    finally:
        os.umask(before)
    assert seen == [0o600, 0o666]
    assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, "new")


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ConfigError, match="not a folder"):
        Store(tmp_path / "x")
