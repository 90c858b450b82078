"""Where a captioner looks while it writes each word.

Words are what white space separates. Shapes: T words, P = rows x columns places of the map.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dlkit.caption.infer import OVERFLOW, Model, Search, written
from dlkit.core.errors import DlkitError
from dlkit.core.io import plots
from dlkit.core.vision import images

SIDE = 320  # pixels of a panel
COLUMNS = 5  # panels in a row


@dataclass(frozen=True)
class Attention:
    """The words of a caption, and the shares of attention of each place of the map, row by row.

    The map lies over the image as the network sees it, squashed or cut to a square.
    """

    path: str
    words: list[str]
    grid: tuple[int, int]
    shares: list[list[float]]  # (T, P), each row sums to one

    def rows(self) -> list[dict[str, Any]]:
        """Each word with the place that it looks at most, counted from 0, and its share."""
        found = []
        for word, shares in zip(self.words, self.shares, strict=True):
            place = int(np.argmax(shares))
            row, column = divmod(place, self.grid[1])
            found.append({"word": word, "row": row, "column": column, "share": shares[place]})
        return found


def attention(path: str, model: Model, search: Search) -> Attention:
    """The caption of an image, and where the network looks at each of its words."""
    try:
        picture = model.network.preprocessing.picture(path)
    except DlkitError as error:
        raise DlkitError(f"{path}: {error}") from error
    memory = model.memory(picture.pixels[None])
    (found,) = written(memory, [0], model, search)
    if not found:
        raise DlkitError(OVERFLOW)
    ids = found[0].ids
    of_tokens = shares_of(memory, ids, model)
    # A token belongs to the word that the text up to it ends in.
    ends = [len(model.vocabulary.decode(ids[: n + 1]).split()) - 1 for n in range(len(ids))]
    words = model.vocabulary.decode(ids).split()
    of_words = [
        of_tokens[[n for n, end in enumerate(ends) if end == word]].mean(0)
        for word in range(len(words))
    ]
    return Attention(
        path, words, model.network.grid, [shares.round(6).tolist() for shares in of_words]
    )


@torch.inference_mode()
def shares_of(memory: torch.Tensor, ids: Sequence[int], model: Model) -> np.ndarray:
    """The attention (N, P) as each of these ids (N) is written to memory (1, P, C)."""
    network = model.network
    lengths = torch.tensor([memory.shape[1]], device=memory.device)
    state = network.start(memory, lengths, len(ids) + 1)
    found = []
    for token in [network.bos, *ids][: len(ids)]:
        _, alpha = network.step(torch.tensor([token], device=memory.device), state)
        if alpha is None:
            raise DlkitError(
                f"{model.name} looks at the image once, before it writes: attention is for models"
                " of --arch attend and transformer"
            )
        found.append(alpha[0].double().cpu().numpy())
    return np.array(found).reshape(len(ids), memory.shape[1])


def save_panels(found: Attention, model: Model, path: Path) -> None:
    """A picture: the image, and a panel for each word, bright where the network looks.

    Brightness goes from the smallest to the largest share, which the title has in percent.
    """
    picture = images.read(found.path, SIDE, model.network.preprocessing.fit).pixels
    seen = picture.permute(1, 2, 0).numpy()
    panels = len(found.words) + 1
    columns = min(COLUMNS, panels)
    rows = -(-panels // columns)
    drawn = plots.figure(2.2 * columns, 2.4 * rows)
    for number in range(panels):
        axes = drawn.add_subplot(rows, columns, number + 1)
        axes.imshow(seen)
        axes.axis("off")
        if number:
            word, shares = found.words[number - 1], found.shares[number - 1]
            axes.set_title(f"{word} ({max(shares):.0%})", fontsize=10, parse_math=False)
            axes.imshow(veil(shares, found.grid, seen.shape[:2]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks
        plots.save_figure(drawn, path)


def veil(shares: Sequence[float], grid: tuple[int, int], size: tuple[int, ...]) -> np.ndarray:
    """Black (height, width, 4), thickest where the attention is least, thinnest where it is most.

    Where it is the same everywhere there is none.
    """
    values = np.array(shares, np.float32).reshape(grid)
    spread = values.max() - values.min()
    light = (values - values.min()) / spread if spread else np.ones_like(values)
    height, width = size
    smooth = Image.fromarray(light).resize((width, height), Image.Resampling.BICUBIC)
    shade = np.zeros((height, width, 4), np.float32)
    shade[..., 3] = 0.8 * (1 - np.asarray(smooth).clip(0, 1))
    return shade
