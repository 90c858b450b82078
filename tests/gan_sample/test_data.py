"""Folders of training pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.gan_sample.data import (
    Shape,
    SquareImages,
    choose_shape,
    from_uint8,
    list_pictures,
    to_uint8,
)
from dlkit.gan_sample.train import train
from tests.gan_sample.helpers import SIDE, draw, settings


def test_mixed_sizes_are_center_cropped_and_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [(16, 16)] * 9 + [(40, 16), (16, 30), (64, 64)]
    for seed, size in enumerate(sizes):
        draw(tmp_path / f"{seed:02}.png", 0, seed, size)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_text("no picture")
    listed = list_pictures(tmp_path, "train")
    shape = choose_shape(listed.paths, None, "auto")
    assert shape == Shape(16, 1)
    pictures = SquareImages(listed, shape)
    with pytest.raises(DlkitError, match="1 of 13 pictures of 'train' cannot be used"):
        pictures.report(tmp_path, 0.05)
    err = capsys.readouterr().err
    assert "ignored 1 files of other kinds (.txt)" in err
    assert err.count("pictures center-cropped, since they are not square: 2") == 1
    assert "train: skipped 1 of 13 pictures (8 %): 1 unreadable picture" in err
    assert pictures.pixels.shape == (12, 1, 16, 16)


def test_the_middle_is_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = (250, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    kept, cut = Shape(16, 3).read(tmp_path / "wide.png")
    assert cut
    assert kept.float().mean(dim=(1, 2)).tolist() == [250, 0, 0]


def test_gray_among_color_is_color_unless_gray_is_asked_for(tmp_path: Path) -> None:
    for seed in range(10):
        draw(tmp_path / f"{seed}.png", 0, seed)
    red = np.full((SIDE, SIDE, 3), (200, 0, 0), np.uint8)
    Image.fromarray(red).save(tmp_path / "red.png")
    listed = list_pictures(tmp_path, "train")
    assert choose_shape(listed.paths, None, "auto").channels == 3
    shape = choose_shape(listed.paths, 32, "gray")
    assert shape == Shape(32, 1)
    kept, _ = shape.read(tmp_path / "red.png")
    assert set(kept.flatten().tolist()) == {round(0.299 * 200)}
    pictures = SquareImages(listed, Shape(16, 3))
    assert torch.equal(pictures.pixels[0, 0], pictures.pixels[0, 2])


def test_splits_and_classes_are_folders(bars: Path, tmp_path: Path) -> None:
    assert len(list_pictures(bars, "train").paths) == 60
    assert len(list_pictures(bars / "train", "test").paths) == 60  # no splits: all there is
    listed = list_pictures(bars, "train", classes=True)
    assert listed.names == ["across", "upright"]
    assert listed.labels == [0] * 30 + [1] * 30
    turned = list_pictures(bars, "train", True, ["upright", "more", "across"])
    assert turned.labels == [0] * 30 + [2] * 30
    with pytest.raises(DlkitError, match="no split 'test'; choose from train"):
        list_pictures(bars, "test")
    with pytest.raises(DlkitError, match="no class 'upright'"):
        list_pictures(bars, "train", True, ["across"])
    with pytest.raises(DlkitError, match="two or more"):
        list_pictures(bars / "train" / "across", "train", classes=True)
    with pytest.raises(DlkitError, match="no pictures"):
        list_pictures(tmp_path, "train")
    with pytest.raises(DlkitError, match="no such folder"):
        list_pictures(tmp_path / "none", "train")
    with pytest.raises(DlkitError, match="trainA and trainB"):
        train(settings(bars, tmp_path / "run", "cyclegan"))


def test_an_epoch_sees_each_picture_as_often(bars: Path) -> None:
    listed = list_pictures(bars, "train")
    pictures = SquareImages(listed, Shape(SIDE, 1))
    pictures.length = 150
    assert len(pictures) == 150
    pixels, _ = pictures.__getitems__([3, 63, 123])
    assert torch.equal(pixels[0], pixels[2])
    held_out, rest = pictures.split_off(0.1, seed=0)
    assert (len(held_out), len(rest)) == (6, 54)
    again = pictures.split_off(0.1, seed=0)[0]
    assert torch.equal(held_out.pixels, again.pixels)


def test_pixels_survive_the_way_to_the_network_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = from_uint8(pixels)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    assert torch.equal(to_uint8(images), pixels)
