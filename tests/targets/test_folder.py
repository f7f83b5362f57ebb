"""Image folders: columns, classes, groups, filters, and every fault of a table or an image."""

import csv

import numpy as np
import pytest
from PIL import Image

from medleak.api import ConfigError, DataError
from medleak.targets.datasets.folder import ImageFolder

HEADER = ["file", "who", "finding", "sex", "age", "view"]
ROWS = [
    ["a.png", "P7", "covid", "F", "39", "PA"],
    ["b.png", "P7", "covid", "F", "40", "AP"],
    ["c.png", "P3", "normal", "M", "", "PA"],
    ["d.png", "P9", "flu, mild", "", "80.5", "lateral"],
]
COLUMNS = {"file": "file", "patient": "who", "label": "finding"}


def write(folder, rows=ROWS, header=HEADER):
    with (folder / "metadata.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path):
    """Four images of three patients."""
    write(tmp_path)
    for k, name in enumerate("abcd"):
        pixels = np.full((40, 60, 3), 50 * k, np.uint8)
        pixels[:, 30:, 0] = 255
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def load(folder, **options):
    return ImageFolder(**({"root": str(folder), "size": 16} | COLUMNS | options)).load()


def with_row(row, column, value):
    rows = [list(r) for r in ROWS]
    rows[row][HEADER.index(column)] = value
    return rows


def test_grey_and_patients(folder):
    data = load(folder)
    r = data.records
    assert r.x.shape == (4, 1, 16, 16)
    assert r.x.dtype == np.uint8
    assert r.patients.tolist() == [1, 1, 0, 2]
    assert data.classes == ("covid", "flu, mild", "normal")
    assert r.y.tolist() == [0, 0, 2, 1]
    assert data.unit == "patient"
    assert data.source.tolist() == ["all"] * 4
    assert data.name == folder.name


def test_colour_keeps_the_central_square(folder):
    x = load(folder, colour=True).records.x
    assert x.shape == (4, 3, 16, 16)
    assert x[1, 0, 8, -1] == 255
    assert x[1, 1, 8, 8] == 50
    assert x[1, 0, 8, 0] == 50


def test_classes_take_values_and_the_rest(folder):
    data = load(folder, classes={"other": "*", "covid-19": ["covid"]})
    assert data.classes == ("covid-19", "other")
    assert data.records.y.tolist() == [0, 0, 1, 1]
    order = load(folder, classes={"covid-19": ["covid"], "other": "*"})
    assert order.fingerprint == data.fingerprint


def test_groups_and_bins(folder):
    groups = {"sex": "sex", "age_band": {"column": "age", "bins": [40, 60, 75]}}
    found = load(folder, groups=groups).records.groups
    assert found["sex"].tolist() == ["F", "F", "M", ""]
    assert found["age_band"].tolist() == ["<40", "40-59", "", "75+"]
    halves = {"age_band": {"column": "age", "bins": [39.5, 80.5]}}
    found = load(folder, groups=halves).records.groups["age_band"]
    assert found.tolist() == ["<39.5", "39.5-<80.5", "", "80.5+"]


def test_keep_and_drop(folder):
    assert len(load(folder, keep={"view": ["PA", "AP"]}).records) == 3
    assert len(load(folder, drop={"finding": "flu, mild"}).records) == 3
    assert load(folder, keep={"view": ["PA"]}, drop={"sex": ["M"]}).records.y.tolist() == [0]


def test_source_column(folder):
    assert load(folder, source="view").source.tolist() == ["PA", "AP", "PA", "lateral"]


def test_unknown_patients(folder):
    data = load(folder, patient=None)
    assert data.unit == "image (patient unknown)"
    assert data.records.patients.tolist() == [0, 1, 2, 3]


def test_fingerprint_follows_pixels_and_table(folder):
    first = load(folder).fingerprint
    assert load(folder).fingerprint == first
    assert load(folder, size=17).fingerprint != first
    write(folder, with_row(0, "who", "P8"))
    assert load(folder).fingerprint != first


def test_sixteen_bits_keep_their_contrast(folder):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "a.png")
    x = load(folder, size=64).records.x[0, 0]
    assert np.array_equal(x, (ramp >> 8).astype(np.uint8))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patient": "whom"}, "unknown column 'whom': did you mean 'who'"),
        ({"label": "diagnosis"}, "unknown column 'diagnosis'.*finding"),
        ({"groups": {"sex": "gender"}}, "unknown column 'gender'"),
        ({"keep": {"views": ["PA"]}}, "unknown column 'views': did you mean 'view'"),
        ({"keep": {"view": ["P.A."]}}, "unknown value of view 'P.A.'.*AP, PA, lateral"),
        ({"drop": {"view": ["oblique"]}}, "unknown value of view 'oblique'"),
        ({"keep": {"view": ["PA"]}, "drop": {"view": ["PA"]}}, "no row is left"),
        ({"classes": {"sick": ["covid"]}}, r"unknown value of finding .*choices: covid.*'\*'"),
        ({"classes": {"a": "*", "b": ["cold"]}}, "class 'b' has no image"),
        ({"table": "meta.csv"}, "table not found: no file .*meta.csv"),
        ({"table": "../meta.csv"}, "table '../meta.csv' leads out of"),
        ({"images": "pictures"}, "images 'pictures' not found"),
        ({"images": "../.."}, "leads out of"),
        ({"groups": {"age": {"column": "view", "bins": [1]}}}, "group 'age'.*'PA'"),
        ({"max_pixels": 2000}, "60x40 pixels: more than max_pixels=2000"),
    ],
)
def test_faults_name_value_and_choices(folder, options, words):
    with pytest.raises(DataError, match=words) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 4}, "8 to 1024"),
        ({"classes": {"a": ["covid"], "b": ["covid", "*"]}}, "'covid' stands under 'b'"),
        ({"groups": {"age": {"column": "age", "bins": [60, 40]}}}, "must increase"),
        ({"groups": {"age": {"columns": "age"}}}, "group 'age' must be"),
    ],
)
def test_impossible_arguments(folder, options, words):
    with pytest.raises(ConfigError, match=words):
        load(folder, **options)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("who", " ", "line 3: column 'who' is empty"),
        ("finding", "", "line 3: column 'finding' is empty"),
        ("file", "", "line 3: column 'file' is empty"),
        ("file", "z.png", "line 3: no file .*z.png"),
        ("file", "../secret.png", "line 3: file '../secret.png' leads out of"),
        ("file", "/etc/hostname", "line 3: file '/etc/hostname' leads out of"),
        ("file", "a.png", "line 3: .*a.png is also on line 2"),
    ],
)
def test_faulty_rows_are_named_by_line(folder, column, value, words):
    write(folder, with_row(1, column, value))
    with pytest.raises(DataError, match=words):
        load(folder)


def test_image_behind_a_link_out_of_the_folder(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    (folder / "a.png").rename(outside)
    (folder / "a.png").symlink_to(outside)
    with pytest.raises(DataError, match="leads out of"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n cut"])
def test_unreadable_images(folder, content):
    (folder / "b.png").write_bytes(content)
    with pytest.raises(DataError, match=r"b.png is not a readable image") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_truncated_image(folder):
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) - 30])
    with pytest.raises(DataError, match=r"b.png is not a readable image"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no rows"),
        (b"file,who,finding\n", "has no rows"),
        (b"file,who,finding\na.png,P1\n", "line 2: not as many values"),
        (b"file,who,finding\na.png,P1,covid,more\n", "line 2: not as many values"),
        (b"file,who,finding\n\xff\xfe,P1,covid\n", "not a readable CSV"),
    ],
)
def test_faulty_tables(folder, content, words):
    (folder / "metadata.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(folder)


def test_missing_root(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLEAK_DATA", str(tmp_path))
    with pytest.raises(DataError, match="root 'scans' not found: no folder"):
        ImageFolder(root="scans", **COLUMNS).load()
    with pytest.raises(DataError, match="leads out of"):
        ImageFolder(root="../scans", **COLUMNS).load()
