"""SegNet: a decoder that puts values back where the encoder's maxima were.

Badrinarayanan, Kendall and Cipolla 2017. Shapes: B images, C classes, H x W pixels.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import ConvBlock, Segmenter, make_backbone, vgg_settings


class SegNet(Segmenter):
    """The 13 convolutions of a VGG-16 and their mirror image (section 3, figure 2).

    A level of the decoder has as many convolutions as the encoder's; its last one makes the
    channels of the level above, or the classes. Only a vgg has such levels.
    """

    def __init__(
        self, classes: int, backbone: dict[str, Any] | None = None, width: float | None = None
    ) -> None:
        if backbone is None:
            backbone, width = {**vgg_settings(width or 1.0), "head": False}, None
        if not backbone["arch"].startswith("vgg"):
            raise DlkitError(f"segnet needs a vgg as its backbone, not {backbone['arch']}")
        super().__init__(make_backbone(backbone, width))
        self.decoder = nn.ModuleList()
        channels = self.backbone.channels
        for stage, inputs, outputs in zip(
            self.backbone.stages, channels, [None, *channels], strict=False
        ):
            count = sum(isinstance(layer, nn.Conv2d) for layer in stage.children())
            blocks = nn.Sequential(*(ConvBlock(inputs, inputs) for _ in range(count - 1)))
            if outputs is None:
                blocks.append(nn.Conv2d(inputs, classes, 3, padding=1))
            elif count:
                blocks.append(ConvBlock(inputs, outputs))
            self.decoder.append(blocks)

    def logits(self, images: Tensor) -> Tensor:
        x, pooled = images, []
        for stage in self.backbone.stages:
            layers = list(stage.children())
            if isinstance(layers[0], nn.MaxPool2d):
                size = x.shape[-2:]
                x, places = F.max_pool2d(x, 2, return_indices=True)
                pooled.append((places, size))
                layers = layers[1:]
            for layer in layers:
                x = layer(x)
        # The first stage alone begins without a pool.
        for blocks in list(self.decoder)[:0:-1]:
            places, size = pooled.pop()
            x = F.max_unpool2d(blocks(x), places, [2, 2], output_size=size)
        out: Tensor = self.decoder[0](x)
        return out
