"""Test-time augmentation and tiling: boxes of several views of one picture are combined.

`predict` is any function from pictures to boxes, which are in pixels of each upright picture.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dlkit.core.vision.images import Picture, resized
from dlkit.core.vision.tile import check_tiles, spans
from dlkit.detect.boxes import area, iou
from dlkit.detect.models.detector import ScoredBoxes

Predict = Callable[[Sequence[Picture]], list[ScoredBoxes]]

SCALES = (0.75, 1.0, 1.25)  # of the views, each plain and mirrored
FUSION_IOU = 0.55  # IoU above which boxes are fused (Solovyev et al. 2021, section 3)
CUT_SHARE = 0.03  # of a tile's side: a box that ends so close to its edge counts as cut


# ---- Test-time augmentation ----------------------------------------------------------------------


def predict_augmented(
    pictures: Sequence[Picture], side: int, predict: Predict, limit: int, agnostic: bool
) -> list[ScoredBoxes]:
    """Fuse the boxes of each picture at several scales of `side`, plain and mirrored."""
    views: list[list[ScoredBoxes]] = [[] for _ in pictures]
    for scale in SCALES:
        scaled = [resized(picture, round(side * scale)) for picture in pictures]
        flipped = [Picture(p.pixels.flip(-1), p.width, p.height) for p in scaled]
        for own, plain, mirrored, picture in zip(
            views, predict(scaled), predict(flipped), pictures, strict=True
        ):
            own += [plain, mirror(mirrored, picture.width)]
    return [fuse_boxes(own, limit, agnostic) for own in views]


def mirror(found: ScoredBoxes, width: int) -> ScoredBoxes:
    x1, y1, x2, y2 = found.boxes.unbind(dim=1)
    boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
    return ScoredBoxes(boxes, found.scores, found.labels)


def fuse_boxes(views: Sequence[ScoredBoxes], limit: int, agnostic: bool = False) -> ScoredBoxes:
    """Weighted boxes fusion (Solovyev et al. 2021, section 3) of several views.

    Boxes of one object are replaced by their mean, weighted by score, with their mean score times
    the fraction of views that contain it.
    """
    boxes, scores, labels = concatenate(views)
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    weighted, weights = torch.zeros_like(boxes), torch.zeros_like(scores)  # sums per object
    members = torch.zeros_like(labels)
    first: list[int] = []  # the best box of each
    for index in range(len(boxes)):
        count = len(first)
        overlaps = iou(boxes[index], weighted[:count] / weights[:count, None])
        if not agnostic:
            overlaps = overlaps.where(labels[first] == labels[index], 0.0)
        place = int(overlaps.argmax()) if count else 0
        if not count or overlaps[place] <= FUSION_IOU:
            place = count
            first.append(index)
        weighted[place] += scores[index] * boxes[index]
        weights[place] += scores[index]
        members[place] += 1
    count = len(first)
    means = weights[:count] / members[:count]
    final = means * members[:count].clamp(max=len(views)) / len(views)
    best = final.argsort(descending=True, stable=True)[:limit]
    fused_boxes = (weighted[:count] / weights[:count, None])[best]
    return ScoredBoxes(fused_boxes, final[best], labels[first][best])


def concatenate(parts: Sequence[ScoredBoxes]) -> ScoredBoxes:
    """Concatenate the boxes of all parts."""
    return ScoredBoxes(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


# ---- Tiles ---------------------------------------------------------------------------------------


def predict_tiles(
    picture: Picture, tile: int, predict: Predict, overlap: float, limit: int, agnostic: bool
) -> ScoredBoxes:
    """Predict in overlapping tiles of a picture at full resolution and in the whole picture."""
    down, across = (spans(side, tile, 1) for side in (picture.height, picture.width))
    check_tiles(tile, down, across)
    regions = [(0, 0, picture.width, picture.height)]
    if len(down) * len(across) > 1:
        regions += [(x1, y1, x2, y2) for y1, y2 in down for x1, x2 in across]
    parts = [
        Picture(picture.pixels[:, y1:y2, x1:x2], x2 - x1, y2 - y1) for x1, y1, x2, y2 in regions
    ]
    found = [
        ScoredBoxes(own.boxes + torch.tensor([x1, y1, x1, y1]), own.scores, own.labels)
        for own, (x1, y1, _, _) in zip(predict(parts), regions, strict=True)
    ]
    return merge_tiles(found, torch.tensor(regions, dtype=torch.float32), overlap, limit, agnostic)


def merge_tiles(
    parts: Sequence[ScoredBoxes],
    regions: Tensor,
    overlap: float,
    limit: int,
    agnostic: bool = False,
) -> ScoredBoxes:
    """Merge the boxes of several regions (R, 4) of a picture, of which the first is the whole.

    Two boxes of different regions show one object if their IoU within the common part of both
    regions is above `overlap`. Of these, a box that its region's edge does not cut is kept; if all
    are cut, since the object is larger than a tile, they are united.
    """
    boxes, scores, labels = concatenate(parts)
    seen = regions.repeat_interleave(torch.tensor([len(part.boxes) for part in parts]), dim=0)
    edge = CUT_SHARE * (seen[:, 2:] - seen[:, :2]).repeat(1, 2)
    at_edge = (boxes - seen).abs() <= edge
    cut = (at_edge & (seen != regions[0])).any(dim=1)
    order = sorted(range(len(boxes)), key=lambda index: (bool(cut[index]), -float(scores[index])))
    boxes, scores, labels, seen, cut = (t[order] for t in (boxes, scores, labels, seen, cut))
    kept: list[int] = []
    for index in range(len(boxes)):
        common = intersect(seen[index], seen[kept])
        shares = iou(intersect(boxes[index], common), intersect(boxes[kept], common))
        elsewhere = (seen[kept] != seen[index]).any(dim=1)
        # A cut object is easily misclassified, so its label does not count.
        alike = (labels[kept] == labels[index]) | agnostic | (cut[index] & ~cut[kept])
        shares = shares.where(elsewhere & alike & (area(common) > 0), 0.0)
        best = int(shares.argmax()) if kept else 0
        if not kept or shares[best] <= overlap:
            kept.append(index)
        elif cut[kept[best]]:
            for tensor in (boxes, seen):  # unite the boxes and the regions
                tensor[kept[best], :2] = torch.minimum(tensor[kept[best], :2], tensor[index, :2])
                tensor[kept[best], 2:] = torch.maximum(tensor[kept[best], 2:], tensor[index, 2:])
    best_first = scores[kept].argsort(descending=True, stable=True)[:limit]
    return ScoredBoxes(*(tensor[kept][best_first] for tensor in (boxes, scores, labels)))


def intersect(a: Tensor, b: Tensor) -> Tensor:
    """Intersection of boxes (..., 4) that broadcast; without area if they do not overlap."""
    left_top = torch.maximum(a[..., :2], b[..., :2])
    return torch.cat([left_top, torch.maximum(left_top, torch.minimum(a[..., 2:], b[..., 2:]))], -1)
