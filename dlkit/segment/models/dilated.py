"""Dilated convolutions: a dense front end and a context module (Yu and Koltun 2016).

Shapes: B images, C classes, H x W pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter, make_backbone, resize_like

STRIDE = 8  # of the front end's map: pool4 and pool5 of a VGG are removed
DILATIONS = (1, 1, 2, 4, 8, 16, 1)  # table 1
# Channels of each layer, as multiples of the number of classes.
WIDTHS = {"basic": (1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32)}
# Backbones with strides in convolutions, or in pools that begin a stage.
BACKBONES = ("vgg", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "preact-resnet")
NOISE = 1e-3  # of the large module's initial weights, far below the identity weights


class Context(nn.Sequential):
    """Context module: logits (B, C, h, w) from logits, with a growing receptive field.

    3x3 convolutions with increasing dilation: with dilations 1, 2, 4, ... the receptive field is
    3, 7, 15, ... pixels wide, with DILATIONS 67. They start as the identity (equations 4 and 5).
    """

    def __init__(
        self,
        num_labels: int,
        widths: tuple[int, ...] = WIDTHS["basic"],
        dilations: tuple[int, ...] = DILATIONS,
    ) -> None:
        super().__init__()
        inputs = num_labels
        for width, dilation in zip(widths, dilations, strict=True):
            outputs = num_labels * width
            layer = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
            init_identity(layer, num_labels)
            self.extend([layer, nn.ReLU(inplace=True)])
            inputs = outputs
        last = nn.Conv2d(inputs, num_labels, 1)
        init_identity(last, num_labels)
        self.append(last)


@torch.no_grad()
def init_identity(layer: nn.Conv2d, num_labels: int) -> None:
    """Initialize a layer so that it passes on the maps of each class (equation 5)."""
    outputs, inputs, side, _ = layer.weight.shape
    same = (
        torch.arange(outputs)[:, None] * num_labels // outputs
        == torch.arange(inputs) * num_labels // inputs
    )
    nn.init.normal_(layer.weight, std=0 if outputs == inputs == num_labels else NOISE / outputs)
    layer.weight[:, :, side // 2, side // 2] += same * num_labels / outputs
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class Dilated(Segmenter):
    """A classifier whose last strides are replaced by dilated convolutions, and a context module.

    With equal weights, every 8th pixel gets the classifier's output there, except that pools that
    begin a stage (VGG's) are removed (section 4). `context` is basic, large or none.
    """

    def __init__(
        self,
        num_labels: int,
        backbone: backbones.BackboneSettings | None = None,
        width_multiplier: float | None = None,
        context: str = "basic",
    ) -> None:
        if backbone is not None and not backbone["arch"].startswith(BACKBONES):
            raise DlkitError(f"--backbone: dilated needs a resnet or vgg, not {backbone['arch']}")
        if context not in (*WIDTHS, "none"):
            raise DlkitError(
                f"--context: unknown context {context!r}; choose from {', '.join(WIDTHS)}, none"
            )
        super().__init__(make_backbone(backbone, width_multiplier, head=True))
        undo_strides(self.backbone)
        self.stride = STRIDE
        self.score = nn.Conv2d(self.backbone.channels[-1], num_labels, 1)
        self.context = None if context == "none" else Context(num_labels, WIDTHS[context])

    def logits(self, images: Tensor) -> Tensor:
        scores = self.score(self.backbone(images)[-1])
        if self.context is not None:
            # The module's ReLUs cut off negative scores and the gradients of their classes. The
            # paper first trains the front end alone; with the sum, both train at once.
            scores = scores + self.context(scores)
        return resize_like(scores, images)


def undo_strides(backbone: backbones.Backbone) -> None:
    """Keep the resolution at STRIDE in all later stages, with unchanged receptive fields."""
    if STRIDE not in backbone.strides:
        raise DlkitError(
            f"--backbone: its maps have strides {backbone.strides}, and dilated needs {STRIDE};"
            " use another backbone, such as caltech101"
        )
    dilation = 1
    for index, stride in enumerate(backbone.strides):
        if stride <= STRIDE:
            continue
        stage = backbone.stages[index]
        before, dilation = dilation, stride // STRIDE
        if isinstance(next(stage.children()), nn.MaxPool2d):
            stage.add_module("0", nn.Identity())
            before = dilation
        for layer in stage.modules():
            if isinstance(layer, nn.Conv2d):
                # The convolution with the stride still has the previous stage's map as input.
                own = before if layer.stride[0] > 1 else dilation
                layer.dilation = (own, own)
                padding: Any = layer.padding
                layer.padding = tuple(side * own for side in padding)
                layer.stride = (1, 1)
            elif isinstance(layer, nn.ZeroPad2d):
                left, right, top, bottom = (side * dilation for side in layer.padding)
                layer.padding = (left, right, top, bottom)
        backbone.strides[index] = STRIDE
