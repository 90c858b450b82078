"""Using language models: continue, score and fill in texts, and compute features of tokens.

Commands on n-gram models load no torch: modules that need it are imported where they are used.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.core.io.files import is_dir, is_file
from dlkit.core.io.text import Line
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import Inputs, count_of, log, track
from dlkit.core.store.checkpoint import Header, read_header
from dlkit.core.store.weights import bundled, cached, find
from dlkit.lm_generate import ngram_files
from dlkit.lm_generate.arpa import is_arpa, read_arpa
from dlkit.lm_generate.config import DEFAULT_MODEL
from dlkit.lm_generate.generate import GrowingText, Limits, beam_search, grow
from dlkit.lm_generate.language_model import LanguageModel
from dlkit.lm_generate.results import Continuation, Features, FilledText, TextScore, Token
from dlkit.lm_generate.text_codec import TextCodec

R = TypeVar("R")
# The options for fields of generation_config.json.
OPTIONS = {
    "do_sample": "--greedy", "num_beams": "--beam", "max_new_tokens": "--max-tokens",
    "temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p", "min_p": "--min-p",
    "repetition_penalty": "--repetition-penalty",
}  # fmt: skip
ARPA_NAME = re.compile(r"\.arpa(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)


@dataclass(frozen=True)
class GenerationConfig:
    """Settings of the continuation of prompts."""

    sampling: Sampling = field(default_factory=Sampling)
    samples: int = 1
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    beam: int = 0
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.beam and self.sampling != Sampling():
            raise DlkitError(
                "--beam searches for the most probable texts; omit the options of sampling"
            )
        if self.beam and self.samples > self.beam:
            raise DlkitError(
                f"--beam {self.beam} finds {self.beam} texts, not {self.samples}; give a larger one"
            )
        if self.sampling.greedy and self.samples > 1:
            raise DlkitError("--greedy always generates the same text; omit --samples")
        if "" in self.stop:
            raise DlkitError("--stop is empty; give a text of one character or more")


def load(
    model: str | Path = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
) -> LanguageModel:
    """Load a model by name, file or URL; or by folder or `hf:OWNER/NAME` from Hugging Face.

    `parse_special`: special tokens written in texts are read as such; by default in Hugging Face's
    models, as there.
    """
    loaded = load_file(str(model), device, precision)
    try:
        loaded.codec.read_special(loaded.header.settings)
    except DlkitError as error:
        raise DlkitError(f"a damaged model file ({error}); get it again", Path(model)) from error
    if parse_special is not None:
        loaded.codec.parse_special = parse_special
    return loaded


def load_file(name: str, device: str, precision: Precision) -> LanguageModel:
    """Load a model by name, file, URL or folder."""
    if name.startswith("hf:") or (is_dir(name) and not is_bundled(name)):
        from dlkit.lm_generate import huggingface

        if is_file(best := Path(name) / "best.safetensors"):
            raise DlkitError(f"{name} is the folder of a run; give {best}")
        folder = huggingface.find(name)
        assert folder is not None
        return from_checkpoint(name, *huggingface.load(folder), device, precision)
    if not is_bundled(name) and (ARPA_NAME.search(name) or is_arpa(Path(name))):
        return replace(read_arpa(Path(name)), name=name)
    path = find("lm-generate", name)
    if read_header(path, "lm-generate").arch == "ngram":
        if device not in {"auto", "cpu"} or precision in {"bf16", "fp16"}:
            raise DlkitError(
                f"{name} is an n-gram model, which needs no --device or --precision; omit them"
            )
        return replace(ngram_files.load(path), name=name)
    from dlkit.core.store import checkpoint

    return from_checkpoint(name, *checkpoint.load(path), device, precision)


def is_bundled(name: str) -> bool:
    """Whether this is the name of a model, which takes precedence over a folder."""
    return name in {path.stem for path in [*bundled("lm-generate"), *cached("lm-generate")]}


def from_checkpoint(
    name: str, header: Header, weights: dict[str, Any], device: str, precision: Precision
) -> LanguageModel:
    """Build the model of a checkpoint on its device, in the precision of its computation."""
    from dlkit.core.nn.fast_inference import pack_linears
    from dlkit.core.nn.rebuild import check_vocabulary_size, rebuild
    from dlkit.core.parallel import device as devices
    from dlkit.lm_generate.model import architecture, build

    codec, network = rebuild(name, header, weights, build, TextCodec.from_settings)
    chosen, arch = devices.choose(device), architecture(header.arch)
    if precision == "auto" and chosen.type == "cpu" and not arch.packs_linears:
        precision = "fp32"  # in bf16 the results of a batch would depend on its size
    network.eval().to(chosen, devices.dtype(chosen, precision)).requires_grad_(False)
    if arch.packs_linears:
        pack_linears(network)
    model = arch.kind(name, header, codec, network)
    check_vocabulary_size(name, model.vocab_size(codec), model.size)
    return model


class StreamedText:
    """A text that is being generated: iterate over its pieces, then take its `result`.

    Other texts of its batch grow with it.
    """

    def __init__(self, prompt: str, sample: int, batch: "Batch", index: int) -> None:
        self.prompt, self.sample = prompt, sample
        self.batch, self.index = batch, index

    def __iter__(self) -> Iterator[str]:
        return self.batch.pieces(self.index)

    def result(self) -> Continuation:
        """Generate the text to its end, and return it."""
        for _ in self:
            pass
        text, model = self.batch.texts[self.index], self.batch.model
        tokens = [model.token(*pair) for pair in zip(text.ids, text.logprobs, strict=True)]
        assert text.finish is not None
        return Continuation(
            self.prompt, self.sample, text.text, text.finish, total_logprob(tokens), tokens
        )


def total_logprob(tokens: list[Token]) -> float | None:
    """Log-probability of all tokens together; None if one is impossible."""
    logprobs = [token.logprob for token in tokens if token.logprob is not None]
    return round(math.fsum(logprobs), 4) if len(logprobs) == len(tokens) else None


@dataclass(frozen=True)
class Job:
    """A text to generate: the `sample`-th for the prompt of this number."""

    number: int
    prompt: str
    sample: int
    ids: list[int]


class Batch:
    """Texts that are generated together: a step for one of them is a step for all."""

    def __init__(
        self,
        jobs: list[Job],
        model: LanguageModel,
        config: GenerationConfig,
        notices: "Notices",
    ) -> None:
        self.model, self.config, self.jobs, self.notices = model, config, jobs, notices
        limits = Limits(config.max_tokens, config.stop)
        self.texts = [GrowingText(model.codec, j.prompt, j.ids, limits, model.ends) for j in jobs]
        self.waiting: list[deque[str]] = [deque() for _ in jobs]
        self.truncated = False  # whether a text grew longer than the context
        self.events = self.beams() if config.beam else self.samples()

    def pieces(self, index: int) -> Iterator[str]:
        """The pieces of a text, until it ends."""
        while True:
            while self.waiting[index]:
                yield self.waiting[index].popleft()
            if self.texts[index].finish is not None:
                return
            other, piece = next(self.events)
            if piece:
                self.waiting[other].append(piece)

    def samples(self) -> Iterator[tuple[int, str]]:
        """Sample the tokens of all texts; a prompt with several texts is read once."""
        prompts = {job.number: job.ids for job in self.jobs}
        texts = self.model.start_texts(list(prompts.values()), self.config.max_tokens)
        rows = list(prompts)
        texts.select([rows.index(job.number) for job in self.jobs])
        uniforms = [Uniforms(self.config.seed, job.number, job.sample) for job in self.jobs]
        if texts.truncated:
            self.notices.report_truncation()
        for event in grow(texts, self.texts, uniforms, self.config.sampling):
            yield event
            self.truncated = self.truncated or texts.truncated

    def beams(self) -> Iterator[tuple[int, str]]:
        """Search for the most probable texts, prompt by prompt."""
        for number in dict.fromkeys(job.number for job in self.jobs):
            indices = [index for index, job in enumerate(self.jobs) if job.number == number]
            texts = self.model.start_texts([self.jobs[indices[0]].ids], self.config.max_tokens)
            found = beam_search(texts, self.texts[indices[0]], self.config.beam)
            self.truncated = self.truncated or texts.truncated
            if len(found) < self.config.samples:
                raise DlkitError(
                    f"--beam {self.config.beam} found only {len(found)} texts; give fewer --samples"
                )
            for index in indices:
                self.texts[index] = found[self.jobs[index].sample]
                yield index, self.texts[index].text


class Notices:
    """Log messages about a model and its prompts, each at most once."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.unknown: set[str] = set()
        self.reported_truncation = False

    def report_truncation(self) -> None:
        if not self.reported_truncation:
            context = self.model.context
            log(f"{self.model.name} sees {context} tokens: only the end of longer texts")
        self.reported_truncation = True

    def report_settings(self, config: GenerationConfig) -> None:
        """Print which settings of its generation_config.json the model is not used with."""
        sampling, named = config.sampling, self.model.header.settings.get("generation", {})
        used = {
            "do_sample": not (sampling.greedy or config.beam),
            "num_beams": config.beam or 1,
            "max_new_tokens": config.max_tokens,
            "repetition_penalty": sampling.repetition_penalty,
        }
        if used["do_sample"]:
            used |= {name: getattr(sampling, name) for name in ("temperature", "top_k", "top_p")}
            used["min_p"] = sampling.min_p
        options, others = [], []
        for name, value in named.items():
            if name in used and value != used[name]:
                options.append(option_of(name, value))
            elif name not in OPTIONS and value not in (False, [], {}):
                others.append(f"{name} {str(value)[:60]}")
        if options:
            log(f"{self.model.name}: as in its generation_config.json with {' '.join(options)}")
        if others:
            log(
                f"{self.model.name}: dlkit has no option for these fields of its"
                f" generation_config.json: {', '.join(others)}"
            )

    def report_unknown(self, text: str, ids: list[int]) -> None:
        found = set(self.model.unknown_pieces(text, ids)) - self.unknown
        if found:
            self.unknown |= found
            some = ", ".join(repr(piece) for piece in sorted(found)[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            log(f"{self.model.name} does not know {some}{more}")


def option_of(name: str, value: object) -> str:
    """The option that sets a field of generation_config.json to a value."""
    if name == "do_sample":
        return "" if value else "--greedy"
    return f"{OPTIONS[name]} {value}"


def generate(
    prompts: Iterable[Line], model: LanguageModel, config: GenerationConfig = GenerationConfig()
) -> Iterator[StreamedText | Failure]:
    """Continue each prompt `config.samples` times, in order; yields each text as it grows."""
    yield from generate_numbered(enumerate(prompts), model, config)


def continuations(
    prompts: Iterable[Line],
    model: LanguageModel,
    config: GenerationConfig,
    shard: Shard | None = None,
) -> Iterator[Continuation | Failure]:
    """Continue the prompts of a `shard`; yields each text once it has ended.

    Without a shard, the processes under torchrun share the prompts.
    """

    def results(
        shared: Iterator[tuple[int, Line]],
    ) -> Iterator[list[Continuation | Failure]]:
        group: list[Continuation | Failure] = []
        for text in generate_numbered(track(shared, "generating"), model, config):
            group.append(text.result() if isinstance(text, StreamedText) else text)
            if isinstance(text, Failure) or len(group) == config.samples:
                yield group
                group = []

    numbered = Inputs(enumerate(prompts), count_of(prompts))
    groups = map_shard(results, numbered, model.device_name, shard)
    return chain.from_iterable(groups)


def generate_numbered(
    prompts: Iterable[tuple[int, Line]], model: LanguageModel, config: GenerationConfig
) -> Iterator[StreamedText | Failure]:
    """Continue each prompt; the random numbers of its texts depend on its number and the seed."""
    model.require("generate")
    notices = Notices(model)
    notices.report_settings(config)
    waiting = make_jobs(prompts, model, config.samples, notices)
    while jobs := list(islice(waiting, config.batch_size)):
        batch = Batch([job for job in jobs if isinstance(job, Job)], model, config, notices)
        indices = iter(range(len(batch.jobs)))
        for job in jobs:
            if isinstance(job, Failure):
                yield job
            else:
                yield StreamedText(job.prompt, job.sample, batch, next(indices))
        if batch.truncated:  # logged between texts, not in the middle of one
            notices.report_truncation()


def make_jobs(
    prompts: Iterable[tuple[int, Line]],
    model: LanguageModel,
    samples: int,
    notices: Notices,
) -> Iterator[Job | Failure]:
    """The texts to generate; a Failure for a prompt that cannot be encoded."""
    for number, prompt in prompts:
        if isinstance(prompt, Failure):  # of a file that cannot be read
            yield prompt
            continue
        try:
            ids = model.prompt_ids(prompt)
        except DlkitError as error:
            yield Failure(f"prompt {number + 1}", str(error))
            continue
        notices.report_unknown(prompt, ids)
        for sample in range(samples):
            yield Job(number, prompt, sample, ids)


def score(
    texts: Iterable[Line],
    model: LanguageModel,
    batch_size: int = 16,
    shard: Shard | None = None,
) -> Iterator[TextScore]:
    """Compute the log-probability of each text, or of those of a `shard`.

    Without a shard, the processes under torchrun share the texts.

    Where the end of a line is a token, it is the last one of the text. Where no token begins texts,
    the first token is not predicted and not counted. The score of a bert is the
    pseudo-log-likelihood (Salazar et al. 2020): that of each token given all others; of a bilm it
    is the mean of both directions.
    """
    model.require("score")
    notices = Notices(model)

    def results(shared: Iterator[str]) -> Iterator[TextScore]:
        waiting = track(shared, "scoring")
        while batch := list(islice(waiting, batch_size)):
            ids = [model.codec.encode(text) for text in batch]
            for pair in zip(batch, ids, strict=True):
                notices.report_unknown(*pair)
            for text, tokens in zip(batch, model.score_tokens(ids), strict=True):
                logprob = total_logprob(tokens)
                perplexity = None
                if tokens and logprob is not None:
                    perplexity = round(math.exp(min(-logprob / len(tokens), 700)), 4)
                yield TextScore(text, logprob, perplexity, tokens)

    return map_shard(results, texts, model.device_name, shard)


def fill(
    texts: Iterable[Line], model: LanguageModel, count: int = 5, shard: Shard | None = None
) -> Iterator[FilledText | Failure]:
    """Find the `count` most probable ways to fill the gaps of each text, or of those of a `shard`.

    Without a shard, the processes under torchrun share the texts.
    """
    model.require("fill")
    return map_texts(lambda text: model.fill(text, count), texts, model, shard)


def features(
    texts: Iterable[Line],
    model: LanguageModel,
    layer: int | None = None,
    shard: Shard | None = None,
) -> Iterator[Features | Failure]:
    """Compute a vector for each token of each text, or of those of a `shard`, in its context.

    The vectors are the output of a layer, by default the last one. Without a shard, the processes
    under torchrun share the texts.
    """
    model.require("features")

    def describe(text: str) -> Features:
        ids = model.codec.encode(text)
        vectors = model.features(ids, layer) if ids else []
        names = [model.codec.tokenizer.names[i] for i in ids]
        rounded = [[float(f"{number:.7g}") for number in vector] for vector in vectors]
        return Features(text, names, rounded)

    return map_texts(describe, texts, model, shard)


def map_texts(
    work: Callable[[str], R],
    texts: Iterable[Line],
    model: LanguageModel,
    shard: Shard | None,
) -> Iterator[R | Failure]:
    """The result of `work` on each text of a shard; a Failure where it raises DlkitError."""

    def results(shared: Iterator[str]) -> Iterator[R | Failure]:
        for text in track(shared, "computing"):
            try:
                yield work(text)
            except DlkitError as error:
                yield Failure(text if text.strip() else "an empty text", str(error))

    return map_shard(results, texts, model.device_name, shard)
