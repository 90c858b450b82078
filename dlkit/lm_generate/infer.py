"""Language models in use: texts continued, scored and filled in.

`load` finds out what kind of model it is. Commands on n-gram models load no torch, so all that
needs it is imported where it is used.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dlkit.core.checkpoint import Header, read_header
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.progress import Failure, log
from dlkit.core.weights import find
from dlkit.lm_generate.config import DEFAULT_MODEL, GENERATING
from dlkit.lm_generate.generate import Limits, Text, Texts, Uniforms, beam_search, grow
from dlkit.lm_generate.sampling import Sampling
from dlkit.lm_generate.units import Units

BETWEEN_TEXTS = ("<|endoftext|>", "<|end_of_text|>")  # ends a text, and begins the next


@dataclass(frozen=True)
class Token:
    """A token of a text, and its natural log-probability by the model, given those before it."""

    token: str
    id: int
    logprob: float


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
    logprob: float
    tokens: list[Token]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "prompt": self.prompt,
                "sample": self.sample,
                "text": self.text,
                "finish": self.finish,
                "logprob": self.logprob,
            }
        ]


@dataclass(frozen=True)
class Piece:
    """Characters that were just added to a text, the `number`-th that was asked for."""

    number: int
    text: str


@dataclass(frozen=True)
class Started:
    """A text is about to grow."""

    number: int
    prompt: str


@dataclass(frozen=True)
class Model:
    """A language model with its units; `network` is an NGram, or a module of torch."""

    name: str
    header: Header
    units: Units
    network: Any

    @property
    def is_ngram(self) -> bool:
        return self.header.arch == "ngram"
