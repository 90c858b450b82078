"""Language models in use: prompts continued, texts scored, gaps filled.

Commands on n-gram models load no torch, so what needs it is imported where it is used.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header, read_header
from dlkit.core.store.weights import bundled, cached, find
from dlkit.lm_generate.config import DEFAULT_MODEL, GENERATING, TRANSFORMERS
from dlkit.lm_generate.generate import Limits, Text, Texts, beam_search, grow
from dlkit.lm_generate.text_codec import TextCodec

BETWEEN_TEXTS = ("<|endoftext|>", "<|end_of_text|>")  # ends a text, and begins the next
END = ("</s>", "<eos>", "[EOS]", *BETWEEN_TEXTS)
ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True)
class Token:
    """A token, and its natural log-probability by the model, given the text before it.

    What cannot be, by an n-gram model without smoothing, has None.
    """

    token: str
    id: int
    logprob: float | None


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt.

    `finish` is why it ended: length (--max-tokens), stop (before a stop string) or end (the model's
    own token for that).
    """

    prompt: str
    sample: int
    text: str
    finish: str
    logprob: float | None
    tokens: list[Token]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "tokens"}
        ]


@dataclass(frozen=True)
class Generation:
    """How prompts are continued."""

    sampling: Sampling = field(default_factory=Sampling)
    samples: int = 1
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    beam: int = 0
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.beam and self.sampling != Sampling():
            raise DlkitError("--beam finds the most probable texts: it takes no other choice")
        if self.beam and self.samples > self.beam:
            raise DlkitError(f"--beam {self.beam} finds {self.beam} texts, not {self.samples}")
        if self.sampling.greedy and self.samples > 1:
            raise DlkitError("--greedy always writes the same text: ask for one")
        if "" in self.stop:
            raise DlkitError("--stop takes a text of one character or more")


