"""Captioners in use: searching, drawing, looking, printing and evaluating."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from dlkit.caption import infer
from dlkit.caption.attention import attention
from dlkit.caption.draw import wrapped
from dlkit.caption.infer import Captions, Model, Search, caption, load, written
from dlkit.caption.model import Captioner, build
from dlkit.core import checkpoint
from dlkit.core.checkpoint import Header
from dlkit.core.errors import DlkitError
from dlkit.core.progress import Failure
from dlkit.core.sampling import Sampling
from dlkit.tokenize import Vocabulary
from tests.conftest import run

SIDE = 64
ARCHITECTURES = ("nic", "attend", "transformer", "patches")
COLOURS = {"red": (220, 40, 30), "blue": (40, 60, 230), "green": (30, 160, 60)}
PREPROCESSING = {
    "image_size": SIDE, "fit": "squash", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
}  # fmt: skip
BACKBONE = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": SIDE, "width": 0.0625},
    "preprocessing": PREPROCESSING,
}


# ---- ten pictures, and captioners that know them by heart ----------------------------------------


def pictures() -> list[tuple[Image.Image, str]]:
    """Ten pictures of a disc or a box, each with its caption."""
    made = []
    for number in range(10):
        name = list(COLOURS)[number % 3]
        shape, side = ("disc", "box")[number // 3 % 2], ("left", "right")[number // 6]
        image = Image.new("RGB", (SIDE, SIDE), (235, 235, 225))
        canvas = ImageDraw.Draw(image)
        x = 4 + 30 * (side == "right")
        corners = (x, 14, x + 25, 39 + number)
        draw = canvas.ellipse if shape == "disc" else canvas.rectangle
        draw(corners, fill=COLOURS[name])
        made.append((image, f"{number + 1} times a {name} {shape} on the {side}"))
    return made


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten pictures in Flickr8k's layout, each in all splits, five captions an image."""
    root = tmp_path_factory.mktemp("captions") / "photos"
    (root / "Images").mkdir(parents=True)
    names, rows = [], []
    for number, (image, sentence) in enumerate(pictures()):
        names.append(f"{number}.png")
        image.save(root / "Images" / names[-1])
        rows += [[names[-1], sentence], [names[-1], f"This is {sentence} ."]]
    with (root / "captions.txt").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "caption"], *rows])
    for split in ("train", "dev", "test"):
        text = "".join(f"{name}\n" for name in names)
        (root / f"Flickr_8k.{split}Images.txt").write_text(text)
    return root


def network_of(arch: str, vocabulary: Vocabulary) -> tuple[str, dict[str, Any]]:
    """The name and settings of a tiny network."""
    common = {**vocabulary.network_settings(), "image_size": SIDE, "width": 32, "dropout": 0.0}
    if arch == "patches":
        return "transformer", {**common, "patch": 16, "layers": 2, "encoder_layers": 1, "heads": 2}
    with_backbone = {**common, "backbone": BACKBONE, "grid": 4}
    if arch == "transformer":
        return arch, {**with_backbone, "layers": 2, "encoder_layers": 1, "heads": 2}
    return arch, with_backbone


@cache
def vocabulary() -> Vocabulary:
    return Vocabulary.learn(2 * [text for _, text in pictures()], "words", 25)


def untrained(arch: str, seed: int = 0, scale: float = 1.0) -> Model:
    """A model with random weights; `scale` makes the decisions of its output clearer."""
    torch.manual_seed(seed)
    name, settings = network_of(arch, vocabulary())
    network = build(name, **settings).eval().requires_grad_(False)
    for parameter_name, parameter in network.named_parameters():
        if parameter_name == "embedding.weight":
            parameter *= scale
    return Model(arch, network, vocabulary())


def pixels() -> Tensor:
    arrays = [np.array(image) for image, _ in pictures()]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def learn(model: Model) -> None:
    """Train the decoder until it knows the ten captions."""
    network = model.network
    if network.encoder is not None:  # the batch norms see the pictures
        network.encoder.train()
        for _ in range(20):
            model.memory(pixels())
        network.encoder.eval()
    memory = model.memory(pixels()).clone()
    targets = model.vocabulary.encode_targets([text for _, text in pictures()])
    longest = max(map(len, targets))
    target = torch.tensor([[*ids, *[network.pad] * (longest - len(ids))] for ids in targets])
    trained = [p for n, p in network.named_parameters() if not n.startswith("encoder.")]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    for _ in range(400):
        logits = network(memory, target[:, :-1]).logits
        loss = F.cross_entropy(logits.transpose(1, 2), target[:, 1:], ignore_index=network.pad)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if loss.item() < 0.01:
            break
    network.requires_grad_(False)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a captioner that has learnt the ten pictures, by its architecture."""
    folder = tmp_path_factory.mktemp("taught")

    @cache
    def made(arch: str) -> Path:
        model = untrained(arch)
        learn(model)
        path = folder / f"{arch}.safetensors"
        name, network = network_of(arch, vocabulary())
        settings = {"network": network, "tokenizer": vocabulary().to_settings()}
        checkpoint.save(path, model.network.state_dict(), Header("caption", name, settings, []))
        return path

    return made


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_was_learnt_by_heart_is_said_word_for_word(
    arch: str, photos: Path, taught: Callable[[str], Path]
) -> None:
    done = run("caption", photos / "Images", "-m", taught(arch), "--device", "cpu")
    assert done.code == 0, done.err
    paths = sorted(photos.glob("Images/*.png"))
    expected = [f"{path}\t{pictures()[int(path.stem)][1]}" for path in paths]
    assert done.out.splitlines() == expected
