import json
from pathlib import Path

import pytest

from medleak.api import ConfigError, Curve
from medleak.report import publish, scan, write
from medleak.results.row import Row


@pytest.fixture
def some(rows):
    defenses = ("none", "dp_sgd_eps8", "label_only")
    return [
        row
        for row in rows
        if row.n_members == 250 and row.attack == "rmia" and row.defense in defenses
    ]


@pytest.fixture
def no_plots(monkeypatch):
    """Plots are drawn where they matter; elsewhere they only take time."""
    monkeypatch.setattr("medleak.report.plots.figures", lambda *_: {})


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_publishing_twice_gives_the_same_bytes(some, manifest, tmp_path):
    first = tree(publish(some, "demo", manifest=manifest, root=tmp_path / "a"))
    second = tree(publish(some, "demo", manifest=manifest, root=tmp_path / "b"))
    assert first == second
    assert {"manifest.json", "rows.json", "tables.md", "tables.tex", "tables.csv"} <= set(first)
    assert "report.html" in first
    assert not any(name.startswith(".") for name in first)


@pytest.mark.usefixtures("no_plots")
def test_published_rows_read_back(some, manifest, tmp_path):
    folder = publish(some, "demo", manifest=manifest, root=tmp_path)
    back = [Row.from_json(row) for row in json.loads((folder / "rows.json").read_text())]
    assert [row.key for row in back] == [row.key for row in some]
    assert back[0].leakage["auc"] == some[0].leakage["auc"]
    assert isinstance(back[0].leakage["roc"], Curve)


def test_published_folder_scans_clean(some, manifest, tmp_path):
    assert scan(publish(some, "demo", manifest=manifest, root=tmp_path)) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "Upper", "a b", "-x", "a\n"])
def test_names_that_leave_the_folder_are_refused(some, manifest, tmp_path, name):
    with pytest.raises(ConfigError, match="no name to publish under"):
        publish(some, name, manifest=manifest, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_plots")
def test_a_taken_name_is_refused_unless_told(some, manifest, tmp_path):
    folder = publish(some, "demo", manifest=manifest, root=tmp_path)
    (folder / "report.html").write_text("mine")
    with pytest.raises(ConfigError, match="exists: choose another name, or --overwrite it"):
        publish(some, "demo", manifest=manifest, root=tmp_path)
    assert (folder / "report.html").read_text() == "mine"
    publish(some[:2], "demo", manifest=manifest, root=tmp_path, overwrite=True)
    assert len(json.loads((folder / "rows.json").read_text())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_nothing_is_published_without_rows(manifest, tmp_path):
    with pytest.raises(ConfigError, match="no rows"):
        publish([], "demo", manifest=manifest, root=tmp_path)


@pytest.mark.usefixtures("no_plots")
def test_machine_traces_are_taken_out(make_row, manifest, tmp_path):
    provenance = {"overrides": ["target=x"], "log": "/home/alice/run/log.txt", "hostname": "box7"}
    failed = make_row(
        "none", "lira", 250, 1, status="failed", reason="no file /tmp/ab/x.npz", records=""
    )
    row = make_row("none", "lira", 250, 0, provenance=provenance)
    manifest = {**manifest, "hardware": {"cpu": "2 cores", "hostname": "box7"}, "store": "/root/s"}
    folder = publish([row, failed], "demo", manifest=manifest, root=tmp_path)
    text = b"".join(tree(folder).values())
    assert b"alice" not in text
    assert b"box7" not in text
    assert b"no file x.npz" in text
    assert scan(folder) == []


@pytest.mark.usefixtures("no_plots")
def test_a_finding_stops_publication_and_leaves_nothing(make_row, manifest, tmp_path):
    row = make_row("none", "lira", 250, 0, provenance={"scores": [0.1, 0.2]})
    with pytest.raises(ConfigError, match=r"not published: rows\.json"):
        publish([row], "demo", manifest=manifest, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_plots")
def test_long_curves_are_thinned_before_publication(make_row, manifest, tmp_path):
    x = tuple(i / 4999 for i in range(5000))
    row = make_row("none", "lira", 250, 0, leakage={"roc": Curve(x, x, x, x, 5000)})
    folder = publish([row], "demo", manifest=manifest, root=tmp_path)
    (back,) = json.loads((folder / "rows.json").read_text())
    assert len(back["leakage"]["roc"]["x"]) <= 200


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("x.npz", b"PK", "file type"),
        ("x.png", b"\x89PNG", "file type"),
        ("x.pt", b"", "file type"),
        ("weights.safetensors", b"", "file type"),
        ("a.json", b'{"scores": [0.1, 0.2]}', "'scores'"),
        ("a.json", b'[{"member": true, "x": 1}]', "'[0].member'"),
        ("a.json", b'{"patient": 17}', "'patient'"),
        ("a.json", json.dumps({"v": [0.5] * 501}).encode(), "list of 501"),
        ("a.json", b'{"hostname": "box7"}', "names a machine"),
        ("a.json", b"{", "not JSON"),
        ("a.csv", b"patient,auc\n1,0.5\n", "column 'patient'"),
        ("a.md", b"see /home/alice/x", "machine path"),
        ("a.md", b"see C:\\Users\\alice", "machine path"),
        ("a.md", b"ran on kingfisher today", "name 'kingfisher'"),
        ("a.md", b"0.5, " * 600, "more than 500 numbers"),
        ("a.html", b'<img src="x">', "raster"),
        ("a.html", b"<p style='background: url(data:image/png;base64,AA)'>", "raster"),
        ("a.html", b'<script src="https://cdn.example/x.js"></script>', "network"),
        ("a.svg", b"<svg><image/></svg>", "raster"),
        ("a.pdf", b"%PDF /Subtype /Image", "raster"),
        ("a.md", b"\xff\xfe", "UTF-8"),
    ],
)
def test_scan_catches_planted_leaks(tmp_path, name, content, finding):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(content)
    problems = scan(tmp_path, names=["kingfisher"])
    assert len(problems) >= 1
    assert any(finding in problem for problem in problems)
    assert all(problem.startswith(f"sub/{name}: ") for problem in problems)


def test_scan_lets_counts_and_column_names_pass(tmp_path):
    value = {
        "patients": 1000,
        "columns": {"patient": "subject", "image": "file"},
        "unit": "patient",
    }
    value["overrides"] = [["target=x", "seed=0"]] * 600
    (tmp_path / "a.json").write_text(json.dumps(value))
    (tmp_path / "a.md").write_text("see https://example.org/home/page and ok/not ok")
    assert scan(tmp_path, names=[]) == []


def test_what_is_published_here_is_clean():
    root = Path(__file__).parents[2] / "results" / "published"
    for folder in root.iterdir() if root.exists() else ():
        if folder.is_dir():
            assert scan(folder, names=[]) == []


@pytest.mark.usefixtures("no_plots")
def test_an_interrupted_write_leaves_the_old_file(some, tmp_path, monkeypatch):
    page = write(some[:1], tmp_path)
    before = page.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        write(some, tmp_path)
    assert page.read_bytes() == before
    assert not [path for path in tmp_path.rglob(".*")]
