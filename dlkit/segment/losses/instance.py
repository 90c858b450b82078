"""Loss of instance segmentation with torchvision's Mask R-CNN."""

import torch
from torch import Tensor, nn
from torchvision.ops import masks_to_boxes

from dlkit.segment.architecture import TrainingBatch
from dlkit.segment.config import SegmentTrainConfig


def instance_loss(
    network: nn.Module,
    batch: TrainingBatch,
    config: SegmentTrainConfig,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The sum of the five losses of He et al. 2017: proposals (2), boxes, labels and masks.

    Objects without a visible pixel do not count; neither config nor class weights have an effect.
    """
    targets = []
    for ids, own_labels in zip(batch.object_ids, batch.labels, strict=True):
        masks = ids == torch.arange(1, len(own_labels) + 1, device=ids.device)[:, None, None]
        visible = masks.any(dim=2).any(dim=1)
        boxes = masks_to_boxes(masks[visible])
        boxes[:, 2:] += 1  # torchvision's boxes include the last pixel, ours do not
        targets.append(
            {
                "boxes": boxes,
                "labels": own_labels[visible] + 1,
                "masks": masks[visible].to(torch.uint8),
            }
        )
    losses: dict[str, Tensor] = network(list(batch.images), targets)
    return torch.stack(list(losses.values())).sum()
