"""nnU-Net's normalisations against numbers worked by hand, scipy and nnU-Net itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mednext_engine.errors import InputError, ModelError, UnsupportedModelError
from mednext_engine.inference.normalization import fill_holes, normalize

CT = {"mean": 100.0, "std": 50.0, "percentile_00_5": -200.0, "percentile_99_5": 400.0}


def normalized(values, scheme, intensity=None, mask=None) -> np.ndarray:
    volume = torch.tensor(values, dtype=torch.float32).reshape(1, 1, -1)
    inside = None if mask is None else torch.tensor(mask).reshape(1, 1, -1)
    normalize(volume, scheme, intensity or {}, inside)
    return volume.numpy().ravel()


def test_zscore_by_hand() -> None:
    # mean 3, variance (4 + 0 + 4) / 3
    found = normalized([1, 3, 5], "ZScoreNormalization")
    np.testing.assert_allclose(found, np.array([-2, 0, 2]) / np.sqrt(8 / 3), rtol=1e-6)


def test_zscore_within_a_mask_leaves_the_rest() -> None:
    found = normalized([0, 2, 4, 0], "ZScoreNormalization", mask=[False, True, True, False])
    np.testing.assert_allclose(found, [0, -1, 1, 0])


def test_zscore_of_a_constant_is_zero() -> None:
    np.testing.assert_array_equal(normalized([7, 7], "ZScoreNormalization"), [0, 0])


def test_ct_by_hand() -> None:
    found = normalized([-1000, 100, 150, 3000], "CTNormalization", CT)
    np.testing.assert_allclose(found, [-6, 0, 1, 6])


def test_the_other_schemes_by_hand() -> None:
    np.testing.assert_allclose(normalized([2, 4, 6], "RescaleTo01Normalization"), [0, 0.5, 1])
    np.testing.assert_allclose(normalized([0, 51, 255], "RGBTo01Normalization"), [0, 0.2, 1])
    np.testing.assert_allclose(normalized([2, 4, 6], "NoNormalization"), [2, 4, 6])


def test_what_cannot_be_normalised_is_said() -> None:
    with pytest.raises(InputError, match="-1 to 300"):
        normalized([-1, 300], "RGBTo01Normalization")
    with pytest.raises(ModelError, match="percentile_00_5"):
        normalized([1, 2], "CTNormalization", {"mean": 1.0})
    with pytest.raises(UnsupportedModelError, match="MyNormalization"):
        normalized([1, 2], "MyNormalization")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("shape", [(20, 21, 22), (2, 30, 30), (1, 5, 40)])
def test_holes_are_scipys(share: float, shape: tuple) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = np.random.default_rng(0).random(shape) < share
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "scheme",
    [
        "ZScoreNormalization",
        "CTNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
        "NoNormalization",
    ],
)
def test_equals_nnunet(scheme: str, masked: bool) -> None:
    module = "nnunetv2.preprocessing.normalization.default_normalization_schemes"
    theirs = getattr(pytest.importorskip(module), scheme)
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (10, 11, 12)).astype(np.float32)
    inside = rng.random(image.shape) < 0.6
    seg = np.where(inside, 0, -1)
    expected = theirs(use_mask_for_norm=masked, intensityproperties=CT).run(image.copy(), seg)
    volume = torch.from_numpy(image.copy())
    normalize(volume, scheme, CT, torch.from_numpy(inside) if masked else None)
    np.testing.assert_allclose(volume, expected, atol=1e-4)
