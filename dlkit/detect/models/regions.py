"""What the networks that look at proposed regions share.

Shapes: B images, R regions of all images, C labels.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dlkit.detect.boxes import Suppression, suppressed
from dlkit.detect.models.detector import Found


def proposals(images: Tensor) -> list[Tensor]:
    """What selective search proposes in uint8 images (B, 3, H, W): (N, 4) in each."""
    from dlkit.detect.selective_search import propose  # compiled: slow to import

    pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = list(pool.map(propose, pixels))
    return [torch.from_numpy(boxes).float().to(images.device) for boxes in found]


def numbered(regions: list[Tensor]) -> Tensor:
    """Regions (N, 4) of each image as one tensor (R, 5): the image's number, then the box."""
    parts = [
        torch.cat([own.new_full((len(own), 1), number), own], dim=1)
        for number, own in enumerate(regions)
    ]
    return torch.cat(parts)


def found_in(
    regions: list[Tensor],
    scores: Tensor,
    boxes: Tensor,
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> list[Found]:
    """The objects of each image from the scores (R, C) and boxes (R, C, 4) of its regions."""
    threshold = max(threshold, 1e-6)
    counts = [len(own) for own in regions]
    found = []
    for own_scores, own_boxes in zip(scores.split(counts), boxes.split(counts), strict=True):
        region, label = (own_scores >= threshold).nonzero(as_tuple=True)
        candidates = own_boxes[region, label], own_scores[region, label], label
        found.append(Found(*suppressed(*candidates, threshold, suppression, limit)))
    return found
