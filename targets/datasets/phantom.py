"""Simulated axial head slices: patients whose anatomy, scans and lesions are drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medleak.api import ConfigError, Dataset, DatasetSource, Records
from medleak.core.keys import array_digest, lasting_digest, rng_for

AGE_EDGES = (40, 60, 75)
AGE_BANDS = np.array(["18-39", "40-59", "60-74", "75+"])
SEXES = np.array(["F", "M"])
SITES = np.array(["A", "B", "C"])
# One row for each site: exponent of the grey scale, noise (s.d., of full scale), bias field.
SCANNERS = np.array([[1.0, 0.02, 0.06], [0.82, 0.035, 0.12], [1.2, 0.028, 0.2]], np.float32)
FOLDS = np.arange(5, 17)
ANGLES = 512
WAVES = 3
PIXELS_AT_ONCE = 1 << 19
# Grey values of the tissues, of full scale, as in a T1-weighted image.
SCALP, SKULL, FLUID, CORTEX, WHITE, NUCLEI = 0.9, 0.1, 0.13, 0.48, 0.7, 0.55


class Phantom(DatasetSource):
    """Simulated head slices with repeated scans of each patient and a lesion to be found.

    A patient is a latent: skull (size, shape, asymmetry), cortical folds, parenchymal texture,
    ventricles that widen with age, sex (which changes the size of the head), home scanner, and for
    half of the patients one lesion of random place, size and contrast. A scan adds pose, a bias
    field, the scanner's grey scale and Rician noise ``sqrt((s + n1)^2 + n2^2)``. Label, sex and age
    band belong to the patient; site belongs to the scan (15 % are made away from home).

    Patients are drawn in order: a larger `n_patients` begins with the same latents.

    Args:
        n_patients: number of patients.
        scans_per_patient: least and most scans of a patient, drawn uniformly.
        size: pixels of a side, 28 to 224.
        seed: of everything.
        difficulty: 0 (strong, large lesions) to 1 (faint, small lesions and look-alike vessels).

    Shapes: ``x`` ``(N, 1, size, size)`` uint8.

    Raises:
        ConfigError: an argument out of its range.
    """

    version = 1

    def __init__(
        self,
        *,
        n_patients: int = 800,
        scans_per_patient: Sequence[int] = (1, 3),
        size: int = 28,
        seed: int = 0,
        difficulty: float = 0.3,
    ):
        self.n_patients = n_patients
        self.scans_per_patient = scans_per_patient
        self.size = size
        self.seed = seed
        self.difficulty = difficulty

    def load(self) -> Dataset:
        self._check()
        patients = _patients(self.n_patients, self.seed, self.difficulty)
        least, most = self.scans_per_patient
        scans = _scans(patients, least, most, self.seed)
        x = np.empty((len(scans.patient), 1, self.size, self.size), np.uint8)
        noise = rng_for("phantom", "noise", self.seed)
        for chunk in _chunks(len(x), self.size):
            clean = _render(patients, scans, chunk, self.size)
            x[chunk, 0] = _acquire(clean, scans, chunk, noise)
        groups = {
            "sex": SEXES[patients.male.astype(int)][scans.patient],
            "age_band": AGE_BANDS[np.searchsorted(AGE_EDGES, patients.age, "right")][scans.patient],
            "site": SITES[scans.site],
        }
        y = patients.lesion.astype(np.int64)[scans.patient]
        records = Records(x, y, scans.patient, groups)
        return Dataset(
            records=records,
            source=np.full(len(x), "all"),
            name="phantom",
            classes=("no lesion", "lesion"),
            fingerprint=self._fingerprint(records),
            simulated=True,
            citation="simulated head slices, made by medleak",
        )

    def lesions(self) -> np.ndarray:
        """Share of its contrast that the lesion has in each pixel, float32 ``(N, size, size)``; 0 without one."""
        patients = _patients(self.n_patients, self.seed, self.difficulty)
        least, most = self.scans_per_patient
        scans = _scans(patients, least, most, self.seed)
        found = np.empty((len(scans.patient), self.size, self.size), np.float32)
        for chunk in _chunks(len(found), self.size):
            found[chunk] = _lesion(patients, scans, chunk, self.size)
        return found

    def _check(self) -> None:
        scans = self.scans_per_patient
        whole = isinstance(scans, Sequence) and all(type(n) is int for n in scans)
        if not whole or len(scans) != 2 or not 1 <= scans[0] <= scans[1]:
            raise ConfigError(f"Phantom scans_per_patient must be [least, most], not {scans!r}")
        if type(self.size) is not int or not 28 <= self.size <= 224:
            raise ConfigError(f"Phantom size must be 28 to 224 pixels, not {self.size!r}")
        if type(self.n_patients) is not int or self.n_patients < 1:
            raise ConfigError(f"Phantom n_patients must be 1 or more, not {self.n_patients!r}")
        if not isinstance(self.difficulty, int | float) or not 0 <= self.difficulty <= 1:
            raise ConfigError(f"Phantom difficulty must be in 0..1, not {self.difficulty!r}")

    def _fingerprint(self, records: Records) -> str:
        columns = [records.groups[name] for name in sorted(records.groups)]
        arrays = array_digest(records.x, records.y, records.patients, *columns)
        settings = {**vars(self), "scans_per_patient": list(self.scans_per_patient)}
        return lasting_digest(["phantom", self.version, settings, arrays])


@dataclass(frozen=True)
class _Patients:
    """Latents, one row for each patient; lengths in units of half the field of view."""

    male: np.ndarray
    age: np.ndarray
    home: np.ndarray
    lesion: np.ndarray
    axes: np.ndarray  # (P, 2) half-axes of the head
    outline: np.ndarray  # (P, ANGLES) radius of the outline, relative to the ellipse
    folds: np.ndarray  # (P, ANGLES) depth of the cortex
    waves: np.ndarray  # (P, 3, WAVES) texture: two frequencies and a phase
    ventricles: np.ndarray  # (P, 4) width, length, asymmetry, shift
    spots: np.ndarray  # (P, 2, 5) lesion and look-alike vessel: x, y, radius, elongation, contrast


@dataclass(frozen=True)
class _Scans:
    """One row for each scan."""

    patient: np.ndarray
    site: np.ndarray
    pose: np.ndarray  # (S, 4) angle, scale, shift x, shift y
    bias: np.ndarray  # (S, 4) of a linear and quadratic field
    growth: np.ndarray  # (S,) of the lesion, relative


def _patients(n: int, seed: int, difficulty: float) -> _Patients:
    def uniform(what: str, columns: int) -> np.ndarray:
        return rng_for("phantom", what, seed).random((n, columns), dtype=np.float32)

    def normal(what: str, columns: int) -> np.ndarray:
        return rng_for("phantom", what, seed).standard_normal((n, columns), dtype=np.float32)

    person = uniform("person", 4)
    male = person[:, 0] < 0.5
    age = 18 + 72 * person[:, 1] ** 0.9
    lesion = person[:, 2] < 0.5
    axes = np.array([0.7, 0.86], np.float32) + 0.025 * normal("axes", 2)
    axes *= np.where(male, 1.03, 0.97).astype(np.float32)[:, None]
    old = (age - 18) / 72
    size = normal("ventricles", 4)
    ventricles = np.stack(
        [
            np.clip(0.03 + 0.055 * old + 0.01 * size[:, 0], 0.02, 0.12),
            np.clip(0.13 + 0.06 * old + 0.015 * size[:, 1], 0.1, 0.25),
            0.15 * size[:, 2],
            0.012 * size[:, 3],
        ],
        axis=1,
    )
    outline = _harmonics(normal("outline", 4), np.arange(2, 4), 0.008)
    atrophy = (0.03 * old)[:, None].astype(np.float32)
    folds = _harmonics(normal("folds", 2 * len(FOLDS)), FOLDS, 0.013) + atrophy
    texture = uniform("texture", 3 * WAVES).reshape(n, 3, WAVES)
    waves = np.stack(
        [
            (texture[:, 0] - 0.5) * 16,
            (texture[:, 1] - 0.5) * 16,
            texture[:, 2] * 2 * np.pi,
        ],
        axis=1,
    )
    return _Patients(
        male,
        age,
        (person[:, 3] * len(SITES)).astype(np.int64),
        lesion,
        axes,
        1 + outline,
        folds,
        waves.astype(np.float32),
        ventricles.astype(np.float32),
        _spots(uniform("lesion", 12).reshape(n, 2, 6), lesion, difficulty),
    )


def _harmonics(weights: np.ndarray, orders: np.ndarray, amplitude: float) -> np.ndarray:
    """A random function of the angle for each patient, ``(P, ANGLES)``."""
    angle = np.arange(ANGLES, dtype=np.float32) * (2 * np.pi / ANGLES)
    basis = np.concatenate([np.cos(orders[:, None] * angle), np.sin(orders[:, None] * angle)])
    return amplitude * (weights @ basis.astype(np.float32))


def _spots(u: np.ndarray, lesion: np.ndarray, difficulty: float) -> np.ndarray:
    """Lesion and vessel of each patient; a contrast of zero is none."""
    angle, distance = 2 * np.pi * u[:, :, 0], np.sqrt(0.06 + 0.94 * u[:, :, 1]) * 0.46
    radius = 0.09 + 0.06 * (1 - difficulty) + 0.07 * u[:, :, 2]
    contrast = (0.5 - 0.3 * difficulty) * (0.8 + 0.5 * u[:, :, 3])
    contrast = np.where(u[:, :, 4] < 0.35, -contrast, contrast)
    # The look-alike is small and as strong as the lesion, so that brightness alone does not decide.
    radius[:, 1] *= 0.4
    contrast[:, 1] *= difficulty
    contrast[:, 0] *= lesion
    centre_x, centre_y = distance * np.cos(angle), 1.2 * distance * np.sin(angle)
    return np.stack([centre_x, centre_y, radius, 0.7 + 0.6 * u[:, :, 5], contrast], axis=2)


def _scans(patients: _Patients, least: int, most: int, seed: int) -> _Scans:
    n = len(patients.age)
    count = rng_for("phantom", "scans", seed).integers(least, most + 1, n)
    patient = np.repeat(np.arange(n, dtype=np.int64), count)
    normal = rng_for("phantom", "pose", seed).standard_normal((len(patient), 9), dtype=np.float32)
    away = rng_for("phantom", "site", seed).random((len(patient), 2))
    elsewhere = (away[:, 1] * len(SITES)).astype(np.int64)
    pose = normal[:, :4] * np.array([0.08, 0.02, 0.02, 0.02], np.float32)
    return _Scans(
        patient,
        np.where(away[:, 0] < 0.15, elsewhere, patients.home[patient]),
        pose + np.array([0, 1, 0, 0], np.float32),
        normal[:, 4:8],
        1 + 0.05 * normal[:, 8],
    )


def _chunks(n: int, size: int) -> Iterator[slice]:
    step = max(1, PIXELS_AT_ONCE // size**2)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    return line[None, None, :], line[None, :, None]


def _columns(table: np.ndarray) -> Iterator[np.ndarray]:
    """The columns of ``(S, K)``, each ``(S, 1, 1)``, to broadcast against images."""
    return (table[:, k, None, None] for k in range(table.shape[1]))


def _render(patients: _Patients, scans: _Scans, chunk: slice, size: int) -> np.ndarray:
    """Noise-free slices ``(S, size, size)``, float32 in 0..1."""
    who, soft = scans.patient[chunk], np.float32(2 / size)
    x, y = _in_pose(scans.pose[chunk], size)
    wide, tall = _columns(patients.axes[who])
    radius = np.hypot(x / wide, y / tall)
    turn = (np.arctan2(y, x) * (ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
    radius /= np.take_along_axis(patients.outline[who], turn.reshape(len(who), -1), 1).reshape(
        turn.shape
    )
    folds = np.take_along_axis(patients.folds[who], turn.reshape(len(who), -1), 1).reshape(
        turn.shape
    )
    image = SCALP * _inside(1 - radius, soft)
    image += (SKULL - SCALP) * _inside(0.92 - radius, soft)
    image += (FLUID - SKULL) * _inside(0.84 - radius, soft)
    brain = _inside(0.8 - 0.5 * folds - radius, soft)
    image += (CORTEX - FLUID) * brain
    image += (WHITE - CORTEX) * _inside(0.64 - 2.5 * folds - radius, soft)
    image += brain * _texture(patients.waves[who], x, y)
    image = _ventricles(image, patients.ventricles[who], x, y, soft)
    for k in range(2):
        image += brain * _spot(patients.spots[who, k], scans.growth[chunk], x, y, soft)
    return np.clip(image, 0, 1, out=image)


def _in_pose(pose: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixels in the head's own frame, ``(S, size, size)`` each."""
    x, y = _axes(size)
    angle, scale, shift_x, shift_y = _columns(pose)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    x, y = x - shift_x, y - shift_y
    return cos * x + sin * y, cos * y - sin * x


