"""Color preservation."""

import numpy as np
import torch

from dlkit.style_transfer import color
from tests.style_transfer.helpers import smooth


def test_matched_colors_have_the_photographs_mean_and_covariance() -> None:
    style, photo = smooth(40, 60, 1), smooth(30, 50, 2)
    found = color.match_colors(style, photo).flatten(1).numpy()
    wanted = photo.flatten(1).numpy()
    np.testing.assert_allclose(found.mean(axis=1), wanted.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(np.cov(found, ddof=0), np.cov(wanted, ddof=0), atol=1e-5)
    # The nearest such change of colors: none where they are those of the photograph.
    torch.testing.assert_close(color.match_colors(photo, photo), photo, atol=1e-4, rtol=0)


def test_the_colors_of_a_gray_style_do_not_blow_up() -> None:
    style = color.to_gray(smooth(40, 60, 1)) + 0.002 * torch.randn(3, 40, 60)
    found = color.match_colors(style, smooth(30, 50, 2))
    chroma = found - color.luminance(found)
    assert chroma.std() < 0.15


def test_a_gray_style_has_the_photographs_brightness_and_contrast() -> None:
    style, photo = smooth(40, 60, 1) * 0.4, smooth(30, 50, 2)
    found, wanted = color.match_luminance(style, photo), color.luminance(photo)
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found.mean(), wanted.mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0].std(), wanted.std(), atol=1e-4, rtol=0)


def test_the_photographs_chroma_under_the_paintings_brightness() -> None:
    photo, painting = smooth(40, 60, 1), smooth(40, 60, 2)
    found = color.keep_chroma(photo, painting)
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(color.luminance(found), color.luminance(painting))
    chroma, wanted = found - color.luminance(found), photo - color.luminance(photo)
    # Less of it where the color would not exist, but never another hue.
    share = (chroma * wanted).sum(dim=0) / wanted.square().sum(dim=0)
    torch.testing.assert_close(chroma, wanted * share, atol=1e-5, rtol=0)
    assert share.max() <= 1.0001
    assert (share > 0.999).float().mean() > 0.5
    torch.testing.assert_close(color.keep_chroma(photo, photo), photo)
