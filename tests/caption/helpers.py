"""Networks, images and captions that several tests of caption share."""

import csv
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.caption.config import CaptionTrainConfig
from dlkit.caption.infer import Predictor
from dlkit.caption.model import build
from dlkit.classify import backbones
from dlkit.core.parallel.distributed import Process
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import DecoderVocabulary

V, W, SIDE = 23, 16, 64
PAD, BOS = 0, 1
SPECIAL = {"vocab_size": V, "pad": PAD, "bos": BOS, "eos": 2, "unk": 3, "image_size": SIDE}
PREPROCESSING = {
    "image_size": 96, "fit": "crop", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
}  # fmt: skip
BACKBONE = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": 96, "width_multiplier": 0.125},
    "preprocessing": PREPROCESSING,
}
CLOSE = 1e-5
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "nic": ("nic", {"layers": 2, "backbone": BACKBONE}),
    "attend": ("attend", {"backbone": BACKBONE}),
    "attend-hard": ("attend", {"hard_attention": True, "backbone": BACKBONE}),
    "transformer": ("transformer", {"layers": 3, "backbone": BACKBONE, "grid": 3}),
    "transformer-patch": ("transformer", {"layers": 1, "patch": 16, "pre_norm": True, "heads": 2}),
}


def loud_decoder(network: nn.Module) -> Any:
    """With larger weights than at the start: else all logits are about alike."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("encoder."):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


def small(name: str, **settings: Any) -> Any:
    arch, own = NETWORKS[name]
    return loud_decoder(build(arch, **{**SPECIAL, "width": W, "dropout": 0.2, **own, **settings}))


def close(a: Tensor, b: Tensor, tolerance: float = CLOSE) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE)


def targets(count: int = 4, tokens: int = 6) -> Tensor:
    ids = torch.randint(4, V, (count, tokens))
    ids[:, 0] = BOS
    return ids


def start_decoding(network: Any, memory: Tensor) -> Any:
    return network.start(memory, torch.full((len(memory),), memory.shape[1]), 8)


def lstm(x: Tensor, h: Tensor, c: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One step by the equations, in torch's order of gates."""
    w, u, b = weights
    i, f, g, o = (x @ w.T + h @ u.T + b).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


SMALL = 32
SINGLE_PROCESS = Process(0, 1, torch.device("cpu"))
COLORS = {"red": (220, 40, 30), "blue": (40, 60, 230), "green": (30, 160, 60)}
NAMES = list(COLORS)


def picture(number: int) -> Image.Image:
    """A color above another one."""
    image = Image.new("RGB", (SMALL, SMALL), COLORS[NAMES[number % 3]])
    image.paste(COLORS[NAMES[(number + 1 + number // 3) % 3]], (0, SMALL // 2, SMALL, SMALL))
    return image


def sentences(number: int) -> list[str]:
    upper, lower = NAMES[number % 3], NAMES[(number + 1 + number // 3) % 3]
    return [f"A {upper} sky , above {lower} ground .", f"{upper} over {lower}"]


def save_images(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        picture(number).save(folder / name)
    return names


def write_csv(file: Path, header: list[str], rows: list[list[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([header, *rows])


def write_photos(root: Path) -> Path:
    """Twelve pictures in Flickr8k's layout, eight of them to train on."""
    names = save_images(root / "Images", 12)
    rows = [[name, text] for number, name in enumerate(names) for text in sentences(number)]
    write_csv(root / "captions.txt", ["image", "caption"], rows)
    for split, part in (("train", names[:8]), ("dev", names[8:10]), ("test", names[10:])):
        (root / f"Flickr_8k.{split}Images.txt").write_text("".join(f"{n}\n" for n in part))
    return root


def classifier(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    inputs = {
        "image_size": SMALL, "fit": "crop", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
    }  # fmt: skip
    network: dict[str, Any] = {"num_labels": 2, "image_size": SMALL, "width_multiplier": 0.1}
    configure = {"arch": "resnet18", "network": network, "preprocessing": inputs}
    from dlkit.classify.model import build as classifier_of

    built = classifier_of("resnet18", **network)
    described = {"network": network, "preprocessing": inputs, "loss": "cross-entropy"}
    header = Header("classify", "resnet18", described, ["a", "b"])
    checkpoint.save(path, built.state_dict(), header)
    assert backbones.load(str(path))[1] == configure
    return path


def configure(out: Path, photos: Path, encoder: Path, **changed: Any) -> CaptionTrainConfig:
    known: dict[str, Any] = {
        "data": photos, "out": out, "backbone": str(encoder), "grid": 2, "width": 16, "epochs": 2,
        "batch_size": 4, "dropout": 0.0, "workers": 0, "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return CaptionTrainConfig(**{**known, **changed})


def weights_of(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path, "caption")[1]


LEARNERS = ("nic", "attend", "transformer", "patches")
SQUASHED = {
    "image_size": SIDE, "fit": "squash", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
}  # fmt: skip
NARROW_BACKBONE = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": SIDE, "width_multiplier": 0.0625},
    "preprocessing": SQUASHED,
}


def pictures() -> list[tuple[Image.Image, str]]:
    """Ten pictures of a disc or a box, each with its caption."""
    made = []
    for number in range(10):
        name = list(COLORS)[number % 3]
        shape, side = ("disc", "box")[number // 3 % 2], ("left", "right")[number // 6]
        image = Image.new("RGB", (SIDE, SIDE), (235, 235, 225))
        canvas = ImageDraw.Draw(image)
        x = 4 + 30 * (side == "right")
        corners = (x, 14, x + 25, 39 + number)
        draw = canvas.ellipse if shape == "disc" else canvas.rectangle
        draw(corners, fill=COLORS[name])
        made.append((image, f"{number + 1} times a {name} {shape} on the {side}"))
    return made


def tiny_network(arch: str, vocabulary: DecoderVocabulary) -> tuple[str, dict[str, Any]]:
    """The name and settings of a tiny network."""
    common = {**vocabulary.network_settings(), "image_size": SIDE, "width": 32, "dropout": 0.0}
    if arch == "patches":
        return "transformer", {**common, "patch": 16, "layers": 2, "encoder_layers": 1, "heads": 2}
    with_backbone = {**common, "backbone": NARROW_BACKBONE, "grid": 4}
    if arch == "transformer":
        return arch, {**with_backbone, "layers": 2, "encoder_layers": 1, "heads": 2}
    return arch, with_backbone


@cache
def vocabulary() -> DecoderVocabulary:
    return DecoderVocabulary.learn(2 * [text for _, text in pictures()], "words", 25)


def untrained_model(arch: str) -> Predictor:
    torch.manual_seed(0)
    name, settings = tiny_network(arch, vocabulary())
    network = build(name, **settings).eval().requires_grad_(False)
    return Predictor(arch, network, vocabulary())


def pixels() -> Tensor:
    arrays = [np.array(image) for image, _ in pictures()]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def learn_captions(model: Predictor) -> None:
    """Train the decoder until it knows the ten captions."""
    network = model.network
    if network.encoder is not None:  # the batch norms see the pictures
        network.encoder.train()
        for _ in range(20):
            model.encode(pixels())
        network.encoder.eval()
    memory = model.encode(pixels()).clone()
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
