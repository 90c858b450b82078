"""Captioning images: `load` a model, and `caption` images with it.

Shapes: B images of a batch, P locations of C channels in an image's memory, S x S pixels.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from dlkit.caption.config import DEFAULT_MODEL, DEFAULT_SEARCH, NO_REPEAT, CaptionSearch
from dlkit.caption.draw import draw_captions
from dlkit.caption.model import build, captioner_settings
from dlkit.caption.models.captioner import Captioner
from dlkit.core.datasets.splits import Draw
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each, next_window
from dlkit.core.generation.beam_search import GeneratedText, generate_texts, length_penalty
from dlkit.core.generation.sampling import Uniforms
from dlkit.core.io import image_files
from dlkit.core.io.files import FileNames, note_saved, picture_suffix
from dlkit.core.nn.fast_inference import pack_linears
from dlkit.core.nn.rebuild import check_vocabulary_size, rebuild
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import checkpoint
from dlkit.core.store.weights import find
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.core.vision.results import ImageResult
from dlkit.tokenize import DecoderVocabulary

MAX_LENGTH = 40  # tokens of a caption, where the model's header has no longest caption
WORD_TOKENIZERS = ("words", "whitespace")  # whose tokens are words
MAX_ROWS = 512  # beams that are computed together
OVERFLOW = "the model's numbers overflow; try --precision fp32"


@dataclass(frozen=True)
class ScoredCaption:
    """A caption, its natural log-probability, and the score that it is ranked by.

    The score is the log-probability over the length penalty; `finish` is "end", or "length" where
    the caption was cut off.
    """

    caption: str
    score: float
    logprob: float
    finish: str


@dataclass(frozen=True)
class ImageCaptions(ImageResult):
    """The captions of one image, best first."""

    noun: ClassVar = "image"
    columns: ClassVar = ["path", "rank", "caption", "score", "logprob"]

    path: str
    width: int
    height: int
    captions: list[ScoredCaption]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "path": self.path,
                "rank": rank,
                "caption": found.caption,
                "score": found.score,
                "logprob": found.logprob,
            }
            for rank, found in enumerate(self.captions, start=1)
        ]


# A result, and the image as the network sees it.
Captioned = tuple[ImageCaptions | Failure, Picture | None]


@dataclass(frozen=True)
class Predictor:
    """A captioner with its vocabulary, as `load` prepares it for inference.

    `longest` is the longest caption that it was trained on, in tokens, </s> included; `draw`
    the draw of the splits that its data lacked.
    """

    name: str
    network: Captioner
    vocabulary: DecoderVocabulary
    longest: int = MAX_LENGTH
    draw: Draw = Draw()

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Memory (B, P, C) of uint8 images (B, 3, S, S)."""
        inputs = self.network.preprocessing.normalize(pixels.to(self.device))
        return self.network.encode(inputs.to(next(self.network.parameters()).dtype))


