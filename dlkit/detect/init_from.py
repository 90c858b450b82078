"""The beginning of a detector's training: its network, and the detector to evaluate."""

from typing import cast

from torch import nn

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.detect import model
from dlkit.detect.architecture import DetectorSettings, Skeleton, detector_network
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.predictor import Detector


def initial_network(
    config: DetectTrainConfig, labels: list[str], arch: str, skeleton: Skeleton = ()
) -> tuple[nn.Module, Header]:
    """The network with the weights of its backbone, and its header.

    The labels are those of the keypoints of an arch that finds those, as is their skeleton.
    """
    settings, trained = network_settings(config, len(labels), arch)
    if skeleton:
        settings["skeleton"] = skeleton
    network = model.build(arch, **settings)
    if trained is not None:
        weights = trained.state_dict()  # the network may lack the last stages
        backbone = network.get_submodule("backbone")
        backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()})
    return network, Header("detect", arch, settings, labels)


def network_settings(
    config: DetectTrainConfig, num_labels: int, arch: str
) -> tuple[DetectorSettings, backbones.Backbone | None]:
    """The settings that build the network, and the trained backbone to start from."""
    architecture = model.find(arch)
    if config.image_size % architecture.image_multiple:
        raise DlkitError(
            f"--image-size {config.image_size}: {arch} needs a multiple of"
            f" {architecture.image_multiple}"
        )
    own = {name: getattr(config, name) for name in architecture.settings}
    settings = cast(DetectorSettings, own)
    settings["keypoints" if arch == "keypoints" else "num_labels"] = num_labels
    name = config.backbone or architecture.backbone
    if name is None or name in architecture.torchvision_backbones:
        if not config.pretrained_backbone:
            raise DlkitError("--no-pretrained-backbone: needs a --backbone of dlkit classify")
        if name is not None:
            settings["backbone"] = name
        return settings, None
    trained, settings["backbone"] = backbones.load(name)
    return settings, trained if config.pretrained_backbone else None


def training_detector(run: Run, config: DetectTrainConfig) -> Detector:
    """The detector of a run as evaluated after each epoch."""
    network = detector_network(run.eval_model)
    device, precision = run.process.device, config.precision
    return Detector(network, run.header.labels, config.image_size, device, precision)