@dataclass(frozen=True)
class Model:
    """A language model with its units; `network` is an NGram, or a module of torch."""

    name: str
    header: Header
    units: TextCodec
    network: Any

    @property
    def arch(self) -> str:
        return self.header.arch

    @property
    def device_name(self) -> str | None:
        """Where torch computes; None without it."""
        if self.arch == "ngram":
            return None
        return str(next(self.network.parameters()).device)

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end a text; the end of a line is a part of it."""
        if self.arch == "t5":
            return frozenset({self.marks["</s>"], self.marks["<extra_id_1>"]})
        special = self.units.tokenizer.special
        found = {special[name] for name in END if name in special}
        return frozenset(found - {self.units.line_end})

    @cached_property
    def never_written(self) -> set[int]:
        """What is no text: special tokens, the unknown one too, and ids without a token."""
        tokenizer = self.units.tokenizer
        special = set(tokenizer.special.values()) - {self.units.line_end}
        without = set(range(self.size)) - tokenizer.names.keys()
        return (special | without) - self.ends

    @cached_property
    def size(self) -> int:
        """The ids that the model knows."""
        if self.arch == "ngram":
            return self.units.size
        rows: int = self.network.embedding.num_embeddings
        return rows

    @property
    def tokens_with_marks(self) -> int:
        """The tokenizer's tokens, with those that a bert or a t5 needs besides."""
        if self.arch not in ("bert", "t5"):
            return self.units.size
        return max(self.units.size, max(self.marks.values()) + 1)

    @cached_property
    def marks(self) -> dict[str, int]:
        """The ids of the tokens that bert and t5 need, which the tokenizer may lack."""
        from dlkit.lm_generate.masking import bert_marks, t5_marks

        return (t5_marks if self.arch == "t5" else bert_marks)(self.units.tokenizer)

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of a text to continue: one or more."""
        units = self.units
        ids = units.encode(prompt)
        if self.arch == "t5":
            return ids
        between = {units.tokenizer.special.get(name) for name in BETWEEN_TEXTS}
        if units.begin is not None and (not ids or units.begin not in between):
            return [units.begin, *ids]
        if not ids:
            ids = units.encode("\n")
            if not ids or ids[0] == units.tokenizer.unknown_id:
                raise DlkitError(f"the prompt is empty, and {self.name} needs a first character")
        return ids

    def unknown(self, text: str, ids: list[int]) -> list[str]:
        """The characters or words of a text, with its ids, that the model does not know."""
        tokenizer = self.units.tokenizer
        if tokenizer.unknown_id is None or tokenizer.unknown_id not in ids:
            return []
        spans = tokenizer.encode_spans(text)
        return [text[start:end] for i, (start, end) in spans if i == tokenizer.unknown_id]

    def texts(self, prompts: list[list[int]], room: int) -> Texts:
        """The texts of these prompts, to grow by at most `room` tokens."""
        if self.arch == "ngram":
            from dlkit.lm_generate.ngram_texts import NGramTexts

            return NGramTexts(self.network, prompts, self.never_written)
        from dlkit.lm_generate.neural_texts import NeuralTexts

        if self.arch == "t5":  # what fills a gap at the end of the prompt
            gap, end = self.marks["<extra_id_0>"], self.marks["</s>"]
            sources = [[*ids, gap, end] for ids in prompts]
            begun = [[self.marks["<pad>"], gap] for _ in prompts]
            return NeuralTexts(self.network, begun, room, self.never_written, sources)
        return NeuralTexts(self.network, prompts, room, self.never_written)

    def token(self, id: int, logprob: float) -> Token:
        name = self.units.tokenizer.names.get(id, "")
        return Token(name, id, round(logprob, 6) if math.isfinite(logprob) else None)


def one_line(text: str) -> str:
    r"""The text with its line breaks as \n."""
    return text.translate(ESCAPES)


def load(
    model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: Precision = "auto"
) -> Model:
    """The model of this name, file or URL; of a folder or `hf:OWNER/NAME` from Hugging Face."""
    name = str(model)
    if name.startswith("hf:") or (Path(name).is_dir() and not is_bundled(name)):
        from dlkit.lm_generate import huggingface

        if (best := Path(name) / "best.safetensors").is_file():
            raise DlkitError(f"{name} is the folder of a run: give {best}")
        folder = huggingface.find(name)
        assert folder is not None
        return of_network(name, *huggingface.load(folder), device, precision)
    if name.endswith((".arpa", ".arpa.gz")):
        return of_counts(name, Path(name))
    path = find("lm-generate", name)
    header = read_header(path, "lm-generate")
    if header.arch == "ngram":
        if device not in {"auto", "cpu"} or precision in {"bf16", "fp16"}:
            raise DlkitError(f"{name} counts n-grams: it needs no --device and no --precision")
        return of_counts(name, path)
    from dlkit.core.store import checkpoint

    return of_network(name, *checkpoint.load(path), device, precision)


def is_bundled(name: str) -> bool:
    """Whether there is a model of this name, which then is meant, and no folder."""
    return name in {path.stem for path in [*bundled("lm-generate"), *cached("lm-generate")]}


def of_counts(name: str, path: Path) -> Model:
    """An n-gram model, ready."""
    from dlkit.lm_generate import ngram

    network = ngram.load(path)
    return Model(name, network.header, network.units, network)


def of_network(
    name: str, header: Header, weights: dict[str, Any], device: str, precision: Precision
) -> Model:
    """The network of a checkpoint, ready on its device, with weights as they are computed with."""
    from dlkit.core.nn.fast_inference import pack_linears
    from dlkit.core.nn.rebuild import check_vocabulary_size, rebuild
    from dlkit.core.parallel import device as devices
    from dlkit.lm_generate.model import build

    units, network = rebuild(name, header, weights, build, TextCodec.from_settings)
    chosen = devices.choose(device)
    network.eval().to(chosen, devices.dtype(chosen, precision)).requires_grad_(False)
    if header.arch in TRANSFORMERS:
        pack_linears(network)
    model = Model(name, header, units, network)
    check_vocabulary_size(name, model.tokens_with_marks, model.size)
    return model


class Writing:
    """A text that is being written: its pieces as they come, then its `result`.

    Other texts of its batch grow with it.
    """

    def __init__(self, prompt: str, sample: int, batch: "Batch", place: int) -> None:
        self.prompt, self.sample = prompt, sample
        self.batch, self.place = batch, place

    def __iter__(self) -> Iterator[str]:
        return self.batch.pieces_of(self.place)

    def result(self) -> Continuation:
        """The text, once it has ended."""
        for _ in self:
            pass
        text, model = self.batch.texts[self.place], self.batch.model
        tokens = [model.token(*pair) for pair in zip(text.ids, text.logprobs, strict=True)]
        assert text.finish is not None
        return Continuation(self.prompt, self.sample, text.text, text.finish, total(tokens), tokens)


def total(tokens: list[Token]) -> float | None:
    """The log-probability of all of them."""
    logprobs = [token.logprob for token in tokens if token.logprob is not None]
    return round(math.fsum(logprobs), 4) if len(logprobs) == len(tokens) else None


@dataclass(frozen=True)
class Job:
    """A text to write: the `sample`-th for the prompt of this number."""

    number: int
    prompt: str
    sample: int
    ids: list[int]


class Batch:
    """Texts that are written together; what one of them is waited for, is computed for all."""

    def __init__(self, jobs: list[Job], model: Model, how: Generation, notices: "Notices") -> None:
        self.model, self.how, self.jobs, self.notices = model, how, jobs, notices
        limits = Limits(how.max_tokens, how.stop)
        self.texts = [Text(model.units, j.prompt, j.ids, limits, model.ends) for j in jobs]
        self.waiting: list[deque[str]] = [deque() for _ in jobs]
        self.slid = False  # whether a text grew out of the model's view
        self.events = self.beams() if how.beam else self.samples()

    def pieces_of(self, place: int) -> Iterator[str]:
        while True:
            while self.waiting[place]:
                yield self.waiting[place].popleft()
            if self.texts[place].finish is not None:
                return
            other, piece = next(self.events)
            if piece:
                self.waiting[other].append(piece)

    def samples(self) -> Iterator[tuple[int, str]]:
        """Draw the tokens of all texts; a prompt with several texts is read once."""
        prompts = {job.number: job.ids for job in self.jobs}
        texts = self.model.texts(list(prompts.values()), self.how.max_tokens)
        rows = list(prompts)
        texts.select([rows.index(job.number) for job in self.jobs])
        uniforms = [Uniforms(self.how.seed, job.number, job.sample) for job in self.jobs]
        if texts.slid:
            self.notices.slid()
        for event in grow(texts, self.texts, uniforms, self.how.sampling):
            yield event
            self.slid = self.slid or texts.slid

    def beams(self) -> Iterator[tuple[int, str]]:
        """Search for the most probable texts, prompt by prompt."""
        for number in dict.fromkeys(job.number for job in self.jobs):
            places = [place for place, job in enumerate(self.jobs) if job.number == number]
            texts = self.model.texts([self.jobs[places[0]].ids], self.how.max_tokens)
            found = beam_search(texts, self.texts[places[0]], self.how.beam)
            self.slid = self.slid or texts.slid
            if len(found) < self.how.samples:
                raise DlkitError(f"--beam {self.how.beam} found no more than {len(found)} texts")
            for place in places:
                self.texts[place] = found[self.jobs[place].sample]
                yield place, self.texts[place].text


class Notices:
    """What is said of a model and its prompts, each thing once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.unknown: set[str] = set()
        self.said_slid = False

    def slid(self) -> None:
        if not self.said_slid:
            context = self.model.network.context
            log(f"{self.model.name} sees {context} tokens: of longer texts it sees the end")
        self.said_slid = True

    def unknown_in(self, text: str, ids: list[int]) -> None:
        found = set(self.model.unknown(text, ids)) - self.unknown
        if found:
            self.unknown |= found
            some = ", ".join(repr(piece) for piece in sorted(found)[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            log(f"{self.model.name} does not know {some}{more}")


def generate(
    prompts: Iterable[str], model: Model, how: Generation = Generation()
) -> Iterator[Writing | Failure]:
    """Continue each prompt `how.samples` times, in order: each text as it grows."""
    yield from generate_numbered(enumerate(prompts), model, how)


def continuations(
    prompts: Iterable[str], model: Model, how: Generation, shard: Shard | None = None
) -> Iterator[Continuation | Failure]:
    """The texts, each once it has ended, of a `share` of the prompts.

    Without one, the processes under torchrun share them.
    """

    def results(shared: Iterator[tuple[int, str]]) -> Iterator[list[Continuation | Failure]]:
        of_prompt: list[Continuation | Failure] = []
        for text in generate_numbered(shared, model, how):
            of_prompt.append(text.result() if isinstance(text, Writing) else text)
            if isinstance(text, Failure) or len(of_prompt) == how.samples:
                yield of_prompt
                of_prompt = []

    of_prompts = map_shard(results, enumerate(prompts), model.device_name, shard)
    return chain.from_iterable(of_prompts)


def generate_numbered(
    prompts: Iterable[tuple[int, str]], model: Model, how: Generation
) -> Iterator[Writing | Failure]:
    """Continue each prompt; its number decides, with the seed, what is drawn for it."""
    if model.arch not in (*GENERATING, "ngram"):
        raise DlkitError(f"{model.name} is of --arch {model.arch}, which does not continue texts")
    notices = Notices(model)
    waiting = jobs_of(prompts, model, how.samples, notices)
    while some := list(islice(waiting, how.batch_size)):
        batch = Batch([job for job in some if isinstance(job, Job)], model, how, notices)
        places = iter(range(len(batch.jobs)))
        for job in some:
            if isinstance(job, Failure):
                yield job
            else:
                yield Writing(job.prompt, job.sample, batch, next(places))
        if batch.slid:  # said between texts, not in the midst of one
            notices.slid()


def jobs_of(
    prompts: Iterable[tuple[int, str]], model: Model, samples: int, notices: Notices
) -> Iterator[Job | Failure]:
    for number, prompt in prompts:
        try:
            ids = model.prompt_ids(prompt)
        except DlkitError as error:
            yield Failure(f"prompt {number + 1}", str(error))
            continue
        notices.unknown_in(prompt, ids)
        for sample in range(samples):
            yield Job(number, prompt, sample, ids)


@dataclass(frozen=True)
class Score:
    """How probable a model finds a text: natural logarithms."""

    text: str
    logprob: float | None
    perplexity: float | None  # per token; a text without tokens has none
    tokens: list[Token]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "logprob": self.logprob,
                "perplexity": self.perplexity,
                "tokens": len(self.tokens),
                "text": self.text,
            }
        ]


