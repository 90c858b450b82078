"""torchvision's networks and weights."""

import re
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from dlkit.classify import torchvision_zoo
from dlkit.classify.config import PUBLISHED
from dlkit.classify.model import ARCHITECTURES, build
from dlkit.classify.torchvision_zoo import parse_name, rename_weights, torchvision_name
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.vision import imagenet
from tests.classify.helpers import random_statistics


def torchvisions(arch: str, **settings: Any) -> nn.Module:
    """The same architecture in torchvision, with random statistics in its norms."""
    if arch in ("googlenet", "inception-v3"):
        settings |= {"aux_logits": True, "init_weights": False}
    network: nn.Module = get_model(torchvision_name(arch), **settings)
    random_statistics(network)
    return network.eval()


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param("vgg11", marks=pytest.mark.slow),
        pytest.param("vgg11-bn", marks=pytest.mark.slow),
        *("googlenet", "inception-v3", "resnet18", "resnet50"),
        *("densenet121", "mobilenet-v2", "mobilenet-v3"),
    ],
)  # fmt: skip
def test_logits_equal_torchvisions(arch: str) -> None:
    torch.manual_seed(0)
    theirs = torchvisions(arch)
    name, settings = parse_name(f"{arch}-imagenet")
    with torch.device("meta"):
        ours = build(name, **settings).eval()
    # assign: VGG's classifier is half a gigabyte.
    ours.load_state_dict(rename_weights(name, theirs.state_dict()), assign=True)
    side = 224 if arch == "resnet18" else 128  # the layers are the same
    images = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server for the folder `tmp_path`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def as_in_2017(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of a dense layer's parts with a point before their number, and no counts of batches."""
    return {
        re.sub(r"(denselayer\d+\.[a-z]+)([12])", r"\1.\2", name): tensor
        for name, tensor in state.items()
        if "num_batches_tracked" not in name
    }


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["mobilenet-v2", "densenet121", "googlenet"])
def test_published_weights_become_a_checkpoint(
    arch: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    theirs = torchvisions(arch, **({"transform_input": True} if arch == "googlenet" else {}))
    state = theirs.state_dict()
    torch.save(as_in_2017(state) if arch == "densenet121" else state, tmp_path / "weights.pth")
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLISHED, f"{arch}-imagenet", f"{server}/weights.pth")

    path = torchvision_zoo.fetch(f"{arch}-imagenet")

    assert [file.name for file in (tmp_path / "cache").rglob("*.*")] == [path.name]
    header, weights = checkpoint.load(path, "classify")
    assert len(header.labels) == len(set(header.labels)) == 1000
    assert header.labels[0] == "tench"
    assert header.card["source"].endswith("/weights.pth")
    ours = build(header.arch, **header.settings["network"]).eval()
    ours.load_state_dict(weights)
    inputs = header.settings["preprocessing"]
    assert (inputs["image_size"], inputs["fit"], inputs["channels"]) == (224, "crop", 3)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(normalized(pixels, imagenet.MEAN, imagenet.STD))
        found = ours(normalized(pixels, inputs["mean"], inputs["std"]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (tmp_path / "weights.pth").unlink()
    assert torchvision_zoo.fetch(f"{arch}-imagenet") == path  # from the cache


def normalized(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_other_weights_are_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLISHED, "resnet18-imagenet", f"{server}/weights.pth")
    with pytest.raises(DlkitError, match="not the weights of resnet18; remove it and try again"):
        torchvision_zoo.fetch("resnet18-imagenet")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_are_torchvisions_best_weights(name: str) -> None:
    address, _, expected = PUBLISHED[name].partition("#sha256=")
    assert address == get_model_weights(torchvision_name(name)).DEFAULT.url
    assert address.endswith(f"-{expected}.pth")
    assert parse_name(name)[0] in ARCHITECTURES
