"""Images that show the same, at another size, compression or place in the list."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.data.similar import (
    Pair,
    describe,
    groups_of,
    middle_square,
    pairs_between,
    similar_pairs,
)
from tests.data.helpers import paint


def pictures(folder: Path, count: int) -> list[Image.Image]:
    return [Image.open(paint(folder / f"{seed}.png", seed, (96, 72))) for seed in range(count)]


def found(images: list[Image.Image]) -> set[tuple[int, int]]:
    pairs = similar_pairs(np.array([describe(image) for image in images]))
    return {(pair.first, pair.second) for pair in pairs}


def test_another_size_and_compression_are_found_and_others_are_not(tmp_path: Path) -> None:
    images = pictures(tmp_path, 20)
    images[3].convert("RGB").save(tmp_path / "again.jpg", quality=60)
    images += [Image.open(tmp_path / "again.jpg"), images[7].resize((48, 36))]
    assert found(images) == {(3, 20), (7, 21)}


def test_another_set_has_images_at_another_size_and_cut_to_their_middle(tmp_path: Path) -> None:
    ours = pictures(tmp_path, 12)
    (tmp_path / "theirs").mkdir()
    others = [paint(tmp_path / "theirs" / f"{seed}.png", seed, (96, 72)) for seed in range(50, 54)]
    twins = [ours[4].resize((64, 48)), ours[9].crop((12, 0, 84, 72)).resize((50, 50))]
    theirs: list[Image.Image] = [*map(Image.open, others), *twins]
    sets = [
        np.array([describe(shown(image)) for image in images], np.float16)
        for images in (ours, theirs)
        for shown in (Image.Image.copy, middle_square)
    ]
    found = {(pair.first, pair.second) for pair in pairs_between(*sets)}
    assert found == {(4, 4), (9, 5)}
    # A copy of all of the set changes nothing about its limit.
    whole = pairs_between(sets[0], sets[1], sets[0], sets[1])
    assert {(pair.first, pair.second) for pair in whole} == {(k, k) for k in range(12)}


def test_images_without_contrast_are_similar_to_none() -> None:
    plain = [Image.new("RGB", (20, 20), shade) for shade in ("white", "white", "black")]
    assert found(plain) == set()


def test_where_all_images_are_alike_less_counts_as_similar(tmp_path: Path) -> None:
    base = np.asarray(Image.open(paint(tmp_path / "a.png", 1)), np.float32)
    noise = np.random.default_rng(0)
    alike = [base + 12 * noise.standard_normal(base.shape) for _ in range(12)]
    images = [Image.fromarray(values.clip(0, 255).astype(np.uint8)) for values in alike]
    assert found([*images, images[4].resize((128, 96))]) == {(4, 12)}


def test_pairs_that_hang_together_are_a_group() -> None:
    pairs = [Pair(0, 4, 0.0), Pair(4, 2, 0.1), Pair(1, 3, 0.0)]
    assert groups_of(pairs) == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_have_no_pairs(count: int) -> None:
    assert similar_pairs(np.zeros((count, 768), np.float32)) == []
