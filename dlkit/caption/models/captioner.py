"""The base class of captioners: images as encoder memory, and the interface of their decoders.

Shapes: B images, P = rows x columns locations of an image's feature map, C channels, N captions or
places, T tokens of each caption, V tokens in the vocabulary.
"""

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.nn.decoder_state import DecoderState
from dlkit.core.vision.imagenet import MEAN, STD
from dlkit.core.vision.images import Fit


class DecoderOutput(NamedTuple):
    """Output of a decoder under teacher forcing.

    `logits` (B, T, V), or (N, V) of the N places asked for, in fp32. `alphas` (B, T, P) are
    attention weights, where training needs them. `chosen` (B, T) are the log-probabilities of the
    locations that hard attention sampled, and 0 where it sampled none.
    """

    logits: Tensor
    alphas: Tensor | None = None
    chosen: Tensor | None = None


class Captioner(nn.Module):
    """A model of a caption's next token, given the image and the caption so far.

    The image is encoded as a memory (P, C): the last feature map of a dlkit classify network,
    average-pooled to at most `grid` x `grid` locations, or image patches of `patch` x `patch`
    pixels. A caption is ids that begin with <s>, padded on the right.
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
        backbone: backbones.BackboneSettings | None = None,
        grid: int = 7,
        patch: int | None = None,
    ) -> None:
        """`backbone` are settings of `dlkit.classify.backbones`, or None where `patch` is given.

        `preprocessing` reads and normalizes the images that `encode` takes.
        """
        super().__init__()
        self.vocab_size = vocab_size
        self.pad, self.bos, self.eos, self.unk = pad, bos, eos, unk
        self.patch = patch
        if backbone is None:
            if patch is None or image_size % patch:
                raise DlkitError(
                    f"--image-size {image_size}: not a multiple of --patch {patch}; change one of"
                    " the two"
                )
            self.encoder = None
            self.channels = 3 * patch**2
            self.grid = (image_size // patch, image_size // patch)
            self.preprocessing = backbones.Preprocessing(image_size, fit, 3, list(MEAN), list(STD))
            return
        self.encoder = backbones.build(backbone).eval()
        self.preprocessing = replace(self.encoder.preprocessing, image_size=image_size, fit=fit)
        self.channels = self.encoder.channels[-1]
        self.grid = pooled_size(self.encoder, self.preprocessing, grid)

    def train(self, mode: bool = True) -> "Captioner":
        """Set train mode, except in the encoder: its batch norms keep their statistics."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Normalized images (B, 3, H, W) -> memory (B, P, C), with locations row by row."""
        if self.encoder is None:
            return F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)  # type: ignore[arg-type]
        pooled_map = F.adaptive_avg_pool2d(self.encoder(images)[-1], self.grid)
        return pooled_map.flatten(2).transpose(1, 2)

    def as_memory(self, inputs: Tensor, owners: Tensor | None = None) -> Tensor:
        """The memory (B, P, C) of `inputs`: itself, or encoded from normalized images (B, 3, H, W).

        With `owners` (N), the image number of each caption, it is the memory (N, P, C) of each.
        """
        memory = self.encode(inputs) if inputs.dim() == 4 else inputs
        return memory if owners is None else memory[owners]

    def forward(
        self, inputs: Tensor, target: Tensor, at: Tensor | None = None, owners: Tensor | None = None
    ) -> DecoderOutput:
        """Teacher forcing: the logits at t predict the token after target[:, t].

        `inputs` is memory (B, P, C) or normalized images (B, 3, H, W), target (B, T). With a mask
        `at` (B, T) only the logits (N, V) where it is true are computed: training skips padding.
        `owners` gives each caption's image, see `as_memory`.
        """
        raise NotImplementedError

    def start(self, memory: Tensor, lengths: Tensor, capacity: int) -> DecoderState:
        """The state before <s>, for memories (B, P, C) and captions of at most `capacity` tokens.

        `lengths` (B) are all P.
        """
        raise NotImplementedError

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """Logits (B, V), in fp32, of the token after the newest ids (B), of which <s> is the first.

        Also the attention weights (B, P) of this step, in fp32, or None without attention. Updates
        the state in place.
        """
        raise NotImplementedError


def pooled_size(
    encoder: backbones.Backbone, preprocessing: backbones.Preprocessing, most: int
) -> tuple[int, int]:
    """Rows and columns of the memory: the last feature map's, but no more than `most`."""
    side = preprocessing.image_size
    images = torch.empty(1, preprocessing.channels, side, side, device="meta")
    rows, columns = copy.deepcopy(encoder).to("meta").eval()(images)[-1].shape[-2:]
    return min(rows, most), min(columns, most)
