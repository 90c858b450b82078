"""torchvision's ImageNet classifiers by name: fetched once, kept as checkpoints of ours."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from dlkit.classify.model import build
from dlkit.core import checkpoint
from dlkit.core.checkpoint import Header
from dlkit.core.errors import DlkitError
from dlkit.core.weights import cache, download

HUB = "https://download.pytorch.org/models/"
PUBLISHED = {
    "vgg11-imagenet": f"{HUB}vgg11-8a719046.pth#sha256=8a719046",
    "vgg11-bn-imagenet": f"{HUB}vgg11_bn-6002323d.pth#sha256=6002323d",
    "vgg13-imagenet": f"{HUB}vgg13-19584684.pth#sha256=19584684",
    "vgg13-bn-imagenet": f"{HUB}vgg13_bn-abd245e5.pth#sha256=abd245e5",
    "vgg16-imagenet": f"{HUB}vgg16-397923af.pth#sha256=397923af",
    "vgg16-bn-imagenet": f"{HUB}vgg16_bn-6c64b313.pth#sha256=6c64b313",
    "vgg19-imagenet": f"{HUB}vgg19-dcbb9e9d.pth#sha256=dcbb9e9d",
    "vgg19-bn-imagenet": f"{HUB}vgg19_bn-c79401a0.pth#sha256=c79401a0",
    "googlenet-imagenet": f"{HUB}googlenet-1378be20.pth#sha256=1378be20",
    "inception-v3-imagenet": f"{HUB}inception_v3_google-0cc3c7bd.pth#sha256=0cc3c7bd",
    "resnet18-imagenet": f"{HUB}resnet18-f37072fd.pth#sha256=f37072fd",
    "resnet34-imagenet": f"{HUB}resnet34-b627a593.pth#sha256=b627a593",
    "resnet50-imagenet": f"{HUB}resnet50-11ad3fa6.pth#sha256=11ad3fa6",
    "resnet101-imagenet": f"{HUB}resnet101-cd907fc2.pth#sha256=cd907fc2",
    "resnet152-imagenet": f"{HUB}resnet152-f82ba261.pth#sha256=f82ba261",
    "densenet121-imagenet": f"{HUB}densenet121-a639ec97.pth#sha256=a639ec97",
    "densenet169-imagenet": f"{HUB}densenet169-b2777c0a.pth#sha256=b2777c0a",
    "densenet201-imagenet": f"{HUB}densenet201-c1103571.pth#sha256=c1103571",
    "mobilenet-v2-imagenet": f"{HUB}mobilenet_v2-7ebf99e0.pth#sha256=7ebf99e0",
    "mobilenet-v3-imagenet": f"{HUB}mobilenet_v3_large-5c1a4163.pth#sha256=5c1a4163",
}

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # mean and standard deviation
# These two were ported from TensorFlow; torchvision converts the images back inside the network.
FROM_MINUS_1_TO_1 = ("googlenet", "inception-v3")

# What torchvision's names of weights begin with, and ours; "" is any other beginning.
BEGINNINGS = {
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


def fetch(name: str) -> Path:
    """The checkpoint of a published model, downloaded when it is not yet in the cache."""
    target = cache() / "classify" / f"{name}.safetensors"
    if target.exists():
        return target
    arch, settings = architecture(name)
    file = download(PUBLISHED[name])
    network = build(arch, **settings)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(weights_of(arch, state))
    except Exception as error:
        raise DlkitError(f"{file}: not the weights of {arch}; remove it and try again") from error
    published = get_model_weights(torchvisions_name(name)).DEFAULT
    score = published.meta["_metrics"]["ImageNet-1K"]
    mean, std = ([0.5] * 3, [0.5] * 3) if arch in FROM_MINUS_1_TO_1 else IMAGENET
    size = settings["image_size"]
    inputs = {"image_size": size, "fit": "crop", "channels": 3, "mean": mean, "std": std}
    header = Header(
        "classify",
        arch,
        {"network": settings, "preprocessing": inputs, "loss": "cross-entropy"},
        published.meta["categories"],
        {"image_size": size},
        card={
            "data": "ImageNet (ILSVRC 2012)",
            "source": PUBLISHED[name],
            "license": "BSD-3-Clause; ImageNet's own terms allow research and teaching",
            "score": f"top-1 {score['acc@1']} %, top-5 {score['acc@5']} %, as torchvision says",
        },
    )
    checkpoint.save(target, network.state_dict(), header)
    file.unlink()
    return target


def architecture(name: str) -> tuple[str, dict[str, Any]]:
    """The architecture of a published model, and its settings."""
    stem = name.removesuffix("-imagenet")
    arch = stem.removesuffix("-bn")
    settings: dict[str, Any] = {"num_labels": 1000, "channels": 3}
    settings["image_size"] = 299 if arch == "inception-v3" else 224
    if arch.startswith("vgg"):
        settings["norm"] = "batch" if stem != arch else "none"
    return arch, settings


def torchvisions_name(name: str) -> str:
    stem = name.removesuffix("-imagenet").replace("-", "_")
    return "mobilenet_v3_large" if stem == "mobilenet_v3" else stem


def weights_of(arch: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's weights under our names."""
    beginnings = next(names for family, names in BEGINNINGS.items() if arch.startswith(family))
    weights = {}
    for key, tensor in state.items():
        # Files of 2017 number a dense layer's parts with a point before.
        name = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)
        theirs, ours = next((t, o) for t, o in beginnings.items() if name.startswith(t))
        weights[ours + name.removeprefix(theirs)] = tensor
    return weights
