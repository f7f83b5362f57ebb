"""The 2-D family of MedMNIST+, by name and size."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from medleak.api import (
    ConfigError,
    DataError,
    Dataset,
    DatasetSource,
    Records,
    multiclass,
    multilabel,
)
from medleak.core.keys import array_digest, lasting_digest
from medleak.core.suggestions import unknown
from medleak.targets.datasets._files import VARIABLE, data_root, file_digest, locate
from medleak.targets.datasets._medmnist_facts import ADDRESS, CITATION, FAMILY, SIZES, Facts

SPLITS = ("train", "val", "test")
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


class MedMNIST(DatasetSource):
    """A member of MedMNIST+ (Yang et al. 2023), from a local NPZ or a checksummed download.

    The official file (``pneumoniamnist.npz``, ``pneumoniamnist_64.npz``) is looked up under
    MEDLEAK_DATA, then in the user's cache; its MD5 must be the published one. Any other file of the
    same layout is read only when `file` names it; the data set's note then says so.

    Patients are unknown: every image counts as its own.

    Args:
        subset: ``pneumoniamnist``, ``bloodmnist``, ``chestmnist`` (14 labels) ...
        size: 28, 64, 128 or 224 pixels.
        file: a particular NPZ: absolute, or relative to MEDLEAK_DATA.
        download: fetch a missing official file into MEDLEAK_DATA (or the cache).

    Shapes: ``x`` ``(N, C, size, size)`` uint8; ``y`` ``(N,)``, or ``(N, 14)`` for chestmnist.

    Raises:
        ConfigError: unknown subset or size.
        DataError: file missing, not the official one, or malformed.
    """

    version = 1

    def __init__(
        self, *, subset: str, size: int = 28, file: str | None = None, download: bool = False
    ):
        self.subset = subset
        self.size = size
        self.file = file
        self.download = download

    def load(self) -> Dataset:
        if self.subset not in FAMILY:
            raise ConfigError(unknown("MedMNIST subset", self.subset, FAMILY))
        if self.size not in SIZES:
            raise ConfigError(unknown("MedMNIST size", self.size, SIZES))
        facts = FAMILY[self.subset]
        path, note = self._named(facts) if self.file else (self._official(facts), "")
        x, y, source = _read(path, facts, self.size)
        return Dataset(
            records=Records(x, y, np.arange(len(x), dtype=np.int64)),
            source=source,
            name=self._stem,
            classes=facts.classes,
            fingerprint=lasting_digest(
                ["medmnist", self.version, self._stem, array_digest(x, y, source)]
            ),
            task=(multilabel if facts.multilabel else multiclass).name,
            patients_known=False,
            citation=f"{CITATION}; {facts.licence}",
            note=note,
        )

    @property
    def _stem(self) -> str:
        return self.subset if self.size == 28 else f"{self.subset}_{self.size}"

    def _md5(self, facts: Facts) -> str:
        return facts.md5[SIZES.index(self.size)]

    def _named(self, facts: Facts) -> tuple[Path, str]:
        path = locate(self.file, "file")
        if file_digest(path, "md5") == self._md5(facts):
            return path, ""
        return path, f"unofficial file, sha256 {file_digest(path, 'sha256')[:16]}"

    def _official(self, facts: Facts) -> Path:
        file, folders = f"{self._stem}.npz", _folders()
        path = next((folder / file for folder in folders if (folder / file).exists()), None)
        if path is None:
            if self.download:
                return _download(file, self._md5(facts), folders)
            hint = "" if data_root() else f" ({VARIABLE} is not set)"
            looked = " and ".join(map(str, folders))
            raise DataError(
                f"{file} not found: looked in {looked}{hint}; `download: true` fetches it"
            )
        found = file_digest(path, "md5")
        if found != self._md5(facts):
            raise DataError(
                f"{path} is not the official file (md5 {found}, official {self._md5(facts)}): "
                f"name it as `file: {file}` to use it all the same"
            )
        return path


def _folders() -> list[Path]:
    """MEDLEAK_DATA where it is set, then the user's cache."""
    import pooch

    return [folder for folder in (data_root(), Path(pooch.os_cache("medleak"))) if folder]