def _lesion(patients: _Patients, scans: _Scans, chunk: slice, size: int) -> np.ndarray:
    """Share of its contrast that the lesion has in each pixel, ``(S, size, size)``; 0 without one."""
    spots = patients.spots[scans.patient[chunk], 0].copy()
    spots[:, 4] = spots[:, 4] != 0
    x, y = _in_pose(scans.pose[chunk], size)
    return _spot(spots, scans.growth[chunk], x, y, np.float32(2 / size))


def _inside(distance: np.ndarray, soft: np.float32) -> np.ndarray:
    """1 where `distance` is positive, with a linear edge about one pixel wide."""
    return np.clip(distance / soft + 0.5, 0, 1)


def _texture(waves: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    total = np.zeros_like(x)
    for k in range(WAVES):
        along, across, phase = _columns(waves[:, :, k])
        total += np.cos(along * x + across * y + phase)
    return np.float32(0.025) * total


def _ventricles(
    image: np.ndarray, shape: np.ndarray, x: np.ndarray, y: np.ndarray, soft: np.float32
) -> np.ndarray:
    """Deep nuclei, the two lateral ventricles (horns that bow apart) and the midline."""
    width, length, asymmetry, shift = _columns(shape)
    x = x - shift
    side = np.abs(x)
    image += (NUCLEI - WHITE) * _ellipse(side - 0.19, y - 0.02, 0.09, 0.15, soft)
    width = width * (1 + asymmetry * np.sign(x))
    bow = 0.06 + width + 0.9 * np.maximum(np.abs(y) - 0.05, 0) ** 1.5
    fluid = _ellipse(side - bow, y, width, 1.6 * length, soft)
    fluid = np.maximum(fluid, 0.8 * _ellipse(side, y - 0.12, 0.3 * width + 0.012, 0.1, soft))
    fissure = _inside(0.012 - side, soft) * ((np.abs(y) > 0.42) & (np.abs(y) < 0.68))
    fluid = np.maximum(fluid, 0.7 * fissure)
    return image + (FLUID - image) * fluid


def _ellipse(x: np.ndarray, y: np.ndarray, wide, tall, soft: np.float32) -> np.ndarray:
    distance = 1 - np.sqrt((x / wide) ** 2 + (y / tall) ** 2)
    return _inside(distance * wide, soft)


def _spot(
    spot: np.ndarray, growth: np.ndarray, x: np.ndarray, y: np.ndarray, soft: np.float32
) -> np.ndarray:
    centre_x, centre_y, radius, elongation, contrast = _columns(spot)
    radius = radius * growth[:, None, None]
    shape = _ellipse(x - centre_x, y - centre_y, radius * elongation, radius, 2 * soft)
    return contrast * shape


def _acquire(
    clean: np.ndarray, scans: _Scans, chunk: slice, noise: np.random.Generator
) -> np.ndarray:
    """Grey scale and bias field of the scanner, then Rician noise; uint8."""
    exponent, sigma, bias = _columns(SCANNERS[scans.site[chunk]])
    x, y = _axes(clean.shape[1])
    along, across, wide, tall = _columns(scans.bias[chunk])
    field = 1 + bias * np.clip(along * x + across * y + 0.5 * (wide * x * x + tall * y * y), -2, 2)
    signal = clean**exponent * field
    real, imaginary = np.moveaxis(noise.standard_normal((*clean.shape, 2), dtype=np.float32), -1, 0)
    signal = np.hypot(signal + sigma * real, sigma * imaginary)
    return (np.clip(signal, 0, 1) * 235).astype(np.uint8)


__all__ = ["Phantom"]
