from __future__ import annotations

import numpy as np
import pytest

from reproduce.data.images.whitening import EPS, standardisation, whitening


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """4,000 correlated images (3, 4, 4)."""
    draw = np.random.default_rng(0)
    mixed = draw.normal(size=(4000, 48)) @ (draw.normal(size=(48, 48)) / 7) + 0.5 * draw.normal(size=(4000, 1))
    return np.clip(128 + 40 * mixed, 0, 255).astype(np.uint8).reshape(-1, 3, 4, 4)


def test_whitened_images_have_covariance_one(images: np.ndarray) -> None:
    mean, scale = whitening(images)
    x = (images.reshape(4000, 48) / 255 - mean) @ scale
    variances = np.linalg.eigvalsh(np.cov(images.reshape(4000, 48) / 255, rowvar=False))[::-1]
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(x, rowvar=False), np.diag(variances / (variances + EPS)), atol=1e-4)


def test_eps_keeps_what_hardly_varies_small(images: np.ndarray) -> None:
    flat = images.copy()
    flat[:, 2] = 7  # 16 axes without variance
    mean, scale = whitening(flat)
    x = (flat.reshape(4000, 48) / 255 - mean) @ scale
    assert np.isfinite(scale).all()
    assert np.abs(x[:, 32:]).max() < 1e-2
    assert x[:, :32].std(0).min() > 0.9


def test_standardised_channels_have_mean_zero_and_deviation_one(images: np.ndarray) -> None:
    images = images // np.array([1, 2, 3], np.uint8)[:, None, None]
    mean, scale = standardisation(images)
    x = (images / 255 - mean[:, None, None]) * scale[:, None, None]
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 2, 3)), rtol=1e-6)


def test_a_channel_of_one_colour_becomes_zero(images: np.ndarray) -> None:
    flat = images.copy()
    flat[:, 1] = 3
    mean, scale = standardisation(flat)
    assert np.isfinite(scale).all()
    np.testing.assert_allclose(flat[:, 1] / 255, mean[1], atol=1e-7)


def test_axes_of_full_rank_need_enough_images(images: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="more images than an image has values"):
        whitening(images[:48])
