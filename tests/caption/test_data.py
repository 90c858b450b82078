"""Captions as ids, and the batches of an epoch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.caption import data
from dlkit.caption.config import by_arch
from dlkit.caption.data import EncodedCaptions, ImageBatches, normalize_caption
from dlkit.caption.layouts import CaptionedImage
from dlkit.classify import backbones
from dlkit.core.parallel.distributed import Process
from tests.caption.helpers import COLORS, configure, save_images, write_csv


@pytest.mark.parametrize(
    ("caption", "learned"),
    [
        ("A tri-colored dog 's ball , isn't red !", "a tri-colored dog s ball isn't red"),
        ("Two dogs : `` play ''", "two dogs play"),
        ("Ein Mädchen läuft.", "ein mädchen läuft"),
        ("Собака бежит по траве.", "собака бежит по траве"),
        ("एक कुत्ता दौड़ रहा है।", "एक कुत्ता दौड़ रहा है"),
        ("一只狗在草地上跑。", "一只狗在草地上跑"),
        ("...", ""),
    ],
)
def test_captions_are_learned_without_case_and_punctuation(caption: str, learned: str) -> None:
    assert normalize_caption(caption, keep_case=False) == learned
    assert normalize_caption(caption, keep_case=True) == caption


@pytest.mark.parametrize("tokenizer", ["words", "byte-bpe", "unigram"])
def test_captions_come_back_from_their_ids(
    photos: Path, encoder: Path, tmp_path: Path, tokenizer: str
) -> None:
    size = 60 if tokenizer == "unigram" else 300
    config = configure(tmp_path, photos, encoder, tokenizer=tokenizer, vocab_size=size)
    made = data.load_data(by_arch(config))
    assert (len(made.training), len(made.validation.samples)) == (16, 2)
    texts = [made.vocabulary.decode(ids) for ids in made.training.ids]
    assert texts[2:4] == ["a blue sky above green ground", "blue over green"]
    assert made.training.images == [n // 2 for n in range(16)]


def test_long_captions_and_mere_punctuation_are_skipped(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    save_images(tmp_path / "i", 2)
    rows = [["i/0.png", "one two three"], ["i/0.png", "..."], ["i/1.png", "one two"]]
    write_csv(tmp_path / "all.csv", ["path", "caption", "split"], [[*row, "train"] for row in rows])
    options = {"max_tokens": 2, "val_share": 0.0, "allow_skipped": 0.7}
    config = configure(tmp_path, tmp_path / "all.csv", encoder, **options)
    made = data.load_data(by_arch(config))
    assert (made.training.images, len(made.training)) == ([1], 1)
    assert made.ledgers[0].places["captions"] == {
        "caption of more than 2 tokens (--max-tokens)": [str(tmp_path / "i/0.png")],
        "caption of punctuation only": [str(tmp_path / "i/0.png")],
    }


def test_captions_whose_words_have_no_spaces_are_noticed(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_images(tmp_path / "i", 3)
    rows = [["i/0.png", "狗在跑"], ["i/1.png", "在跑狗"], ["i/2.png", "狗狗在跑。"]]
    write_csv(tmp_path / "all.csv", ["path", "caption", "split"], [[*row, "train"] for row in rows])
    for tokenizer, noticed in (("words", True), ("char", False)):
        config = configure(
            tmp_path, tmp_path / "all.csv", encoder, tokenizer=tokenizer, val_share=0
        )
        config = replace(config, vocab_size=40)
        made = data.load_data(by_arch(config))
        assert ("tokens are not in the vocabulary" in capsys.readouterr().err) is noticed
    assert [len(ids) for ids in made.training.ids] == [5, 5, 6]


@pytest.mark.parametrize("ranks", [1, 3])
def test_an_epoch_of_pictures_has_each_caption_once(
    photos: Path, encoder: Path, tmp_path: Path, ranks: int
) -> None:
    config = by_arch(configure(tmp_path, photos, encoder, batch_size=6))
    made = data.load_data(config)
    inputs = backbones.load(str(encoder))[0].preprocessing
    orders: list[list[str]] = []
    for epoch in (0, 1, 1):
        seen: list[str] = []
        for rank in range(ranks):
            process = Process(rank, ranks, torch.device("cpu"))
            pictures = ImageBatches(made.training, inputs, config, process, epoch, 0)
            for number in range(len(pictures)):
                pixels, target, _, owners = pictures[number]
                assert len(pixels) * 2 == len(target) == len(owners) <= 6
                for owner, ids in zip(owners.tolist(), target, strict=True):
                    upper = made.vocabulary.decode(ids[1:].tolist()).split()
                    color = upper[1] if upper[0] == "a" else upper[0]
                    assert tuple(pixels[owner, :, 0, 0].tolist()) == COLORS[color]
                    seen.append(made.vocabulary.decode(ids[1:].tolist()))
        orders.append(list(seen))
    assert orders[1] == orders[2] != orders[0]
    if ranks == 1:
        expected = [made.vocabulary.decode(ids) for ids in made.training.ids]
        assert sorted(seen) == sorted(expected)


def test_captions_of_some_images_leave() -> None:
    samples = [CaptionedImage(Path(name)) for name in "abc"]
    ids = [np.array([n]) for n in range(4)]
    left = EncodedCaptions(samples, [0, 1, 1, 2], ids).without({"b": "bad"})
    assert (left.paths, left.images, [int(i[0]) for i in left.ids]) == (["a", "c"], [0, 1], [0, 3])
