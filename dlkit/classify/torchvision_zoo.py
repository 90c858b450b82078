"""torchvision's ImageNet classifiers by name, downloaded once and converted to checkpoints."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from dlkit.classify.config import PUBLISHED
from dlkit.classify.data import ImageClassifierSettings, Preprocessing
from dlkit.classify.model import build
from dlkit.core.environment import cache
from dlkit.core.errors import DlkitError
from dlkit.core.io.download import download
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.core.vision import imagenet

# These two were ported from TensorFlow; torchvision converts the images back inside the network.
FROM_MINUS_1_TO_1 = ("googlenet", "inception-v3")

# Prefixes of torchvision's weight names, and ours; "" matches any other prefix.
PREFIXES = {
    "vgg": {"features.": "features.", "classifier.": "head.classifier."},
    "googlenet": {
        "fc.": "head.fc.",
        "aux1.": "auxiliary.inception4a.",
        "aux2.": "auxiliary.inception4d.",
        "": "features.",
    },
    "inception": {"fc.": "head.fc.", "AuxLogits.": "auxiliary.Mixed_6e.", "": "features."},
    "resnet": {"fc.": "head.fc.", "": "features."},
    "densenet": {"features.": "features.", "classifier.": "head.fc."},
    "mobilenet-v2": {"features.": "features.", "classifier.1.": "head.fc."},
    "mobilenet-v3": {"features.": "features.", "classifier.": "head.classifier."},
}


def find_model(model: str) -> Path:
    """Return the file of a classifier: a name, file or URL; download a published one."""
    return find("classify", model, PUBLISHED, fetch)


def fetch(name: str) -> Path:
    """Return the checkpoint of a published model; download it if it is not in the cache."""
    target = cache() / "classify" / f"{name}.safetensors"
    if target.exists():
        return target
    arch, settings = parse_name(name)
    file = download(PUBLISHED[name])
    network = build(arch, **settings)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(rename_weights(arch, state))
    except Exception as error:
        raise DlkitError(f"not the weights of {arch}; remove it and try again", file) from error
    published = get_model_weights(torchvision_name(name)).DEFAULT
    score = published.meta["_metrics"]["ImageNet-1K"]
    mean, std = (
        ([0.5] * 3, [0.5] * 3)
        if arch in FROM_MINUS_1_TO_1
        else (list(imagenet.MEAN), list(imagenet.STD))
    )
    size = settings["image_size"]
    inputs = Preprocessing(size, "crop", 3, mean, std)
    described: ImageClassifierSettings = {
        "network": settings,
        "preprocessing": inputs.to_settings(),
        "loss": "cross-entropy",
    }
    header = Header(
        "classify",
        arch,
        described,
        published.meta["categories"],
        {"image_size": size},
        card={
            "data": "ImageNet (ILSVRC 2012)",
            "source": PUBLISHED[name],
            "license": "BSD-3-Clause; ImageNet's own terms allow research and teaching",
            "score": f"top-1 {score['acc@1']} %, top-5 {score['acc@5']} %, as torchvision reports",
        },
    )
    checkpoint.save(target, network.state_dict(), header)
    file.unlink()
    return target


def parse_name(name: str) -> tuple[str, dict[str, Any]]:
    """Return the architecture and the settings of a published model."""
    stem = name.removesuffix("-imagenet")
    arch = stem.removesuffix("-bn")
    settings: dict[str, Any] = {"num_labels": 1000, "channels": 3}
    settings["image_size"] = 299 if arch == "inception-v3" else 224
    if arch.startswith("vgg"):
        settings["norm"] = "batch" if stem != arch else "none"
    return arch, settings


def torchvision_name(name: str) -> str:
    """Return torchvision's name of a published model."""
    stem = name.removesuffix("-imagenet").replace("-", "_")
    return "mobilenet_v3_large" if stem == "mobilenet_v3" else stem


def rename_weights(arch: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's weights to our names."""
    prefixes = next(names for family, names in PREFIXES.items() if arch.startswith(family))
    weights = {}
    for key, tensor in state.items():
        # Files of 2017 write denselayer1.norm.1 for denselayer1.norm1.
        name = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)
        theirs, ours = next((t, o) for t, o in prefixes.items() if name.startswith(t))
        weights[ours + name.removeprefix(theirs)] = tensor
    return weights
