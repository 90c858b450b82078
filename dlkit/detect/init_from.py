"""What every training of a detector begins with: its network, and how it is looked at."""

from typing import Any

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.detect.config import (
    DEFAULT_BACKBONE,
    DEFAULT_BACKBONES,
    TORCHVISION_BACKBONES,
    DetectTrainConfig,
)
from dlkit.detect.model import build
from dlkit.detect.models.yolo import STRIDES
from dlkit.detect.predictor import Detector


def started(config: DetectTrainConfig, labels: list[str]) -> tuple[Any, Header]:
    """The network on the backbone it starts from, and its header."""
    settings, trained = network_settings(config, len(labels))
    arch = "keypoints" if config.keypoints else config.arch
    model = build(arch, **settings)
    if trained is not None:
        given = trained.state_dict()  # the network may lack the last stages
        model.backbone.load_state_dict({k: given[k] for k in model.backbone.state_dict()})
    return model, Header("detect", arch, settings, labels)


def network_settings(
    config: DetectTrainConfig, num_labels: int
) -> tuple[dict[str, Any], backbones.Backbone | None]:
    """How to build the network, and the trained backbone to start from."""
    settings: dict[str, Any] = {"keypoints" if config.keypoints else "num_labels": num_labels}
    if config.arch == "yolo":
        if config.image_size % STRIDES[-1]:
            raise DlkitError(f"--image-size {config.image_size}: yolo needs a multiple of 32")
        settings["size"] = config.size
    if config.arch in {"ssd", "yolo-v1", "localize"}:
        settings["image_size"] = config.image_size
    name = config.backbone or DEFAULT_BACKBONES.get(config.arch, DEFAULT_BACKBONE)
    if name is None or name in TORCHVISION_BACKBONES.get(config.arch, ()):
        if config.from_scratch:
            raise DlkitError("--from-scratch needs a --backbone of dlkit classify")
        if name is not None:
            settings["backbone"] = name
        return settings, None
    trained, settings["backbone"] = backbones.load(name)
    return settings, None if config.from_scratch else trained


def in_training(run: Run, config: DetectTrainConfig) -> Detector:
    """The network of a run as it is evaluated after each epoch."""
    return Detector(
        run.eval_model, run.header.labels, config.image_size, run.process.device, config.precision
    )