def _download(file: str, md5: str, folders: list[Path]) -> Path:
    """Fetch `file` into the first folder that can be written; nothing is left of a failure."""
    import pooch

    folder = next((f for f in folders if f.is_dir() and os.access(f, os.W_OK)), folders[-1])
    address = ADDRESS.format(file=file)
    try:
        # Written under a temporary name, and moved only once the checksum agrees.
        return Path(pooch.retrieve(address, f"md5:{md5}", fname=file, path=folder))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file} could not be fetched from {address}: {reason}") from None


def _read(path: Path, facts: Facts, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and official split of every record, checked."""
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise DataError(f"{path} is a single array, not an NPZ")
        with opened as archive:
            wanted = [f"{split}_{part}" for split in SPLITS for part in ("images", "labels")]
            missing = [key for key in wanted if key not in archive]
            if missing:
                has = ", ".join(archive.files) or "none"
                raise DataError(f"{path} lacks {', '.join(missing)} (has: {has})")
            parts = [_split(archive, split, path, facts, size) for split in SPLITS]
    except UNREADABLE as error:
        reason = type(error).__name__
        raise DataError(f"{path} is not a readable NPZ of plain arrays ({reason})") from None
    images, labels = zip(*parts, strict=True)
    source = np.repeat(SPLITS, [len(part) for part in labels])
    return np.concatenate(images), np.concatenate(labels), source


def _split(archive, split: str, path: Path, facts: Facts, size: int):
    x = _images(archive[f"{split}_images"], f"{path}: {split}_images", facts.channels, size)
    y = _labels(archive[f"{split}_labels"], f"{path}: {split}_labels", facts)
    if len(x) != len(y):
        raise DataError(f"{path}: {split} has {len(x)} images but {len(y)} labels")
    return x, y


def _images(raw: np.ndarray, where: str, channels: int, size: int) -> np.ndarray:
    """``(N, C, H, W)`` uint8 from ``(N, H, W)`` or ``(N, H, W, 3)``."""
    _finite(raw, where)
    record = (size, size) if channels == 1 else (size, size, channels)
    if raw.shape[1:] != record or not len(raw):
        raise DataError(f"{where} has shape {raw.shape}: (N, {str(record)[1:-1]}) is needed")
    if raw.dtype != np.uint8:
        raise DataError(f"{where} holds {raw.dtype}: uint8 is needed")
    return raw[:, None] if channels == 1 else np.ascontiguousarray(raw.transpose(0, 3, 1, 2))


def _labels(raw: np.ndarray, where: str, facts: Facts) -> np.ndarray:
    """``(N,)`` class indices, or ``(N, L)`` 0/1, int64."""
    _finite(raw, where)
    wide = len(facts.classes) if facts.multilabel else 1
    if raw.shape[1:] not in (((wide,),) if facts.multilabel else ((), (1,))):
        raise DataError(f"{where} has shape {raw.shape}: (N, {wide}) is needed")
    labels = raw.astype(np.int64)
    if (labels != raw).any():
        raise DataError(f"{where} holds {raw[labels != raw][0]}: whole numbers are needed")
    most = 1 if facts.multilabel else len(facts.classes) - 1
    outside = labels[(labels < 0) | (labels > most)]
    if len(outside):
        raise DataError(f"{where} holds label {outside[0]}: 0 to {most} are allowed")
    return labels if facts.multilabel else labels.reshape(len(labels))


def _finite(raw: np.ndarray, where: str) -> None:
    if raw.dtype.kind not in "biuf":
        raise DataError(f"{where} holds {raw.dtype}: numbers are needed")
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise DataError(f"{where} holds {int((~np.isfinite(raw)).sum())} NaN or infinite values")


__all__ = ["MedMNIST"]