def score(
    texts: Iterable[str], model: Model, batch_size: int = 16, shard: Shard | None = None
) -> Iterator[Score]:
    """The log-probability of each text, or of a `share` of them.

    Without one, the processes under torchrun share them.

    Where the end of a line is a token, it counts as the last of the text. Where texts have no token
    that begins them, nothing foretells the first one, which then does not count. Of a bert it is
    the pseudo-log-likelihood (Salazar et al. 2020): that of each token, given all others. Of a bilm
    it is the mean of both directions.
    """
    notices = Notices(model)

    def results(waiting: Iterator[str]) -> Iterator[Score]:
        while some := list(islice(waiting, batch_size)):
            ids = []
            for text in some:
                ids.append(model.units.encode(text))
                notices.unknown_in(text, ids[-1])
            for text, tokens in zip(some, scored_tokens(ids, model), strict=True):
                logprob = total(tokens)
                perplexity = None
                if tokens and logprob is not None:
                    perplexity = round(math.exp(min(-logprob / len(tokens), 700)), 4)
                yield Score(text, logprob, perplexity, tokens)

    return map_shard(results, texts, model.device_name, shard)


def scored_tokens(texts: list[list[int]], model: Model) -> Iterator[list[Token]]:
    """The tokens of each text that are foretold, with their log-probabilities."""
    if model.arch == "t5":
        raise DlkitError(f"{model.name} is of --arch t5, which fills gaps and scores no texts")
    units = model.units
    starts = [] if units.begin is None else [units.begin]
    if model.arch not in ("bert", "bilm") and units.line_end is not None:
        texts = [[*ids, units.line_end] for ids in texts]
    found: list[list[float]]
    if model.arch == "ngram":
        found = [model.network.score([*starts, *ids])[len(starts) :].tolist() for ids in texts]
    else:
        from dlkit.lm_generate import scoring

        if model.arch == "bert":
            found = scoring.pseudo_logprobs(texts, model.network, model.marks)
        elif model.arch == "bilm":
            found = scoring.both_ways(texts, model.network, starts)
        else:
            found = scoring.logprobs(texts, model.network, starts)
    for ids, logprobs in zip(texts, found, strict=True):
        counted = ids[len(ids) - len(logprobs) :]
        yield [model.token(*pair) for pair in zip(counted, logprobs, strict=True)]
