"""Functions shared by networks that classify region proposals.

Shapes: B images, R regions of all images, C labels.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dlkit.detect.boxes import suppress
from dlkit.detect.models.detector import ScoredBoxes
from dlkit.detect.options import Suppression


def propose_regions(images: Tensor) -> list[Tensor]:
    """The selective search proposals (N, 4) of each of uint8 images (B, 3, H, W)."""
    from dlkit.detect.selective_search import propose  # compiled: slow to import

    pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = list(pool.map(propose, pixels))
    return [torch.from_numpy(boxes).float().to(images.device) for boxes in found]


def to_rois(regions: list[Tensor]) -> Tensor:
    """Convert regions (N, 4) of each image to one tensor (R, 5): image number, then box."""
    parts = [
        torch.cat([own.new_full((len(own), 1), number), own], dim=1)
        for number, own in enumerate(regions)
    ]
    return torch.cat(parts)


def select_per_image(
    regions: list[Tensor],
    scores: Tensor,
    boxes: Tensor,
    threshold: float,
    suppression: Suppression,
    limit: int,
) -> list[ScoredBoxes]:
    """Select and suppress boxes (R, C, 4) with scores (R, C) of the regions, per image."""
    threshold = max(threshold, 1e-6)
    counts = [len(own) for own in regions]
    found = []
    parts = zip(torch.split(scores, counts), torch.split(boxes, counts), strict=True)
    for own_scores, own_boxes in parts:
        region, label = (own_scores >= threshold).nonzero(as_tuple=True)
        candidates = own_boxes[region, label], own_scores[region, label], label
        found.append(ScoredBoxes(*suppress(*candidates, threshold, suppression, limit)))
    return found
