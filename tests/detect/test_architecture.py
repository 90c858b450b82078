"""The registry of architectures, and a detector that is added to it from outside."""

import importlib
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.detect import model
from dlkit.detect.architecture import Architecture, DetectorNetwork
from dlkit.detect.config import Arch, DetectTrainConfig
from dlkit.detect.model import ARCHITECTURES
from dlkit.detect.options import Suppression
from dlkit.detect.train import train
from tests.conftest import NARROW, run, scene
from tests.detect.helpers import build

NETWORK = '''
import torch
from torch import Tensor, nn

from dlkit.detect.models.detector import ScoredBoxes
from dlkit.detect.options import Suppression


class MeanBox(nn.Module):
    """The same box in every image, with a label from the mean color."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.box = nn.Parameter(torch.tensor([0.25, 0.25, 0.75, 0.75]))
        self.labels = nn.Linear(3, num_labels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.labels(images.float().mean(dim=(2, 3)) / 255), self.box * images.shape[-1]

    @torch.inference_mode()
    def predict(
        self, images: Tensor, threshold: float, suppression: Suppression, limit: int
    ) -> list[ScoredBoxes]:
        logits, box = self(images)
        scores, labels = logits.softmax(dim=1).max(dim=1)
        rows = zip(scores.split(1), labels.split(1), strict=True)
        return [ScoredBoxes(box[None], score, label) for score, label in rows]

    def prepare(self, dtype: torch.dtype) -> None:
        self.prepared = dtype
'''
LOSSES = """
from torch import Tensor, nn
from torch.nn import functional as F


def mean_box_losses(
    network: nn.Module, images: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    logits, box = network(images)
    target = labels[:, 0]
    return {
        "labels": F.cross_entropy(logits, target, ignore_index=-1),
        "boxes": (box - boxes)[labels >= 0].abs().mean() / images.shape[-1],
    }
"""


def test_the_choices_of_arch_are_the_registry() -> None:
    assert [*get_args(Arch)] == [*model.ARCHITECTURES]


def test_options_and_settings_are_those_of_the_command() -> None:
    fields = DetectTrainConfig.__dataclass_fields__.keys()
    for architecture in model.ARCHITECTURES.values():
        assert {*architecture.options, *architecture.settings} <= fields
        assert {*architecture.loss_settings} <= {*architecture.options}


@pytest.mark.parametrize("arch", model.ARCHITECTURES)
def test_every_network_has_the_interface(arch: str) -> None:
    architecture = model.find(arch)
    size: dict[str, Any] = {"size": "nano", "image_size": 64}
    settings = {name: size[name] for name in architecture.settings}
    settings["keypoints" if arch == "keypoints" else "num_labels"] = 2
    assert isinstance(model.build(arch, backbone=NARROW, **settings), DetectorNetwork)


def test_an_unknown_architecture() -> None:
    with pytest.raises(DlkitError, match="unknown architecture 'detr'; choose from yolo, yolo-v1"):
        model.build("detr")


@pytest.mark.slow
def test_a_new_detector_is_two_files_and_one_line(
    handful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mean_box.py").write_text(NETWORK)
    (tmp_path / "mean_box_losses.py").write_text(LOSSES)
    monkeypatch.syspath_prepend(tmp_path)
    network = importlib.import_module("mean_box").MeanBox
    losses = importlib.import_module("mean_box_losses").mean_box_losses
    monkeypatch.setitem(
        model.ARCHITECTURES, "mean-box", Architecture(network, losses, backbone=None)
    )

    arch: Any = "mean-box"
    config = DetectTrainConfig(
        data=handful, out=tmp_path / "run", arch=arch, image_size=64, epochs=1, batch_size=4,
        workers=0, device="cpu",
    )  # fmt: skip
    best = train(config)
    assert checkpoint.read_header(best).arch == "mean-box"

    scene(20)[0].save(tmp_path / "a.png")
    found = run("detect", tmp_path / "a.png", "-m", best, "--threshold", 0)
    assert found.code == 0, found.err
    [row] = [line.split("\t") for line in found.out.splitlines()]
    assert row[1] in {"disc", "square"}
    assert float(row[3]) == pytest.approx(24, abs=1)  # the box of the start, almost
    assert run("detect", "evaluate", handful, "-m", best, "--split", "val").code == 0


CHOICES: dict[str, dict[str, Any]] = {
    "yolo": {"size": "nano"},
    "yolo on a backbone": {"size": "nano", "backbone": NARROW},
    "yolo-v1": {"image_size": 64, "backbone": NARROW},
    "ssd": {"image_size": 64, "backbone": NARROW},
    "retinanet": {"backbone": NARROW},
    "fcos": {"backbone": NARROW},
    "fasterrcnn": {"backbone": "mobilenet"},
    "fasterrcnn on a backbone": {"backbone": NARROW},
}


COUNTS = {"yolo": 3, "yolo-v1": 5, "ssd": 2, "retinanet": 2, "fcos": 3, "fasterrcnn": 4}


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("objects", [0, 2])
def test_losses_are_finite_and_reach_every_weight(choice: str, objects: int) -> None:
    torch.manual_seed(0)
    arch = choice.partition(" ")[0]
    network = build(arch, num_labels=3, **CHOICES[choice]).train()
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[[4.0, 4, 40, 40], [20, 10, 60, 50]]] * 2)
    labels = torch.full((2, 2), -1)
    labels[0, :objects] = torch.arange(objects)
    losses = ARCHITECTURES[arch].losses(network, images, boxes, labels)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert len(losses) == COUNTS[arch]
    if objects:
        without = [n for n, p in network.named_parameters() if p.grad is None]
        assert not without


ON_A_BACKBONE = ["ssd", "yolo-v1", "retinanet", "fcos", "fasterrcnn"]


@pytest.mark.parametrize("arch", ON_A_BACKBONE)
def test_prepared_networks_say_the_same(arch: str) -> None:
    torch.manual_seed(0)
    own = {"image_size": 64} if arch in {"ssd", "yolo-v1"} else {}
    network = build(arch, num_labels=3, backbone=NARROW, **own)
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    targets = (torch.tensor([[[4.0, 4, 40, 40]]] * 2), torch.zeros(2, 1, dtype=torch.long))
    network.train()(images, *(targets if hasattr(network, "network") else ()))
    network.eval()
    before = network.predict(images, 0.0, Suppression(), 20)
    network.prepare(torch.float32)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    for one, two in zip(before, network.predict(images, 0.0, Suppression(), 20), strict=True):
        assert torch.allclose(one.scores, two.scores, atol=1e-3)
        assert len(one.boxes) == 20
