"""Reconstruction metrics: matching, closed forms, other libraries' figures, chance, coverage."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import yaml
from rebuilt_images import EVERY, game, smooth_images, with_images

from medleak.api import DataError, Reconstructions, ReconstructionTruth
from medleak.config.instantiate import build
from medleak.metrics import baselines
from medleak.metrics.image_matching import (
    assign,
    hits,
    match,
    squared_distances,
    ssim,
    standardised,
)
from medleak.metrics.reconstruction import MSE, PSNR, SSIM, Identified, Recovered, chance

CONF = Path(__file__).parents[2] / "conf" / "metric"
NAMES = ["psnr", "ssim", "mse", "identified", "recovered"]


def test_assignment_is_the_best_of_all_permutations():
    rng = np.random.default_rng(0)
    for _ in range(50):
        rebuilt, originals = rng.random((2, 3, 1, 2, 2))
        cost = squared_distances(originals, rebuilt)
        best = min(permutations(range(3)), key=lambda p: cost[range(3), p].sum())
        assert tuple(assign(rebuilt, originals)) == best


def test_one_good_image_is_counted_once():
    gallery = np.stack([np.full((1, 12, 12), v) for v in (0.0, 0.1, 0.9)])
    images = np.stack([gallery[0], gallery[0] + 0.02, gallery[0] + 0.04])[None]
    output = Reconstructions(images, np.array([3]), gallery, np.arange(3))
    matched = match(output, ReconstructionTruth(np.array([[0, 1, 2]])))
    assert (
        len(np.unique(matched.rebuilt[:, 0, 0, 0])) == 3
    )  # nearest would use the third image twice
    value = MSE()(output, ReconstructionTruth(np.array([[0, 1, 2]]))).value
    assert value == pytest.approx((0 + 0.08**2 + 0.86**2) / 3)


def test_squared_distances_equal_the_plain_loop():
    a, b = np.random.default_rng(0).random((2, 4, 1, 3, 3))
    want = [[((x - y) ** 2).mean() for y in b] for x in a]
    assert np.allclose(squared_distances(a, b), want)


@pytest.mark.parametrize("metric", EVERY, ids=repr)
def test_the_order_of_rebuilt_images_does_not_matter(metric):
    output, secret = game()
    rng = np.random.default_rng(1)
    noisy = output.images + 0.1 * rng.normal(size=output.images.shape)
    shuffled = noisy.copy()
    for t, n in enumerate(output.n_records):
        shuffled[t, :n] = noisy[t, rng.permutation(n)]
    assert metric(with_images(output, shuffled), secret) == metric(
        with_images(output, noisy), secret
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((6, 4, 1, 9, 9))}, "do not fit a gallery"),
        ({"n_records": np.full(6, 4)}, "observation 1: 3 originals, 4 records"),
        ({"n_records": np.array([4, 3])}, "6 observations, 2 counts"),
        ({"gallery": np.zeros((3, 1, 16, 16))}, "in a gallery of 3"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    output, secret = game()
    with pytest.raises(DataError, match=words):
        MSE()(Reconstructions(**(vars(output) | change)), secret)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_an_error_and_padding_is_not_read(bad):
    output, secret = game()
    images = output.images.copy()
    images[1, 3] = bad  # padding: observation 1 has three records
    assert MSE()(with_images(output, images), secret).value == 0
    images[1, 2, 0, 0, 0] = bad
    with pytest.raises(DataError, match="observation 1"):
        MSE()(with_images(output, images), secret)


def test_an_exact_reconstruction():
    output, secret = game()
    assert PSNR()(output, secret).value == pytest.approx(100)
    assert PSNR(cap=70.0)(output, secret).value == pytest.approx(70)
    assert SSIM()(output, secret).value == pytest.approx(1)
    assert MSE()(output, secret).value == 0
    for metric in (Identified(), Identified(standardise=False), Recovered()):
        found = metric(output, secret)
        assert found.value == 1
        assert found.high == 1
        assert 0.3 < found.low < 0.7  # six observations, whatever the number of images
        assert found.n == 21


def test_psnr_closed_form_and_mean_of_images():
    output, secret = game()
    assert PSNR()(with_images(output, output.images + 0.1), secret).value == pytest.approx(20)
    images = output.images + 0.1
    images[0] += 0.9
    share = 4 / 21
    want = (1 - share) * 20 + share * (-10 * np.log10(1.0))
    assert PSNR()(with_images(output, images), secret).value == pytest.approx(want, abs=1e-6)


def test_failures_count():
    output, secret = game()
    images = output.images.copy()
    images[0] = 0.0
    broken = with_images(output, images)
    for metric in (Recovered(), Identified()):
        assert metric(broken, secret).value == pytest.approx(17 / 21, abs=0.02)
    assert PSNR()(broken, secret).value < 100 * 17 / 21 + 15 * 4 / 21


def test_records_of_a_patient_are_averaged():
    gallery = smooth_images(8)
    patients = np.array(["a", "a", "a", "b", "c", "d", "e", "f"])
    images = gallery[[0, 1, 2, 3]][:, None].copy()
    images[3] = 1 - images[3]
    output = Reconstructions(images, np.ones(4, int), gallery, patients)
    found = Recovered()(output, ReconstructionTruth(np.arange(4)[:, None]))
    assert found.value == pytest.approx(0.5)
    assert found.n == 2


def test_ssim_equals_monai():
    monai = pytest.importorskip("monai.metrics")
    import torch

    rng = np.random.default_rng(0)
    for channels, size in ((1, 28), (3, 17)):
        a = rng.random((5, channels, size, size))
        b = np.clip(a + rng.normal(0, 0.2, a.shape) * rng.random((5, 1, 1, 1)), 0, 1)
        b[4] = 0.5
        measure = monai.SSIMMetric(spatial_dims=2, data_range=1.0, reduction="none")
        want = measure(torch.tensor(a), torch.tensor(b)).numpy().ravel()
        assert np.allclose(ssim(a, b), want, atol=2e-5)


def test_ssim_equals_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    a = rng.random((5, 2, 28, 20))
    b = np.clip(a + rng.normal(0, 0.2, a.shape), 0, 1)
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0)
    want = [
        metrics.structural_similarity(x, y, channel_axis=0, **options)
        for x, y in zip(a, b, strict=True)
    ]
    assert np.allclose(ssim(a, b), want, atol=1e-12)


def test_images_smaller_than_the_window_are_not_measured():
    small = np.random.default_rng(0).random((4, 1, 8, 30))
    output = Reconstructions(small[:, None], np.ones(4, int), small, np.arange(4))
    secret = ReconstructionTruth(np.arange(4)[:, None])
    for metric in (SSIM(), Recovered()):
        found = metric(output, secret)
        assert found.value is None
        assert "smaller than the window" in found.flag
        assert metric.lower_bound(output, secret) is None
        assert metric.excess(output, output, secret).value is None
    assert Recovered(measure="psnr", threshold=30.0)(output, secret).value == 1


@pytest.mark.parametrize("metric", EVERY, ids=repr)
def test_nothing_observed_is_not_measured(metric):
    output, _ = game()
    empty = Reconstructions(output.images[:0], np.zeros(0, int), output.gallery, output.patients)
    found = metric(empty, ReconstructionTruth(np.zeros((0, 4), int)))
    assert (found.value, found.n, found.flag) == (None, 0, "no observations")


def test_an_empty_observation_changes_nothing():
    output, secret = game()
    images = output.images + 0.05 * np.random.default_rng(0).normal(size=output.images.shape)
    longer = Reconstructions(
        np.concatenate([images[:2], images[:1], images[2:]]),
        np.insert(output.n_records, 2, 0),
        output.gallery,
        output.patients,
    )
    truth = ReconstructionTruth(np.insert(secret.positions, 2, -1, axis=0))
    for metric in EVERY:
        assert metric(longer, truth) == metric(with_images(output, images), secret)


def test_one_observation_has_no_interval_of_a_mean_and_a_wide_one_of_a_share():
    output, secret = game(1)
    images = output.images + 0.05 * np.random.default_rng(0).normal(size=output.images.shape)
    found = PSNR()(with_images(output, images), secret)
    assert found.value is not None
    assert (found.low, found.high) == (None, None)
    assert found.flag == "1 observation"
    assert PSNR().lower_bound(with_images(output, images), secret) is None
    share = Identified()(output, secret)
    assert share.value == 1
    assert share.low < 0.06


def test_brightness_and_contrast_name_nobody():
    output, secret = game(12, 2)
    faint = with_images(output, 0.45 + 0.1 * output.images)
    assert Identified()(faint, secret).value == 1
    assert Identified(standardise=False)(faint, secret).value < 0.6


def test_a_patient_is_as_near_as_their_nearest_image():
    gallery = smooth_images(4)
    gallery[0] = 1 - gallery[2]  # the same patient's other image is the farthest of all
    patients = np.array(["b", "a", "b", "c"])
    image = standardised(gallery[2:3] + 0.001)
    assert hits(image, np.array(["b"]), standardised(gallery), patients, 1)[0] == 1
    assert hits(image, np.array(["a"]), standardised(gallery), patients, 1)[0] == 0
    assert hits(image, np.array(["a"]), standardised(gallery), patients, 3)[0] == 1


def test_ties_count_by_chance():
    gallery = np.concatenate([smooth_images(3), smooth_images(3)[:1]])
    patients = np.arange(4)
    assert hits(gallery[:1], np.array([0]), gallery, patients, 1)[0] == 0.5  # 3 looks the same
    assert hits(gallery[:1], np.array([0]), gallery, patients, 2)[0] == 1
    constant = standardised(np.full((1, 1, 16, 16), 0.3))
    for k in (1, 3):
        value = hits(constant, np.array([2]), standardised(gallery), patients, k)[0]
        assert value == pytest.approx(k / 4) == chance(patients, k)


def test_a_larger_k_never_lowers_the_share_and_all_is_all():
    output, secret = game(10, 4, n_gallery=50)
    rng = np.random.default_rng(0)
    noisy = with_images(output, output.images + 0.4 * rng.normal(size=output.images.shape))
    shares = [Identified(k=k)(noisy, secret).value for k in (1, 2, 5, 20, 50)]
    assert shares == sorted(shares)
    assert shares[0] < shares[2]
    assert shares[-1] == 1


def test_without_information_identification_is_chance():
    output, secret = game(120, 1, n_gallery=150)
    auxiliary = smooth_images(80, seed=9)
    low = []
    for blind in (
        baselines.mean_image(output, auxiliary),
        baselines.typical_image(output, auxiliary),
        baselines.random_images(output, auxiliary, np.random.default_rng(0)),
        baselines.other_observations(output),
    ):
        found = Identified()(blind, secret)
        low.append(found.value)
        assert found.low <= chance(output.patients) <= found.high
        assert found.value < 0.05
    assert Identified()(output, secret).low > 0.9


def test_naming_many_for_a_batch_pays_at_most_their_number():
    rng = np.random.default_rng(0)
    gallery = smooth_images(40)
    values = []
    for _ in range(150):
        positions = rng.choice(40, 5, replace=False)[None]
        images = gallery[rng.choice(40, 5, replace=False)][None]
        output = Reconstructions(images, np.array([5]), gallery, np.arange(40))
        values.append(Identified()(output, ReconstructionTruth(positions)).value)
    assert 2 / 40 < np.mean(values) <= 5 / 40 + 3 * np.std(values) / np.sqrt(150)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_yaml_builds_and_measures(name):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert config["name"] == name
    metric = build(config)
    assert metric.goal == "reconstruction"
    assert metric.invalid_parameters() == []
    assert repr(eval(repr(metric), vars(__import__(type(metric).__module__, fromlist=["x"])))) == (
        repr(metric)
    )
    output, secret = game(12)
    noisy = output.images + 0.02 * np.random.default_rng(0).normal(size=output.images.shape)
    found = metric(with_images(output, noisy), secret)
    assert found.low <= found.value <= found.high
    assert found.flag == ""


def test_settings_that_mean_nothing_are_faults():
    assert "did you mean 'ssim'" in Recovered(measure="sim").invalid_parameters()[0]
    assert Identified(k=0).invalid_parameters()
    assert PSNR(cap=float("inf")).invalid_parameters()
