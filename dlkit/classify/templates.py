"""Pictures of the weights of linear classifiers."""

from pathlib import Path

import torch
from PIL import Image
from torch import nn

from dlkit.classify.data import Preprocessing
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture


def save_templates(model: nn.Module, inputs: Preprocessing, names: list[str], path: Path) -> None:
    """Save the weights of each label as a picture; bright weights are positive evidence."""
    weights = model.state_dict()["head.fc.weight"].float().cpu()
    side = inputs.image_size
    templates = weights.view(len(names), inputs.channels, side, side)
    low, high = (templates.amin(dim=(1, 2, 3)), templates.amax(dim=(1, 2, 3)))
    scaled = (templates - low.view(-1, 1, 1, 1)) / (high - low).clamp(min=1e-9).view(-1, 1, 1, 1)
    pixels = (255 * scaled).to(torch.uint8).expand(-1, 3, -1, -1)
    pictures = [
        images.as_pillow(Picture(p, side, side)).resize((160, 160), Image.Resampling.NEAREST)
        for p in pixels
    ]
    images.save(images.grid(pictures, min(5, len(names)), 164, names), path)