def load(
    model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> Predictor:
    """The captioner of this name, file or URL, on the device."""
    name = str(model)
    chosen = devices.choose(device)
    devices.tune_malloc()
    header, weights = checkpoint.load(find("caption", name), "caption")
    vocabulary, network = rebuild(name, header, weights, build, DecoderVocabulary.from_settings)
    check_vocabulary_size(name, vocabulary.size, network.vocab_size)
    network.eval().requires_grad_(False)
    if network.encoder is not None:
        network.encoder.fuse()
    network.to(chosen, devices.dtype(chosen, precision)).to(memory_format=torch.channels_last)
    pack_linears(network)
    longest = captioner_settings(header).get("longest", MAX_LENGTH)
    return Predictor(name, network, vocabulary, longest, Draw.of(header.config))


def caption(
    paths: Iterable[str],
    predictor: Predictor,
    search: CaptionSearch = DEFAULT_SEARCH,
    batch_size: int = 32,
    workers: int = 2,
    shard: Shard | None = None,
    annotated: FileNames | None = None,
) -> Iterator[ImageCaptions | Failure]:
    """The captions of each image, in input order; a Failure for one that cannot be read.

    With a `shard` only its images are captioned; without one, all processes share the images. Under
    the names `annotated`, copies of the images are saved with the captions below.
    """

    def results(numbered: Iterator[tuple[int, str]]) -> Iterator[Captioned]:
        numbers: deque[int] = deque()

        def own_paths() -> Iterator[str]:
            for number, path in numbered:
                numbers.append(number)
                yield path

        read_so_far = iter(numbers.popleft, None)
        tracked = track(own_paths(), "captioning")
        for found, picture in caption_numbered(
            tracked, read_so_far, predictor, search, batch_size, workers
        ):
            yield found, picture if annotated else None

    inputs = enumerate(image_files.files(paths))
    for found, picture in map_shard(results, inputs, str(predictor.device), shard):
        if annotated is not None and picture is not None and is_main_process():
            assert isinstance(found, ImageCaptions)
            try:
                save_annotated(found, picture, annotated)
            except DlkitError as error:  # the file may have changed
                yield Failure(found.path, error.reason_for(found.path))
                continue
        yield found


def caption_numbered(
    paths: Iterable[str],
    numbers: Iterable[int],
    predictor: Predictor,
    search: CaptionSearch,
    batch_size: int,
    workers: int,
) -> Iterator[Captioned]:
    """The captions of each image; random samples depend on its number among all inputs.

    Images are decoded ahead in threads, and captioned in batches.
    """
    read = predictor.network.preprocessing.picture
    pictures = each(lambda path: (path, read(path)), paths, workers)
    numbers = iter(numbers)
    while entries := next_window(pictures, batch_size):
        window = list(zip(entries, numbers, strict=False))
        good = [(number, *entry) for entry, number in window if not isinstance(entry, Failure)]
        found = iter(caption_pictures([(n, picture) for n, _, picture in good], predictor, search))
        for entry, _ in window:
            if isinstance(entry, Failure):
                yield entry, None
                continue
            path, picture = entry
            captions = next(found)
            if captions:
                yield ImageCaptions(path, picture.width, picture.height, captions), picture
            else:
                yield Failure(path, OVERFLOW), None


def caption_pictures(
    pictures: Sequence[tuple[int, Picture]], predictor: Predictor, search: CaptionSearch
) -> list[list[ScoredCaption]]:
    """The captions of pictures with their numbers; none where the model's numbers overflow."""
    if not pictures:
        return []
    memory = predictor.encode(torch.stack([picture.pixels for _, picture in pictures]))
    found = decode(memory, [number for number, _ in pictures], predictor, search)
    return [[score_text(text, predictor, search) for text in texts] for texts in found]


def decode(
    memory: Tensor, numbers: Sequence[int], predictor: Predictor, search: CaptionSearch
) -> list[list[GeneratedText]]:
    """The captions, as ids, of images (B) with this memory (B, P, C), best first."""
    longest = search.max_length or predictor.longest
    no_repeat = search.no_repeat
    if no_repeat is None:
        tokens_are_words = predictor.vocabulary.tokenizer.algorithm in WORD_TOKENIZERS
        no_repeat = NO_REPEAT if tokens_are_words else 0
    samples = search.count if search.sampling else 0
    uniforms = [[Uniforms(search.seed, number, i) for i in range(samples)] for number in numbers]
    lengths = torch.full((len(memory),), memory.shape[1], device=memory.device)
    found: list[list[GeneratedText]] = []
    step = max(1, MAX_ROWS // search.rows)
    for start in range(0, len(memory), step):
        rows = slice(start, start + step)
        limits = [longest] * len(memory[rows])
        found += generate_texts(
            predictor.network,
            memory[rows],
            lengths[rows],
            limits,
            search,
            uniforms[rows],
            no_repeat,
        )
    return [[text for text in texts if math.isfinite(text.logprob)] for texts in found]


def score_text(text: GeneratedText, predictor: Predictor, search: CaptionSearch) -> ScoredCaption:
    penalty = 1.0 if search.sampling else length_penalty(text.length, search.alpha)
    return ScoredCaption(
        predictor.vocabulary.decode(text.ids),
        round(text.logprob / penalty, 4),
        round(text.logprob, 4),
        text.finish,
    )


def save_annotated(found: ImageCaptions, picture: Picture, names: FileNames) -> None:
    """Save a copy of an image with its captions below."""
    path = names.path_for(found.path, picture_suffix(found.path))
    image = images.as_pillow(images.full_size(found.path, picture))
    images.save(draw_result(image, found), path)
    note_saved(path)


def draw_result(image: Image.Image, found: ImageCaptions) -> Image.Image:
    """The image with the captions of its result below."""
    return draw_captions(image, [text.caption for text in found.captions])
