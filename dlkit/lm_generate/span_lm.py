"""Models of text spans as T5: an encoder reads a text with gaps, a decoder writes the gaps.

Shapes: B texts, T tokens.
"""

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.lm_generate.generate import GrowingText, Limits, beam_search
from dlkit.lm_generate.models.t5 import T5
from dlkit.lm_generate.neural import NeuralLM, Objective, cross_entropy, special_ids
from dlkit.lm_generate.neural_texts import NeuralTexts
from dlkit.lm_generate.results import Candidate, FilledText, Gap
from dlkit.lm_generate.text_codec import SENTINELS, TextCodec, insert
from dlkit.tokenize import Tokenizer

SPECIAL = ("<pad>", "</s>", *SENTINELS)
SENTINEL = re.compile(r"(<extra_id_\d+>)")
MAX_SPAN_TOKENS = 64  # that a T5 writes for all gaps of a text


class SpanLM(NeuralLM):
    """A model of the spans that were cut out of a text."""

    network: T5

    verbs: ClassVar[frozenset[str]] = frozenset({"generate", "fill"})
    predicts_all_tokens: ClassVar[bool] = False

    @classmethod
    def special_ids(cls, tokenizer: Tokenizer) -> dict[str, int]:
        return special_ids(tokenizer, SPECIAL)

    @cached_property
    def special(self) -> dict[str, int]:
        return self.special_ids(self.codec.tokenizer)

    @cached_property
    def decoder_start(self) -> int | None:
        """The token that begins an output of a model of Hugging Face's; None for one of ours."""
        start: int | None = self.header.settings.get("decoder_start")
        return start

    @cached_property
    def ends(self) -> frozenset[int]:
        if self.decoder_start is not None:
            return super().ends
        return frozenset({self.special["</s>"], self.special["<extra_id_1>"]})

    def prompt_ids(self, prompt: str) -> list[int]:
        return self.codec.encode(prompt)

    def start_texts(self, prompts: Sequence[list[int]], max_tokens: int) -> NeuralTexts:
        """Texts that fill a gap at the end of each prompt.

        Those of a model of Hugging Face's are its output for the prompt, as there: it may have been
        trained on another task.
        """
        gap, end = self.special["<extra_id_0>"], self.special["</s>"]
        if self.decoder_start is not None:
            starts = [[self.decoder_start] for _ in prompts]
            sources = [[*ids, end] for ids in prompts]
            return NeuralTexts(self.network, starts, max_tokens, self.banned, sources)
        sources = [[*ids, gap, end] for ids in prompts]
        starts = [[self.special["<pad>"], gap] for _ in prompts]
        return NeuralTexts(self.network, starts, max_tokens, self.banned, sources)

    @torch.inference_mode()
    def fill(self, text: str, count: int) -> FilledText:
        """The most probable texts for <extra_id_0>, <extra_id_1>, ..."""
        pieces = SENTINEL.split(text)
        names = pieces[1::2]
        if not names or names != [f"<extra_id_{n}>" for n in range(len(names))]:
            raise DlkitError(
                "its gaps are not <extra_id_0>, <extra_id_1>, ...; number them in this order"
            )
        special, codec = self.special, self.codec
        source: list[int] = []
        for number, piece in enumerate(pieces):
            source += [special[piece]] if number % 2 else codec.encode(piece)
        source.append(special["</s>"])
        after = f"<extra_id_{len(names)}>"
        sentinels = {special[name]: number for number, name in enumerate(names)}
        banned = self.banned - {*sentinels, special.get(after, -1), special["</s>"]}
        ends = frozenset({special["</s>"], special.get(after, special["</s>"])})
        begin = special["<pad>"] if self.decoder_start is None else self.decoder_start
        start = [begin, special["<extra_id_0>"]]
        texts = NeuralTexts(self.network, [start], MAX_SPAN_TOKENS, banned, [source])
        blank = GrowingText(codec, "", [], Limits(MAX_SPAN_TOKENS), ends)
        gaps: list[list[Candidate]] = [[] for _ in names]
        known: set[tuple[str, ...]] = set()
        for found in beam_search(texts, blank, count):
            spans: list[list[int]] = [[] for _ in names]
            number = 0
            for token in found.ids:
                if token in sentinels:
                    number = sentinels[token]
                elif token not in ends:
                    spans[number].append(token)
            span_texts = tuple(map(codec.decode, spans))
            if span_texts in known:
                continue
            known.add(span_texts)
            probability = round(math.exp(sum(found.logprobs)), 4)
            whole = pieces[0]
            for span, behind in zip(span_texts, pieces[2::2], strict=True):
                whole = insert(span, whole, behind)
            for gap, span in zip(gaps, span_texts, strict=True):
                gap.append(Candidate(span, probability, whole))
        return FilledText(text, [Gap(candidates) for candidates in gaps])

    @classmethod
    def objective(cls, codec: TextCodec, next_sentence: bool = False) -> Objective:
        """T5's: cross-entropy of the spans that were cut out, and of their sentinels."""
        special = cls.special_ids(codec.tokenizer)

        def loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
            source, spans = corrupt_spans(ids, special)
            return cross_entropy(network(shift_right(spans, special), source=source), spans)

        return loss


def corrupt_spans(
    ids: Tensor,
    special: dict[str, int],
    generator: torch.Generator | None = None,
    share: float = 0.15,
    mean_span: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """Replace spans of ids (B, T) by sentinels; returns the source and the target.

    The source (B, S) is the text with sentinels, the target (B, U) the spans, each after its
    sentinel; both end in </s>, and their lengths depend on T alone. Spans and the parts between
    them are drawn as T5 draws them: all ways to cut the same number of tokens into the same number
    of parts are equally likely.
    """
    rows, tokens = ids.shape
    if tokens < 2:
        raise DlkitError("a t5 needs 2 tokens or more in its context; give a larger --context")
    num_cut = min(max(round(tokens * share), 1), tokens - 1)
    spans = min(max(round(num_cut / mean_span), 1), tokens - num_cut, num_cut)
    if f"<extra_id_{spans - 1}>" not in special:
        raise DlkitError(
            f"{tokens} tokens have {spans} spans, more than T5's 100 sentinels; lower --context"
        )
    sentinels = torch.tensor([special[f"<extra_id_{n}>"] for n in range(spans)], device=ids.device)
    end = torch.tensor([special["</s>"]], device=ids.device)
    sources, targets = [], []
    for row in ids:
        kept = random_partition(tokens - num_cut, spans, generator)
        cut = random_partition(num_cut, spans, generator)
        lengths = torch.stack([kept, cut], dim=1).flatten().tolist()
        pieces = row.split(lengths)
        source = [
            part for pair in zip(pieces[::2], sentinels.split(1), strict=True) for part in pair
        ]
        target = [
            part for pair in zip(sentinels.split(1), pieces[1::2], strict=True) for part in pair
        ]
        sources.append(torch.cat([*source, end]))
        targets.append(torch.cat([*target, end]))
    return torch.stack(sources), torch.stack(targets)


def random_partition(total: int, parts: int, generator: torch.Generator | None) -> Tensor:
    """Draw `parts` positive numbers that sum to `total`."""
    cuts = torch.randperm(total - 1, generator=generator)[: parts - 1].sort().values + 1
    bounds = torch.cat([torch.tensor([0]), cuts, torch.tensor([total])])
    return bounds.diff()


def shift_right(target: Tensor, special: dict[str, int]) -> Tensor:
    """Decoder inputs for target (B, T): <pad>, and all but the last token."""
    return torch.cat([target.new_full((len(target), 1), special["<pad>"]), target[:, :-1]], dim=1)
