"""SegNet: a decoder that unpools with the encoder's max-pooling indices.

Badrinarayanan, Kendall and Cipolla 2017. Shapes: B images, C classes, H x W pixels.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import ConvBlock, Segmenter, make_backbone


class SegNet(Segmenter):
    """The 13 convolutions of a VGG-16 and their mirror image (section 3, figure 2).

    Each decoder level has as many convolutions as its encoder level; the last one outputs the
    channels of the level above, or the logits. The backbone must be a VGG.
    """

    def __init__(
        self,
        num_labels: int,
        backbone: backbones.BackboneSettings | None = None,
        width_multiplier: float | None = None,
    ) -> None:
        if backbone is not None and not backbone["arch"].startswith("vgg"):
            raise DlkitError(f"--backbone: segnet needs a vgg, not {backbone['arch']}")
        super().__init__(make_backbone(backbone, width_multiplier))
        self.decoder = nn.ModuleList()
        channels = self.backbone.channels
        for stage, inputs, outputs in zip(
            self.backbone.stages, channels, [None, *channels], strict=False
        ):
            count = sum(isinstance(layer, nn.Conv2d) for layer in stage.children())
            blocks = nn.Sequential(*(ConvBlock(inputs, inputs) for _ in range(count - 1)))
            if outputs is None:
                blocks.append(nn.Conv2d(inputs, num_labels, 3, padding=1))
            elif count:
                blocks.append(ConvBlock(inputs, outputs))
            self.decoder.append(blocks)

    def logits(self, images: Tensor) -> Tensor:
        x, pooled = images, []
        for stage in self.backbone.stages:
            layers = list(stage.children())
            if isinstance(layers[0], nn.MaxPool2d):
                size = x.shape[-2:]
                x, indices = F.max_pool2d(x, 2, return_indices=True)
                pooled.append((indices, size))
                layers = layers[1:]
            for layer in layers:
                x = layer(x)
        # Only the first stage begins without a pool.
        for blocks in list(self.decoder)[:0:-1]:
            indices, size = pooled.pop()
            x = F.max_unpool2d(blocks(x), indices, [2, 2], output_size=size)
        out: Tensor = self.decoder[0](x)
        return out
