"""Texts that a neural model continues with a cached state, and the choice of tokens.

Shapes: B texts, T new tokens, V tokens of the vocabulary, N rows of a beam search.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from dlkit.core.errors import DlkitError
from dlkit.core.generation.sampling import Sampling
from dlkit.core.generation.tensor_sampling import choose
from dlkit.lm_generate.models.cache import span
from dlkit.lm_generate.models.language_model import NextTokenNetwork

PREFILL_CHUNK = 1 << 12  # tokens of prompts that are read at once, over all rows


class NeuralTexts:
    """A batch of texts that a network continues; see generate.TextBatch."""

    def __init__(
        self,
        network: NextTokenNetwork,
        prompts: Sequence[Sequence[int]],
        room: int,
        banned: Collection[int] = (),
        sources: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Prompts have one token or more and grow by at most `room` tokens.

        `sources` are the inputs of an encoder, one for each prompt.
        """
        self.network = network
        self.sources = None if sources is None else [list(source) for source in sources]
        self.device = next(network.parameters()).device
        self.banned = torch.tensor(sorted(banned), dtype=torch.long, device=self.device)
        self.ids = [list(prompt) for prompt in prompts]
        context = network.context
        # Where the context of each text begins.
        self.starts = [
            0 if context is None or len(ids) <= context else len(ids) - tokens_kept(context)
            for ids in self.ids
        ]
        self.room = room
        self.read()

    @property
    def truncated(self) -> bool:
        return any(self.starts)

    @torch.inference_mode()
    def read(self) -> None:
        """Compute a new state from the texts, as far as they fit in the context."""
        seen = [ids[start:] for ids, start in zip(self.ids, self.starts, strict=True)]
        lengths = torch.tensor([len(ids) for ids in seen])
        capacity = int(lengths.max()) + self.room
        if self.network.context is not None:
            capacity = min(capacity, self.network.context)
        self.state = self.network.start(len(seen), capacity, **self.encoder_inputs())
        block = max(PREFILL_CHUNK // len(seen), 1)
        padded = pad_sequence([torch.tensor(ids) for ids in seen], batch_first=True)
        logits: Tensor | None = None
        for begin in range(0, int(lengths.max()), block):
            part = padded[:, begin : begin + block].to(self.device)
            here = (lengths - begin).clamp(0, part.shape[1])
            if int(here.min()) == part.shape[1]:
                logits = self.network.next_logits(part, self.state)
                continue
            last = here.to(self.device)
            found = self.network.next_logits(part, self.state, last)
            # A row that ended in an earlier block keeps its logits.
            logits = found if logits is None else torch.where(last[:, None] > 0, found, logits)
        assert logits is not None
        self.logits = logits

    def encoder_inputs(self) -> dict[str, Tensor]:
        """Further arguments of `start` for an encoder-decoder."""
        if self.sources is None:
            return {}
        context = self.network.context
        cut = [torch.tensor(ids if context is None else ids[-context:]) for ids in self.sources]
        lengths = torch.tensor([len(ids) for ids in cut], device=self.device)
        padded = pad_sequence(cut, batch_first=True)
        # As the cache: the output for a source then does not depend on the lengths of the others.
        whole = span(padded.shape[1], self.device)
        padded = F.pad(padded, (0, whole - padded.shape[1])).to(self.device)
        return {"source": padded, "source_lengths": lengths}

    @torch.inference_mode()
    def choose(
        self, sampling: Sampling, uniforms: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """Sample the next token of each text; returns tokens and their log-probabilities."""
        logits = allowed = self.logits
        totals = logits.logsumexp(-1)
        if sampling.repetition_penalty != 1:
            allowed = penalize(logits, self.ids, sampling.repetition_penalty)
        # In place: no log-probability of a banned token is needed.
        allowed.index_fill_(1, self.banned, -torch.inf)
        drawn = torch.from_numpy(np.asarray(uniforms)).to(self.device)
        tokens = choose(allowed, sampling, drawn)
        logprobs = (logits.gather(1, tokens[:, None])[:, 0] - totals).tolist()
        if any(map(math.isnan, logprobs)):
            raise DlkitError("the model's logits overflow; give --precision fp32")
        return tokens.tolist(), logprobs

    @torch.inference_mode()
    def best(self, count: int) -> tuple[list[list[int]], list[list[float]]]:
        """The `count` most probable next tokens of each text, and their log-probabilities."""
        logprobs = self.logits.log_softmax(-1).index_fill_(1, self.banned, -torch.inf)
        found = logprobs.topk(min(count, logprobs.shape[-1]), dim=-1)
        return found.indices.tolist(), found.values.tolist()

    @torch.inference_mode()
    def append(self, tokens: Sequence[int]) -> None:
        """Append a token to each text, and compute the logits of the next one."""
        context = self.network.context
        full = False
        for row, token in enumerate(tokens):
            if context is not None and len(self.ids[row]) - self.starts[row] >= context:
                self.starts[row] = len(self.ids[row]) + 1 - tokens_kept(context)
                full = True
            self.ids[row].append(token)
        self.room = max(self.room - 1, 1)
        if full:
            self.read()
            return
        new = torch.tensor(tokens, device=self.device)[:, None]
        self.logits = self.network.next_logits(new, self.state)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Keep these texts, which may repeat."""
        if list(rows) == list(range(len(self.ids))):
            return
        self.ids = [list(self.ids[row]) for row in rows]
        self.starts = [self.starts[row] for row in rows]
        if self.sources is not None:
            self.sources = [self.sources[row] for row in rows]
        index = torch.tensor(rows, device=self.device)
        self.state = self.state.select(index)
        self.logits = self.logits[index]


def tokens_kept(context: int) -> int:
    """Number of tokens that stay in the context when it is full.

    They are read again then; a window that moves by one token at a time would be slow.
    """
    return max(context * 3 // 4, 1)


def penalize(logits: Tensor, texts: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Apply a repetition penalty to the logits (B, V) of the tokens of each text."""
    changed = logits.clone()
    for row, ids in enumerate(texts):
        seen = torch.tensor(list(set(ids)), device=logits.device)
        old = logits[row, seen]
        changed[row, seen] = torch.where(old > 0, old / penalty, old * penalty)
    return changed
