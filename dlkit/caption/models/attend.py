"""Show, Attend and Tell (Xu et al. 2015): at each word an LSTM looks at the map anew.

Attention compares its state with each place (section 3.1.2). Soft attention sees the mean of the
places by their shares alpha, times the gate beta (section 4.2.1); hard attention sees one place,
drawn by them while it trains (section 4.1), the most probable one later. The word comes from a deep
output layer (equation 7), whose matrix is that of the embedding.

Shapes: B images, P places of C numbers, T tokens, V vocabulary, W width, R = M x K rows that are
written for M images.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.caption.model import Captioner, DecoderOutput
from dlkit.core.nn.decoder_state import EncoderMemory
from dlkit.core.nn.recurrent import Past, Recurrence, RecurrentWriting

EXPECTED = 0.5  # share of images for which hard attention trains on the mean (section 4.1)


class Looking(Recurrence):
    """The LSTM's state, and what is looked at: annotations (1, M, P, C), keys (1, M, P, W)."""

    def __init__(self, past: list[Past], sources: EncoderMemory) -> None:
        super().__init__(past)
        self.sources = sources

    def select(self, rows: Tensor) -> "Looking":
        return Looking(super().select(rows).past, self.sources.select(rows))


class Attend(RecurrentWriting, Captioner):
    baseline: Tensor

    def __init__(
        self, width: int = 256, dropout: float = 0.3, hard: bool = False, **captioner: Any
    ) -> None:
        """The others are the arguments of `Captioner`."""
        super().__init__(**captioner)
        self.hard = hard
        self.add_embedding(self.vocab_size, width, dropout, untied=False)
        self.annotation_norm = nn.LayerNorm(self.channels)
        self.cell_start = nn.Linear(self.channels, width)
        self.output_start = nn.Linear(self.channels, width)
        self.key = nn.Linear(self.channels, width, bias=False)
        self.query = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)
        self.gate = nn.Linear(width, 1)
        # The LSTM's four gates: what comes from the word is computed for all words at once.
        self.gates_of_word = nn.Linear(width, 4 * width)
        self.gates_of_rest = nn.Linear(self.channels + width, 4 * width, bias=False)
        # It remembers until it learns to forget.
        nn.init.constant_(self.gates_of_word.bias[width : 2 * width], 1.0)
        self.from_output = nn.Linear(width, width)
        self.from_context = nn.Linear(self.channels, width, bias=False)
        if hard:
            # The moving average of captions' log-probabilities, which REINFORCE compares with.
            self.register_buffer("baseline", torch.zeros(()))

    def start(self, memory: Tensor, lengths: Tensor, capacity: int) -> Looking:
        annotations = self.annotation_norm(memory)
        mean = annotations.mean(1)
        past = torch.tanh(self.output_start(mean)), torch.tanh(self.cell_start(mean))
        keys = self.key(annotations)
        return Looking([past], EncoderMemory([annotations[None], keys[None]]))

    def encode_image(self, state: Looking) -> tuple[Tensor, Tensor]:
        """The shares alpha (R, P), in fp32, and the gate beta (R, 1), by the state so far."""
        h = state.past[0][0]
        (_, (keys,)) = state.sources.tensors
        query = state.sources.grouped(self.query(h)[:, None])  # (M, K, W)
        scores = self.score(torch.tanh(query[:, :, None] + keys[:, None]))[..., 0]
        alpha = scores.float().softmax(-1).flatten(0, 1)
        return alpha, torch.sigmoid(self.gate(h))

    def context(self, shares: Tensor, beta: Tensor, state: Looking) -> Tensor:
        """What is seen (R, C) of the places by these shares (R, P)."""
        (annotations,) = state.sources.tensors[0]
        mixed = state.sources.grouped(shares.to(annotations.dtype)[:, None]) @ annotations
        return beta * mixed.flatten(0, 1)

    def read(self, of_word: Tensor, context: Tensor, state: Looking) -> Tensor:
        """The LSTM's output (R, W), after the newest words' gates (R, 4 W) and the context."""
        ((h, cell),) = state.past
        gates = of_word + self.gates_of_rest(torch.cat([context, h], dim=-1))
        enter, keep, new, say = gates.float().chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
        h = (say.sigmoid() * cell.tanh()).to(context.dtype)
        state.past = [(h, cell)]
        return h

    def tell(self, x: Tensor, h: Tensor, context: Tensor) -> Tensor:
        """Logits (..., V) by the newest words x, the LSTM's outputs h and what was seen."""
        mixed: Tensor = x + self.from_output(self.dropout(h)) + self.from_context(context)
        return self.logits(self.dropout(mixed))

    def forward(
        self, seen: Tensor, target: Tensor, at: Tensor | None = None, owners: Tensor | None = None
    ) -> DecoderOutput:
        memory = self.memory_of(seen, owners)
        rows = len(memory)
        state = self.start(memory, target.new_full((rows,), memory.shape[1]), target.shape[1])
        drawing = self.training and self.hard
        drawn = torch.rand(rows, device=memory.device) >= EXPECTED if drawing else None
        words = self.embed(target)
        outputs, contexts, alphas, chosen = [], [], [], []
        for of_word in self.gates_of_word(words).unbind(1):
            alpha, beta = self.encode_image(state)
            if drawn is None:
                shares = self.shares(alpha)
            else:
                place = torch.multinomial(alpha.detach(), 1)
                one = torch.zeros_like(alpha).scatter_(1, place, 1.0)
                shares = torch.where(drawn[:, None], one, alpha)
                chosen.append(alpha.gather(1, place)[:, 0].log() * drawn)
            context = self.context(shares, beta, state)
            outputs.append(self.read(of_word, context, state))
            contexts.append(context)
            alphas.append(alpha)
        parts = [words, torch.stack(outputs, dim=1), torch.stack(contexts, dim=1)]
        logits = self.tell(*(parts if at is None else [part[at] for part in parts]))
        return DecoderOutput(
            logits, torch.stack(alphas, dim=1), torch.stack(chosen, dim=1) if chosen else None
        )

    def shares(self, alpha: Tensor) -> Tensor:
        """What is seen of each place (R, P) when nothing is drawn."""
        if not self.hard:
            return alpha
        return F.one_hot(alpha.argmax(-1), alpha.shape[-1]).to(alpha)

    def step(self, ids: Tensor, state: Looking) -> tuple[Tensor, Tensor]:
        x = self.embed(ids)
        alpha, beta = self.encode_image(state)
        context = self.context(self.shares(alpha), beta, state)
        h = self.read(self.gates_of_word(x), context, state)
        return self.tell(x, h, context), alpha
