"""The attention weights of a captioner at each word of a caption.

Words are separated by white space. Shapes: T words, P = rows x columns locations of the map.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dlkit.caption.config import CaptionSearch
from dlkit.caption.infer import OVERFLOW, Predictor, decode
from dlkit.core.errors import DlkitError
from dlkit.core.io import plots
from dlkit.core.vision import images

PANEL_SIZE = 320  # pixels
PANELS_PER_ROW = 5


@dataclass(frozen=True)
class CaptionAttention:
    """The words of a caption, with each word's attention weights over the map, row by row.

    The map covers the image as the network sees it, squashed or cropped to a square.
    """

    path: str
    words: list[str]
    grid: tuple[int, int]
    weights: list[list[float]]  # (T, P), each row sums to one

    def rows(self) -> list[dict[str, Any]]:
        """Each word with the location of its largest weight, counted from 0, and that weight."""
        found = []
        for word, weights in zip(self.words, self.weights, strict=True):
            place = int(np.argmax(weights))
            row, column = divmod(place, self.grid[1])
            found.append({"word": word, "row": row, "column": column, "weight": weights[place]})
        return found


def word_attention(path: str, predictor: Predictor, search: CaptionSearch) -> CaptionAttention:
    """The best caption of an image, with the attention weights at each of its words."""
    try:
        picture = predictor.network.preprocessing.picture(path)
    except DlkitError as error:
        raise DlkitError(error.reason_for(path), path) from error
    memory = predictor.encode(picture.pixels[None])
    (found,) = decode(memory, [0], predictor, search)
    if not found:
        raise DlkitError(OVERFLOW)
    ids = found[0].ids
    weights = token_attention(memory, ids, predictor)
    # A token belongs to the word that the text up to it ends in.
    decode_ids = predictor.vocabulary.decode
    ends = [len(decode_ids(ids[: n + 1]).split()) - 1 for n in range(len(ids))]
    words = decode_ids(ids).split()
    means = [
        weights[[n for n, end in enumerate(ends) if end == word]].mean(0)
        for word in range(len(words))
    ]
    return CaptionAttention(
        path, words, predictor.network.grid, [mean.round(6).tolist() for mean in means]
    )


@torch.inference_mode()
def token_attention(memory: torch.Tensor, ids: Sequence[int], predictor: Predictor) -> np.ndarray:
    """The attention weights (N, P) to memory (1, P, C) at each of the caption's ids (N)."""
    network = predictor.network
    lengths = torch.tensor([memory.shape[1]], device=memory.device)
    state = network.start(memory, lengths, len(ids) + 1)
    found = []
    for token in [network.bos, *ids][: len(ids)]:
        _, alpha = network.step(torch.tensor([token], device=memory.device), state)
        if alpha is None:
            raise DlkitError(
                "a model without attention; choose one of --arch attend or transformer",
                predictor.name,
            )
        found.append(alpha[0].double().cpu().numpy())
    return np.array(found).reshape(len(ids), memory.shape[1])


def save_panels(found: CaptionAttention, predictor: Predictor, path: Path) -> None:
    """Save a figure: the image, and a panel for each word, bright where its weights are large.

    Brightness is scaled from the smallest to the largest weight, which the title has in percent.
    """
    picture = images.read(found.path, PANEL_SIZE, predictor.network.preprocessing.fit).pixels
    image = picture.permute(1, 2, 0).numpy()
    panels = len(found.words) + 1
    columns = min(PANELS_PER_ROW, panels)
    rows = -(-panels // columns)
    figure = plots.figure(2.2 * columns, 2.4 * rows)
    for number in range(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(image)
        axes.axis("off")
        if number:
            word, weights = found.words[number - 1], found.weights[number - 1]
            axes.set_title(f"{word} ({max(weights):.0%})", fontsize=10, parse_math=False)
            axes.imshow(attention_shade(weights, found.grid, image.shape[:2]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks
        plots.save_figure(figure, path)


def attention_shade(
    weights: Sequence[float], grid: tuple[int, int], size: tuple[int, ...]
) -> np.ndarray:
    """A black overlay (height, width, 4), transparent where attention is largest.

    It is transparent everywhere if all weights are the same.
    """
    values = np.array(weights, np.float32).reshape(grid)
    spread = values.max() - values.min()
    light = (values - values.min()) / spread if spread else np.ones_like(values)
    height, width = size
    smooth = Image.fromarray(light).resize((width, height), Image.Resampling.BICUBIC)
    shade = np.zeros((height, width, 4), np.float32)
    shade[..., 3] = 0.8 * (1 - np.asarray(smooth).clip(0, 1))
    return shade
