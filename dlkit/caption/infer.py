"""From image files to sentences: `caption()`, and what evaluation and training share with it.

Shapes: B images of a batch, P places of C numbers in an image's memory, S x S pixels.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from dlkit.caption.config import ALPHA, BEAM, DEFAULT_MODEL, NO_REPEAT
from dlkit.caption.draw import captioned
from dlkit.caption.model import Captioner, build
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, each
from dlkit.core.generation.beam_search import Written, beam_search, draw, length_penalty
from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.core.io.files import FileNames, picture_suffix
from dlkit.core.nn.fast_inference import pack_linears
from dlkit.core.nn.rebuild import check_vocabulary_size, rebuild
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import track
from dlkit.core.store import checkpoint
from dlkit.core.store.weights import find
from dlkit.core.vision import images
from dlkit.core.vision.images import Picture
from dlkit.tokenize import DecoderVocabulary

LONGEST = 40  # tokens of a caption, where the model does not say what it was trained on
WORDS = ("words", "whitespace")  # tokenizers whose tokens are words
ROWS = 512  # beams that are computed at once
OVERFLOW = "the model's numbers overflow: try --precision fp32"


@dataclass(frozen=True)
class Search:
    """How captions are found: by beam search, or with `sampling` by drawing at random.

    `count` is how many of each image, `max_length` the most tokens of one, by default those of the
    longest caption that the model was trained on. No caption has the same `no_repeat` tokens in a
    row twice; 0: it may; None: 3 where tokens are words, else 0.
    """

    beam: int = BEAM
    alpha: float = ALPHA
    no_repeat: int | None = None
    count: int = 1
    max_length: int | None = None
    sampling: Sampling | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampling is None and self.count > self.beam:
            raise DlkitError(
                f"--captions {self.count} needs --beam {self.count} or more, not {self.beam}"
            )

    @property
    def rows(self) -> int:
        """What is written at once for an image."""
        return self.count if self.sampling else self.beam


@dataclass(frozen=True)
class Sentence:
    """What is said of an image: its natural log-probability, and the score by which it is ranked.

    The score is the log-probability over the length penalty; `finish` is "length" where it was cut
    off.
    """

    caption: str
    score: float
    logprob: float
    finish: str


@dataclass(frozen=True)
class Captions:
    """The captions of one image, best first."""

    columns: ClassVar = ["path", "rank", "caption", "score", "logprob"]

    path: str
    width: int
    height: int
    captions: list[Sentence]

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


@dataclass(frozen=True)
class Model:
    """A captioner with its vocabulary; a loaded one is in its inference form on its device.

    `longest` is the longest caption that it was trained on, in tokens, </s> included; `dealt` the
    share and the seed by which splits that the data lacked were made.
    """

    name: str
    network: Captioner
    vocabulary: DecoderVocabulary
    longest: int = LONGEST
    dealt: tuple[float, int] = (0.1, 0)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def memory(self, pixels: Tensor) -> Tensor:
        """Memory (B, P, C) of uint8 images (B, 3, S, S)."""
        inputs = self.network.preprocessing.normalize(pixels.to(self.device))
        return self.network.encode(inputs.to(next(self.network.parameters()).dtype))


def load(model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: str = "auto") -> Model:
    """The captioner of this name, file or URL, in its inference form on the device."""
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
    dealt = header.config.get("val_share", 0.1), header.config.get("seed", 0)
    return Model(name, network, vocabulary, header.settings.get("longest", LONGEST), dealt)


def caption(
    paths: Iterable[str],
    model: Model,
    search: Search = Search(),
    batch_size: int = 32,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Captions | Failure]:
    """The captions of each image, in input order; a Failure for one that cannot be read.

    Only the `shard` of the images is captioned; without one, the processes share them.
    """

    def results(numbered: Iterator[tuple[int, str]]) -> Iterator[Captions | Failure]:
        numbers: deque[int] = deque()

        def shared() -> Iterator[str]:
            for number, path in numbered:
                numbers.append(number)
                yield path

        read_on = iter(numbers.popleft, None)
        seen = track(shared(), "captioning")
        yield from described(seen, read_on, model, search, batch_size, workers)

    return map_shard(results, enumerate(images.files(paths)), str(model.device), shard)


def described(
    paths: Iterable[str],
    numbers: Iterable[int],
    model: Model,
    search: Search,
    batch_size: int,
    workers: int,
) -> Iterator[Captions | Failure]:
    """The captions of each image; with `sampling` they depend on its number among all.

    Images are decoded ahead in threads, and computed in batches.
    """
    read = model.network.preprocessing.picture
    pictures = zip(each(lambda path: (path, read(path)), paths, workers), numbers, strict=False)
    while window := list(islice(pictures, batch_size)):
        good = [(number, *entry) for entry, number in window if not isinstance(entry, Failure)]
        found = iter(sentences([(n, picture) for n, _, picture in good], model, search))
        for entry, _ in window:
            yield entry if isinstance(entry, Failure) else result(*entry, next(found))


def result(path: str, picture: Picture, found: list[Sentence]) -> Captions | Failure:
    if not found:
        return Failure(path, OVERFLOW)
    return Captions(path, picture.width, picture.height, found)


def sentences(
    pictures: Sequence[tuple[int, Picture]], model: Model, search: Search
) -> list[list[Sentence]]:
    """What is said of pictures with their numbers; nothing where the numbers overflow."""
    if not pictures:
        return []
    memory = model.memory(torch.stack([picture.pixels for _, picture in pictures]))
    found = written(memory, [number for number, _ in pictures], model, search)
    return [[sentence(text, model, search) for text in texts] for texts in found]


def written(
    memory: Tensor, numbers: Sequence[int], model: Model, search: Search
) -> list[list[Written]]:
    """The captions of images (B) by their memory (B, P, C), best first, as ids."""
    found: list[list[Written]] = []
    step = max(1, ROWS // search.rows)
    for start in range(0, len(memory), step):
        found += of_batch(
            memory[start : start + step], numbers[start : start + step], model, search
        )
    return [[text for text in texts if math.isfinite(text.logprob)] for texts in found]


def of_batch(
    memory: Tensor, numbers: Sequence[int], model: Model, search: Search
) -> list[list[Written]]:
    longest = search.max_length or model.longest
    rows = memory if search.sampling is None else memory.repeat_interleave(search.count, dim=0)
    places = torch.full((len(rows),), memory.shape[1], device=memory.device)
    if search.sampling is None:
        limits = torch.full_like(places, longest)
        once = search.no_repeat
        if once is None:
            once = NO_REPEAT if model.vocabulary.tokenizer.algorithm in WORDS else 0
        texts = beam_search(model.network, rows, places, limits, search.beam, search.alpha, once)
        return [of_image[: search.count] for of_image in texts]
    uniforms = [Uniforms(search.seed, n, i) for n in numbers for i in range(search.count)]
    most = [longest] * len(rows)
    drawn = draw(model.network, rows, places, most, search.sampling, uniforms)
    return [drawn[i : i + search.count] for i in range(0, len(drawn), search.count)]


def sentence(text: Written, model: Model, search: Search) -> Sentence:
    penalty = 1.0 if search.sampling else length_penalty(text.length, search.alpha)
    return Sentence(
        model.vocabulary.decode(text.ids),
        round(text.logprob / penalty, 4),
        round(text.logprob, 4),
        text.finish,
    )


def save_pictures(
    results: Iterable[Captions | Failure], names: FileNames
) -> Iterator[Captions | Failure]:
    """The results unchanged, while each image is written with its captions below."""
    for result in results:
        if isinstance(result, Captions) and is_main_process():
            path = names.path_for(result.path, picture_suffix(result.path))
            try:
                picture = images.as_pillow(images.read(result.path))
            except DlkitError as error:  # a URL may fail the second time
                yield Failure(result.path, str(error))
                continue
            images.save(captioned(picture, [found.caption for found in result.captions]), path)
        yield result
