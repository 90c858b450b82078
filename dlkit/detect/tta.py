"""One picture looked at several times, and what was found put together: tiles and augmentation.

A `look` finds the objects of pictures; their boxes are in pixels of each picture as shown.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dlkit.core.vision.images import Picture, resized
from dlkit.core.vision.tile import spans
from dlkit.detect.boxes import area, iou
from dlkit.detect.models.detector import Found

Look = Callable[[Sequence[Picture]], list[Found]]

SCALES = (0.75, 1.0, 1.25)  # of the views of augmentation, each as it is and mirrored
FUSED_IOU = 0.55  # from which boxes are of one object (Solovyev et al. 2021, section 3)
CUT_SHARE = 0.03  # of a tile's side: a box that ends as close to its edge is cut there


# ---- Test-time augmentation ----------------------------------------------------------------------


def augmented(
    pictures: Sequence[Picture], side: int, look: Look, limit: int, agnostic: bool
) -> list[Found]:
    """What is found in each picture at several scales of `side`, as it is and mirrored, fused."""
    views: list[list[Found]] = [[] for _ in pictures]
    for scale in SCALES:
        scaled = [resized(picture, round(side * scale)) for picture in pictures]
        flipped = [Picture(p.pixels.flip(-1), p.width, p.height) for p in scaled]
        for own, plain, turned, picture in zip(
            views, look(scaled), look(flipped), pictures, strict=True
        ):
            own += [plain, mirrored(turned, picture.width)]
    return [fused(own, limit, agnostic) for own in views]


def mirrored(found: Found, width: int) -> Found:
    x1, y1, x2, y2 = found.boxes.unbind(dim=1)
    boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
    return Found(boxes, found.scores, found.labels)


def fused(views: Sequence[Found], limit: int, agnostic: bool = False) -> Found:
    """Weighted boxes fusion (Solovyev et al. 2021, section 3) of what several views hold.

    Boxes of one object become their mean, weighted by score. Its score is their mean's, times the
    share of views that found it.
    """
    boxes, scores, labels = joined(views)
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    weighted, weights = torch.zeros_like(boxes), torch.zeros_like(scores)  # sums of each object
    members = torch.zeros_like(labels)
    first: list[int] = []  # the best box of each
    for index in range(len(boxes)):
        count = len(first)
        overlaps = iou(boxes[index], weighted[:count] / weights[:count, None])
        if not agnostic:
            overlaps = overlaps.where(labels[first] == labels[index], 0.0)
        place = int(overlaps.argmax()) if count else 0
        if not count or overlaps[place] <= FUSED_IOU:
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
    return Found(fused_boxes, final[best], labels[first][best])


def joined(parts: Sequence[Found]) -> Found:
    """All of them in one."""
    return Found(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


# ---- Tiles ---------------------------------------------------------------------------------------


def in_tiles(
    picture: Picture, tile: int, look: Look, overlap: float, limit: int, agnostic: bool
) -> Found:
    """What is found in overlapping tiles of a picture at its own size, and in it as a whole."""
    down, across = (spans(side, tile, 1) for side in (picture.height, picture.width))
    regions = [(0, 0, picture.width, picture.height)]
    if len(down) * len(across) > 1:
        regions += [(x1, y1, x2, y2) for y1, y2 in down for x1, x2 in across]
    parts = [
        Picture(picture.pixels[:, y1:y2, x1:x2], x2 - x1, y2 - y1) for x1, y1, x2, y2 in regions
    ]
    found = [
        Found(own.boxes + torch.tensor([x1, y1, x1, y1]), own.scores, own.labels)
        for own, (x1, y1, _, _) in zip(look(parts), regions, strict=True)
    ]
    return merged(found, torch.tensor(regions, dtype=torch.float32), overlap, limit, agnostic)


def merged(
    parts: Sequence[Found], regions: Tensor, overlap: float, limit: int, agnostic: bool = False
) -> Found:
    """What was found in several regions (R, 4) of a picture, the first all of it; each object once.

    Two boxes of different regions show one object if they overlap, by their IoU, more than
    `overlap` in what both regions see. Of these, one that its region's edge does not cut stays;
    boxes that are all cut, since the object is larger than a tile, are put together.
    """
    boxes, scores, labels = joined(parts)
    seen = regions.repeat_interleave(torch.tensor([len(part.boxes) for part in parts]), dim=0)
    edge = CUT_SHARE * (seen[:, 2:] - seen[:, :2]).repeat(1, 2)
    at_edge = (boxes - seen).abs() <= edge
    cut = (at_edge & (seen != regions[0])).any(dim=1)
    order = sorted(range(len(boxes)), key=lambda index: (bool(cut[index]), -float(scores[index])))
    boxes, scores, labels, seen, cut = (t[order] for t in (boxes, scores, labels, seen, cut))
    kept: list[int] = []
    for index in range(len(boxes)):
        common = both(seen[index], seen[kept])
        shares = iou(both(boxes[index], common), both(boxes[kept], common))
        elsewhere = (seen[kept] != seen[index]).any(dim=1)
        # What is cut is easily mistaken for something else, so its label does not count.
        alike = (labels[kept] == labels[index]) | agnostic | (cut[index] & ~cut[kept])
        shares = shares.where(elsewhere & alike & (area(common) > 0), 0.0)
        best = int(shares.argmax()) if kept else 0
        if not kept or shares[best] <= overlap:
            kept.append(index)
        elif cut[kept[best]]:
            for tensor in (boxes, seen):  # the object and what was seen of it grow
                tensor[kept[best], :2] = torch.minimum(tensor[kept[best], :2], tensor[index, :2])
                tensor[kept[best], 2:] = torch.maximum(tensor[kept[best], 2:], tensor[index, 2:])
    best_first = scores[kept].argsort(descending=True, stable=True)[:limit]
    return Found(*(tensor[kept][best_first] for tensor in (boxes, scores, labels)))


def both(a: Tensor, b: Tensor) -> Tensor:
    """What boxes (..., 4) that broadcast have in common; without area where that is nothing."""
    left_top = torch.maximum(a[..., :2], b[..., :2])
    return torch.cat([left_top, torch.maximum(left_top, torch.minimum(a[..., 2:], b[..., 2:]))], -1)
