"""A folder of images and a CSV table that says whose they are."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medleak.api import ConfigError, DataError, Dataset, DatasetSource, Records
from medleak.core.keys import array_digest, lasting_digest
from medleak.core.suggestions import unknown
from medleak.targets.datasets._files import inside, locate

REST = "*"
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
Row = Mapping[str, str]


class ImageFolder(DatasetSource):
    """Images in a folder, one row of a CSV table for each.

    Images are cropped to their central square and resized (Lanczos); 16-bit greys keep their upper
    eight bits. PNG, JPEG, BMP and TIFF are read.

    Args:
        root: folder that holds everything: absolute, or relative to MEDLEAK_DATA.
        file: column of image paths, relative to `images`.
        label: column of labels.
        patient: column of patients; None where they are unknown (each image is its own).
        table: the CSV file, relative to `root`.
        images: folder of the images, relative to `root`.
        classes: class name -> the label values that it holds, ``"*"`` for all others. None: every
            value is a class. Class indices follow the sorted names.
        groups: subgroup -> column, or ``{column: age, bins: [40, 60, 75]}`` for a numeric one.
        source: column of the official split, where there is one.
        keep: column -> the values that a row must have.
        drop: column -> values that exclude a row.
        size: pixels of a side.
        colour: three channels instead of one.
        title: as printed; None takes the name of `root`.
        citation: paper and licence.
        max_pixels: larger images are refused before they are decompressed.

    Shapes: ``x`` ``(N, 1 or 3, size, size)`` uint8.

    Raises:
        ConfigError: an argument out of its range.
        DataError: a missing file, column, patient or label, an unreadable or too large image, a
            path that leads out of the folder: in one line with the row's number.
    """

    version = 1

    def __init__(
        self,
        *,
        root: str,
        file: str,
        label: str,
        patient: str | None = None,
        table: str = "metadata.csv",
        images: str = ".",
        classes: Mapping[str, Any] | None = None,
        groups: Mapping[str, Any] | None = None,
        source: str | None = None,
        keep: Mapping[str, Sequence[str]] | None = None,
        drop: Mapping[str, Sequence[str]] | None = None,
        size: int = 64,
        colour: bool = False,
        title: str | None = None,
        citation: str = "",
        max_pixels: int = 50_000_000,
    ):
        self.root = root
        self.file = file
        self.label = label
        self.patient = patient
        self.table = table
        self.images = images
        self.classes = classes
        self.groups = groups
        self.source = source
        self.keep = keep
        self.drop = drop
        self.size = size
        self.colour = colour
        self.title = title
        self.citation = citation
        self.max_pixels = max_pixels

    def load(self) -> Dataset:
        if type(self.size) is not int or not 8 <= self.size <= 1024:
            raise ConfigError(f"ImageFolder size must be 8 to 1024 pixels, not {self.size!r}")
        root = locate(self.root, "root", folder=True)
        rows = self._rows(inside(root, self.table, "table"))
        classes, y = _classes([row[self.label] for row in rows], self.classes, self.label)
        groups = {name: _group(rows, spec, name) for name, spec in (self.groups or {}).items()}
        paths = self._paths(root, rows)
        x = np.stack([_image(path, self.size, self.colour, self.max_pixels) for path in paths])
        patients = self._patients(rows)
        source = np.array([row[self.source] for row in rows] if self.source else ["all"] * len(x))
        columns = [groups[name] for name in sorted(groups)]
        arrays = array_digest(x, y, patients, source, *columns)
        return Dataset(
            records=Records(x, y, patients, groups),
            source=source,
            name=self.title or root.name,
            classes=classes,
            fingerprint=lasting_digest(
                ["folder", self.version, list(classes), sorted(groups), arrays]
            ),
            patients_known=self.patient is not None,
            citation=self.citation,
        )

    def _rows(self, path: Path) -> list[Row]:
        """The rows that `keep` and `drop` leave, each with its line number under ``""``."""
        rows = _read(path)
        self._check_columns(rows[0], path)
        for column, values in [*(self.keep or {}).items(), *(self.drop or {}).items()]:
            _check_values(column, values, rows)
        rows = [row for row in rows if self._wanted(row)]
        if not rows:
            raise DataError(f"{path}: no row is left by keep={self.keep} drop={self.drop}")
        for column in filter(None, (self.file, self.label, self.patient, self.source)):
            empty = next((row for row in rows if not row[column].strip()), None)
            if empty:
                raise DataError(f"{path} line {empty['']}: column '{column}' is empty")
        return rows

    def _check_columns(self, row: Row, path: Path) -> None:
        named = [self.file, self.label, self.patient, self.source]
        named += [_column(spec, name) for name, spec in (self.groups or {}).items()]
        named += [*(self.keep or {}), *(self.drop or {})]
        columns = [name for name in row if name]
        for name in named:
            if name is not None and name not in columns:
                raise DataError(f"{path}: {unknown('column', name, columns)}")

    def _wanted(self, row: Row) -> bool:
        kept = all(row[c] in _values(values) for c, values in (self.keep or {}).items())
        return kept and not any(row[c] in _values(v) for c, v in (self.drop or {}).items())

    def _paths(self, root: Path, rows: list[Row]) -> list[Path]:
        folder = inside(root, self.images, "images")
        if not folder.is_dir():
            raise DataError(f"images '{self.images}' not found: no folder {folder}")
        seen: dict[Path, str] = {}
        for row in rows:
            path = inside(folder, row[self.file], f"{self.table} line {row['']}: file")
            if not path.is_file():
                raise DataError(f"{self.table} line {row['']}: no file {path}")
            if path in seen:
                raise DataError(f"{self.table} line {row['']}: {path} is also on line {seen[path]}")
            seen[path] = row[""]
        return list(seen)

    def _patients(self, rows: list[Row]) -> np.ndarray:
        if self.patient is None:
            return np.arange(len(rows), dtype=np.int64)
        names = np.array([row[self.patient].strip() for row in rows])
        return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        raise DataError(f"table not found: no file {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = [{**row, "": str(reader.line_num)} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable CSV file: {error}") from None
    if not rows:
        raise DataError(f"{path} has no rows")
    ragged = next((row for row in rows if None in row or None in row.values()), None)
    if ragged:
        raise DataError(f"{path} line {ragged['']}: not as many values as columns")
    return rows


def _values(values: Any) -> list[str]:
    """One value or a list, as strings: YAML reads ``1`` as a number, the CSV knows none."""
    return [str(v) for v in ([values] if isinstance(values, str | int | float) else values)]


def _check_values(column: str, values: Any, rows: list[Row]) -> None:
    """A filter that names a value which never occurs is a misspelling."""
    found = {row[column] for row in rows}
    for value in _values(values):
        if value not in found:
            raise DataError(unknown(f"value of {column}", value, found))


def _classes(
    labels: list[str], classes: Mapping[str, Any] | None, column: str
) -> tuple[tuple[str, ...], np.ndarray]:
    if classes is None:
        classes = {value: value for value in set(labels)}
    # Sorted, because a mapping's order does not survive the canonical form that keys are made of.
    classes = {str(name): classes[name] for name in sorted(classes, key=str)}
    lookup: dict[str, int] = {}
    for index, (name, values) in enumerate(classes.items()):
        for value in _values(values):
            if value in lookup:
                raise ConfigError(f"classes: '{value}' stands under '{name}' and another class")
            lookup[value] = index
    rest = lookup.pop(REST, None)
    for value in labels:
        if value not in lookup and rest is None:
            raise DataError(
                f"{unknown(f'value of {column}', value, lookup)}; '{REST}' takes the rest"
            )
    y = np.array([lookup.get(value, rest) for value in labels], np.int64)
    names = tuple(classes)
    for index, name in enumerate(names):
        if not (y == index).any():
            raise DataError(f"class '{name}' has no image (values of {column}: {_sample(labels)})")
    return names, y


def _sample(values: list[str], most: int = 12) -> str:
    names = sorted(set(values))
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _column(spec: Any, group: str) -> str:
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping) and {"column"} <= set(spec) <= {"column", "bins"}:
        return spec["column"]
    raise ConfigError(f"group '{group}' must be a column or {{column, bins}}, not {spec!r}")


def _group(rows: list[Row], spec: Any, group: str) -> np.ndarray:
    """``(N,)`` strings; "" where the table says nothing."""
    column = _column(spec, group)
    values = [row[column].strip() for row in rows]
    bins = None if isinstance(spec, str) else spec.get("bins")
    if bins is None:
        return np.array(values)
    if len(bins) == 0 or sorted(set(bins)) != list(bins):
        raise ConfigError(f"bins of group '{group}' must increase: {list(bins)}")
    names = _bin_names(list(bins))
    try:
        numbers = [float(value) if value else None for value in values]
    except ValueError as error:
        raise DataError(f"group '{group}' has bins, but column '{column}' {error}") from None
    return np.array(
        ["" if n is None or n != n else names[np.searchsorted(bins, n, "right")] for n in numbers]
    )


def _bin_names(bins: list[float]) -> list[str]:
    """``[40, 60]`` -> ``<40``, ``40-59``, ``60+``."""
    whole = all(isinstance(edge, int) for edge in bins)
    pairs = pairwise(bins)
    middle = [f"{low}-{high - 1}" if whole else f"{low:g}-<{high:g}" for low, high in pairs]
    return [f"<{bins[0]:g}", *middle, f"{bins[-1]:g}+"]


def _image(path: Path, size: int, colour: bool, max_pixels: int) -> np.ndarray:
    """``(1 or 3, size, size)`` uint8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise DataError(
                    f"{path} has {image.width}x{image.height} pixels: more than max_pixels={max_pixels}"
                )
            image.load()
            image = _eight_bits(image, path).convert("RGB" if colour else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a readable image: {reason}") from None
    pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
    return pixels.transpose(2, 0, 1) if colour else pixels[None]


def _eight_bits(image: Any, path: Path) -> Any:
    """16-bit greys lose their lower byte: Pillow's own conversion would clip them to white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{path} has pixels of mode '{image.mode}': 8 or 16 bits are needed")
    return image


__all__ = ["ImageFolder"]
