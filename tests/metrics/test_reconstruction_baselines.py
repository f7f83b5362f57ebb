"""What is rebuilt without the message, and the excess over it."""

import numpy as np
import pytest
from rebuilt_images import EVERY, game, smooth_images, with_images

from medleak.api import DataError
from medleak.metrics import baselines
from medleak.metrics.image_matching import squared_distances, ssim
from medleak.metrics.reconstruction import Recovered


def test_mean_image_by_label():
    output, _ = game(2, 2)
    auxiliary = np.stack([np.full((1, 16, 16), v) for v in (0.0, 0.2, 0.8)])
    y = np.array([0, 0, 1])
    found = baselines.mean_image(output, auxiliary, y=y, labels=[np.array([0, 1]), np.array([7])])
    assert found.images[0, :, 0, 0, 0] == pytest.approx([0.1, 0.8])
    assert found.images[1, 0, 0, 0, 0] == pytest.approx(1 / 3)
    plain = baselines.mean_image(output, auxiliary)
    assert plain.images == pytest.approx(1 / 3)


def test_the_typical_image_has_the_least_error_to_the_others():
    output, _ = game(2, 2)
    auxiliary = smooth_images(9, seed=3)
    best = min(auxiliary, key=lambda x: ((auxiliary - x) ** 2).mean())
    assert (baselines.typical_image(output, auxiliary).images == best).all()


def test_other_observations_never_return_their_own():
    for n_trials, batch in ((2, 3), (5, 4)):
        output, secret = game(n_trials, batch)
        shifted = baselines.other_observations(output)
        for t, n in enumerate(output.n_records):
            own = output.gallery[secret.positions[t, :n]]
            assert squared_distances(shifted.images[t, :n], own).min() > 1e-4
            elsewhere = output.gallery[secret.positions[secret.positions >= 0]]
            assert squared_distances(shifted.images[t, :n], elsewhere).min(axis=1).max() < 1e-12
    with pytest.raises(DataError, match="at least 2"):
        baselines.other_observations(game(1)[0])


@pytest.mark.parametrize("control", [baselines.mean_image, baselines.typical_image])
def test_a_baseline_without_auxiliary_images_is_an_error(control):
    with pytest.raises(DataError, match="no auxiliary image"):
        control(game(2)[0], np.zeros((0, 1, 16, 16)))


def test_reach_is_what_the_best_auxiliary_image_scores():
    auxiliary, gallery = smooth_images(12, seed=1), smooth_images(5, seed=2)
    want = [max(ssim(a[None], g[None])[0] for a in auxiliary) for g in gallery]
    assert baselines.reach(auxiliary, gallery) == pytest.approx(want)
    want = [max(-10 * np.log10(((a - g) ** 2).mean()) for a in auxiliary) for g in gallery]
    assert baselines.reach(auxiliary, gallery, measure="psnr") == pytest.approx(want)


def test_recovered_needs_more_than_the_best_image_of_somebody_else():
    output, secret = game(20, 1, n_gallery=40)
    auxiliary = smooth_images(300, seed=5)
    far = baselines.reach(auxiliary, output.gallery)
    metric = Recovered(threshold=float(far.max()) + 1e-9)
    oracle = [min(auxiliary, key=lambda a: ((a - g) ** 2).mean()) for g in output.gallery]
    cheat = np.stack([oracle[p] for p in secret.positions[:, 0]])[:, None]
    assert metric(with_images(output, cheat), secret).value == 0
    assert metric(output, secret).value == 1


@pytest.mark.parametrize("metric", EVERY, ids=repr)
def test_excess_over_itself_is_nothing_and_over_the_mean_image_is_what_is_known(metric):
    output, secret = game(16, 2)
    noisy = output.images + 0.02 * np.random.default_rng(0).normal(size=output.images.shape)
    output = with_images(output, noisy)
    itself = metric.excess(output, output, secret)
    assert itself.value == 0
    assert itself.low <= 0 <= itself.high
    mean = baselines.mean_image(output, smooth_images(50, seed=4))
    gain = metric.excess(output, mean, secret)
    assert gain.value == pytest.approx(metric(output, secret).value - metric(mean, secret).value)
    assert gain.low < gain.value < gain.high or gain.high == gain.value == 1
    if metric.higher_is_leakier:
        assert gain.low > 0
    else:
        assert gain.high < 0
