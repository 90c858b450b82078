"""What every captioner can do, and the architectures by name.

Shapes: B images, P = rows x columns places of the map of an image, C numbers of each, T tokens of
each caption, V tokens in the vocabulary.
"""

import copy
import importlib
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.nn.decoder_state import DecoderState
from dlkit.core.vision.images import Fit

# Where the class of an architecture stands, under `models`, and the settings it takes beside those
# of `Captioner`.
ARCHITECTURES = {"nic": "nic.NIC", "attend": "attend.Attend", "transformer":
                 "transformer.Transformer"}  # fmt: skip
SETTINGS: dict[str, tuple[str, ...]] = {
    "nic": ("width", "layers", "dropout"),
    "attend": ("width", "dropout", "hard"),
    "transformer": (
        "width",
        "layers",
        "encoder_layers",
        "dropout",
        "heads",
        "ffn_width",
        "pre_norm",
    ),
}
# Of values from 0 to 1, where no backbone says how it wants them.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class DecoderOutput(NamedTuple):
    """What teacher forcing gives: of T places, or of the N that were asked for.

    `logits` (B, T, V) or (N, V) in fp32. `alphas` (B, T, P) are the shares of attention, where
    training needs them. `chosen` (B, T) are, with hard attention, the log-probabilities of the
    places that were drawn; 0 where none was.
    """

    logits: Tensor
    alphas: Tensor | None = None
    chosen: Tensor | None = None


class Captioner(nn.Module):
    """A model of a caption's next token, given the image and the caption so far.

    It sees an image as a memory (P, C): the last map of a network of dlkit classify, averaged to at
    most `grid` x `grid` places, or with `patch` squares of so many pixels a side. A caption is ids
    that begin with <s>, padded at its right.
    """

    encoder: backbones.Backbone | None

    def __init__(
        self,
        vocab_size: int,
        pad: int,
        bos: int,
        eos: int,
        unk: int,
        image_size: int,
        fit: Fit = "squash",
        backbone: dict[str, Any] | None = None,
        grid: int = 7,
        patch: int | None = None,
    ) -> None:
        """`backbone` are the settings of `dlkit.classify.backbones`; or None, and `patch` is given.

        `preprocessing` reads and normalizes the images that `encode` takes.
        """
        super().__init__()
        self.vocab_size = vocab_size
        self.pad, self.bos, self.eos, self.unk = pad, bos, eos, unk
        self.patch = patch
        if backbone is None:
            if patch is None or image_size % patch:
                raise DlkitError(f"--image-size {image_size} is no multiple of --patch {patch}")
            self.encoder = None
            self.channels = 3 * patch**2
            self.grid = (image_size // patch, image_size // patch)
            self.preprocessing = backbones.Preprocessing(image_size, fit, 3, MEAN, STD)
            return
        self.encoder = backbones.build(backbone).eval()
        self.preprocessing = replace(self.encoder.preprocessing, image_size=image_size, fit=fit)
        self.channels = self.encoder.channels[-1]
        self.grid = pooled(self.encoder, self.preprocessing, grid)

    def train(self, mode: bool = True) -> "Captioner":
        """The encoder keeps the statistics of its batch norms, also while it is fine-tuned."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Normalized images (B, 3, H, W) -> memory (B, P, C); places are row by row."""
        if self.encoder is None:
            return F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)  # type: ignore[arg-type]
        pooled_map = F.adaptive_avg_pool2d(self.encoder(images)[-1], self.grid)
        return pooled_map.flatten(2).transpose(1, 2)

    def memory_of(self, seen: Tensor, owners: Tensor | None = None) -> Tensor:
        """What was seen: memory (B, P, C) as it is, or normalized images (B, 3, H, W) encoded.

        With `owners` (N), numbers of these images, it is the memory (N, P, C) of each.
        """
        memory = self.encode(seen) if seen.dim() == 4 else seen
        return memory if owners is None else memory[owners]

    def forward(
        self, seen: Tensor, target: Tensor, at: Tensor | None = None, owners: Tensor | None = None
    ) -> DecoderOutput:
        """Teacher forcing: what is foretold at t is the token after target[:, t].

        seen is memory (B, P, C) or normalized images (B, 3, H, W), target (B, T). With `at` (B, T)
        the logits are those (N, V) of the N places where it is true: in training those of padding
        are not worth computing. With `owners` the captions are those of these images.
        """
        raise NotImplementedError

    def start(self, memory: Tensor, lengths: Tensor, capacity: int) -> DecoderState:
        """Memories (B, P, C) to write to, in at most `capacity` tokens; lengths (B) are all P."""
        raise NotImplementedError

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """Logits (B, V) in fp32 of the token after the newest ones ids (B), at first <s>.

        Also the attention (B, P) at this step, in fp32; None where there is none. The state moves
        on in place.
        """
        raise NotImplementedError


def pooled(
    encoder: backbones.Backbone, preprocessing: backbones.Preprocessing, most: int
) -> tuple[int, int]:
    """Rows and columns of the memory: those of the last map, but no more than `most`."""
    side = preprocessing.image_size
    images = torch.empty(1, preprocessing.channels, side, side, device="meta")
    rows, columns = copy.deepcopy(encoder).to("meta").eval()(images)[-1].shape[-2:]
    return min(rows, most), min(columns, most)


def build(arch: str, **settings: Any) -> Captioner:
    """The network of that architecture, untrained; `settings` are its class's arguments.

    Those are the arguments of `Captioner`, and what SETTINGS names.
    """
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    module, name = ARCHITECTURES[arch].split(".")
    network: Captioner = getattr(importlib.import_module(f"dlkit.caption.models.{module}"), name)(
        **settings
    )
    return network
