"""R-CNN and Fast R-CNN: sampling, losses, pooling."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.detect.losses.regions import fast_rcnn_losses, rcnn_losses, sample_regions
from dlkit.detect.models.fast_rcnn import RegionOutput
from tests.conftest import NARROW, loud
from tests.detect.helpers import build


def test_a_quarter_of_the_regions_shows_objects_and_hard_background_comes_first() -> None:
    torch.manual_seed(0)
    boxes, labels = torch.tensor([[0.0, 0, 40, 40], [0, 0, 0, 0]]), torch.tensor([2, -1])
    near = torch.tensor([[0.0, 0, 40, 10]] * 6)  # IoU 0.25
    far = torch.tensor([[50.0, 50, 60, 60]] * 50)
    good = torch.tensor([[0.0, 0, 40, 30]] * 20)  # IoU 0.75
    padding = torch.zeros(5, 4)
    regions = sample_regions(torch.cat([far, good, near, padding]), boxes, labels, 16)
    assert len(regions.boxes) == 16
    assert regions.labels.tolist() == [3] * 4 + [0] * 12
    assert (regions.objects[:4] == boxes[0]).all()
    assert (regions.boxes[4:, 2] == 40).sum() == 6
    assert regions.boxes.prod(dim=1).ne(-1).all()
    nothing = sample_regions(far, torch.zeros(1, 4), torch.tensor([-1]), 16)
    assert nothing.labels.tolist() == [0] * 16
    assert len(sample_regions(padding, torch.zeros(1, 4), torch.tensor([-1]), 16).labels) == 0


class Fixed(torch.nn.Module):
    """A network that says the same of each region."""

    def __init__(self, logits: list[float], offset: float | None = None) -> None:
        super().__init__()
        self.logits, self.offset = torch.tensor(logits), offset

    def forward(self, images: torch.Tensor, regions: list[torch.Tensor]) -> Any:
        count = sum(map(len, regions))
        labels = self.logits.expand(count, -1)
        if self.offset is None:
            return labels
        return RegionOutput(labels, torch.full((count, labels.shape[1] - 1, 4), self.offset))


def test_losses_by_hand() -> None:
    """One object, proposed exactly: itself twice and 2 x background, three even odds."""
    box = [0.0, 0, 10, 10]
    proposals = torch.tensor([[box, [5.0, 0, 15, 10], [50, 50, 60, 60]]])
    truth = torch.zeros(1, 3, 64, 64), torch.tensor([[box]]), torch.tensor([[1]]), proposals
    losses = fast_rcnn_losses(Fixed([0.0, 0, 0], 2.0), *truth)
    ln3 = 1.0986123
    assert float(losses["labels"]) == pytest.approx(ln3, rel=1e-5)
    # Targets are 0; smooth L1 of 2 is 1.5, for 4 numbers of 2 of the 4 regions.
    assert float(losses["boxes"]) == pytest.approx(2 * 4 * 1.5 / 4, rel=1e-5)
    found = rcnn_losses(Fixed([0.0, 0, 0]), *truth)
    assert {name: float(loss) for name, loss in found.items()} == {"labels": pytest.approx(ln3)}


def pooled_by_hand(maps: torch.Tensor, region: list[float], cells: int) -> torch.Tensor:
    """The maxima in the cells of a region (x1, y1, x2, y2) of maps (C, h, w), cell by cell."""
    x1, y1, x2, y2 = (int(value + 0.5) for value in region)
    width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    result = torch.zeros(len(maps), cells, cells)
    for row in range(cells):
        for column in range(cells):
            top, bottom = y1 + row * height // cells, y1 - (-(row + 1) * height // cells)
            left, right = x1 + column * width // cells, x1 - (-(column + 1) * width // cells)
            cell = maps[:, max(top, 0) : bottom, max(left, 0) : right]
            if cell.numel():
                result[:, row, column] = cell.amax(dim=(1, 2))
    return result


def test_fast_rcnn_pools_the_maxima_of_each_region() -> None:
    """The whole network, with the pooling of each region replaced by one by hand."""
    torch.manual_seed(0)
    network = loud(build("fast-rcnn", num_labels=3, backbone=NARROW))
    images = torch.randint(0, 255, (2, 3, 96, 128), dtype=torch.uint8)
    regions = [torch.tensor([[3.0, 5, 90, 70], [40, 8, 60, 90]]), torch.tensor([[0.0, 0, 128, 96]])]
    with torch.no_grad():
        found = network(images, regions)
        maps = network.backbone(network.backbone.preprocessing.normalize(images))
        coarse = maps[-1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        shared = network.join(torch.cat([maps[-2], coarse], dim=1)).relu()
        pooled = torch.stack(
            [
                pooled_by_hand(shared[number], [value / 16 for value in region], 7)
                for number, own in enumerate(regions)
                for region in own.tolist()
            ]
        )
        x = network.fc7(network.fc6(pooled.flatten(1)).relu()).relu()
        expected = network.labels(x)
    assert found.labels.shape == (3, 4)
    assert found.offsets.shape == (3, 3, 4)
    assert expected.std() > 0.01
    assert torch.allclose(found.labels, expected, atol=1e-4)


def test_rcnn_sees_what_is_in_the_region_and_a_little_around_it() -> None:
    network = build("rcnn", num_labels=2, backbone=NARROW)
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC)
    images = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    region = [30.0, 20, 100, 90]
    [crop] = network.warp(images, torch.tensor([[0.0, *region]]))
    # 96 pixels of the crop show 96 - 2 * 16 * 96 / 227 of the region, the rest surrounds it.
    margin = 70 * ((1 / (1 - 32 / 227)) - 1) / 2
    box = (30 - margin, 20 - margin, 100 + margin, 90 + margin)
    expected = image.resize((96, 96), Image.Resampling.BILINEAR, box)
    normal = network.backbone.preprocessing.normalize(
        torch.from_numpy(np.array(expected)).permute(2, 0, 1)[None]
    )[0]
    assert (crop - normal).abs().mean() < 0.03
    beyond = network.warp(images, torch.tensor([[0.0, -300, -300, -200, -200]]))
    assert not beyond.any()
