"""Soft and hard visual attention (Xu et al. 2015): an LSTM attends to the image at each word.

Additive attention compares its state with each location (section 3.1.2). The context of soft
attention is the mean of the locations, weighted by alpha, times the gate beta (section 4.2.1). Hard
attention uses one location: sampled by alpha in training (section 4.1), the most probable one in
inference. A deep output layer (equation 7), which shares the embedding's matrix, predicts the word.

Shapes: B images, P locations of C channels, T tokens, V vocabulary, W width, R = M x K rows (beams)
of M images.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.caption.models.captioner import Captioner, DecoderOutput
from dlkit.core.nn.decoder_state import EncoderMemory
from dlkit.core.nn.recurrent import Past, RecurrentDecoder, RecurrentState

SOFT_SHARE = 0.5  # of the images that hard attention trains on with soft weights (section 4.1)


class AttendState(RecurrentState):
    """The LSTM's state, and the annotations (1, M, P, C) with their keys (1, M, P, W)."""

    def __init__(self, past: list[Past], sources: EncoderMemory) -> None:
        super().__init__(past)
        self.sources = sources

    def select(self, rows: Tensor) -> "AttendState":
        return AttendState(super().select(rows).past, self.sources.select(rows))


class Attend(RecurrentDecoder, Captioner):
    baseline: Tensor

    def __init__(
        self,
        width: int = 256,
        dropout: float = 0.3,
        hard_attention: bool = False,
        **captioner: Any,
    ) -> None:
        """The other arguments are those of `Captioner`."""
        super().__init__(**captioner)
        self.hard_attention = hard_attention
        self.add_embedding(self.vocab_size, width, dropout)
        self.annotation_norm = nn.LayerNorm(self.channels)
        self.cell_start = nn.Linear(self.channels, width)
        self.output_start = nn.Linear(self.channels, width)
        self.key = nn.Linear(self.channels, width, bias=False)
        self.query = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)
        self.gate = nn.Linear(width, 1)
        # The LSTM's four gates; the part that depends on the words is computed for all at once.
        self.gates_of_word = nn.Linear(width, 4 * width)
        self.gates_of_rest = nn.Linear(self.channels + width, 4 * width, bias=False)
        # The forget gate starts open.
        nn.init.constant_(self.gates_of_word.bias[width : 2 * width], 1.0)
        self.from_output = nn.Linear(width, width)
        self.from_context = nn.Linear(self.channels, width, bias=False)
        if hard_attention:
            # REINFORCE's baseline: the moving average of the captions' log-probabilities.
            self.register_buffer("baseline", torch.zeros(()))

    def start(self, memory: Tensor, lengths: Tensor, capacity: int) -> AttendState:
        annotations = self.annotation_norm(memory)
        mean = annotations.mean(1)
        past = torch.tanh(self.output_start(mean)), torch.tanh(self.cell_start(mean))
        keys = self.key(annotations)
        return AttendState([past], EncoderMemory([annotations[None], keys[None]]))

    def attend(self, state: AttendState) -> tuple[Tensor, Tensor]:
        """The attention weights alpha (R, P), in fp32, and the gate beta (R, 1)."""
        h = state.past[0][0]
        (_, (keys,)) = state.sources.tensors
        query = state.sources.group_beams(self.query(h)[:, None])  # (M, K, W)
        scores = self.score(torch.tanh(query[:, :, None] + keys[:, None]))[..., 0]
        alpha = scores.float().softmax(-1).flatten(0, 1)
        return alpha, torch.sigmoid(self.gate(h))

    def context(self, weights: Tensor, beta: Tensor, state: AttendState) -> Tensor:
        """The gated mean (R, C) of the locations by these weights (R, P)."""
        (annotations,) = state.sources.tensors[0]
        grouped = state.sources.group_beams(weights.to(annotations.dtype)[:, None])
        mean: Tensor = (grouped @ annotations).flatten(0, 1)
        return beta * mean

    def lstm_step(self, word_gates: Tensor, context: Tensor, state: AttendState) -> Tensor:
        """The LSTM's output (R, W) after the newest words, given their gates (R, 4 W)."""
        ((h, cell),) = state.past
        gates = word_gates + self.gates_of_rest(torch.cat([context, h], dim=-1))
        enter, keep, new, out = gates.float().chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
        output: Tensor = (out.sigmoid() * cell.tanh()).to(context.dtype)
        state.past = [(output, cell)]
        return output

    def deep_output(self, x: Tensor, h: Tensor, context: Tensor) -> Tensor:
        """Logits (..., V) from the newest words x, the LSTM's outputs h and the contexts."""
        mixed: Tensor = x + self.from_output(self.dropout(h)) + self.from_context(context)
        return self.logits(self.dropout(mixed))

    def forward(
        self, inputs: Tensor, target: Tensor, at: Tensor | None = None, owners: Tensor | None = None
    ) -> DecoderOutput:
        memory = self.as_memory(inputs, owners)
        rows = len(memory)
        state = self.start(memory, target.new_full((rows,), memory.shape[1]), target.shape[1])
        sampling = self.training and self.hard_attention
        sampled = torch.rand(rows, device=memory.device) >= SOFT_SHARE if sampling else None
        words = self.embed(target)
        outputs, contexts, alphas, chosen = [], [], [], []
        for word_gates in self.gates_of_word(words).unbind(1):
            alpha, beta = self.attend(state)
            if sampled is None:
                weights = self.context_weights(alpha)
            else:
                place = torch.multinomial(alpha.detach(), 1)
                one_hot = torch.zeros_like(alpha).scatter_(1, place, 1.0)
                weights = torch.where(sampled[:, None], one_hot, alpha)
                chosen.append(alpha.gather(1, place)[:, 0].log() * sampled)
            context = self.context(weights, beta, state)
            outputs.append(self.lstm_step(word_gates, context, state))
            contexts.append(context)
            alphas.append(alpha)
        parts = [words, torch.stack(outputs, dim=1), torch.stack(contexts, dim=1)]
        logits = self.deep_output(*(parts if at is None else [part[at] for part in parts]))
        return DecoderOutput(
            logits, torch.stack(alphas, dim=1), torch.stack(chosen, dim=1) if chosen else None
        )

    def context_weights(self, alpha: Tensor) -> Tensor:
        """The weights (R, P) of the locations in the context when none is sampled."""
        if not self.hard_attention:
            return alpha
        return F.one_hot(alpha.argmax(-1), alpha.shape[-1]).to(alpha)

    def step(self, ids: Tensor, state: AttendState) -> tuple[Tensor, Tensor]:
        x = self.embed(ids)
        alpha, beta = self.attend(state)
        context = self.context(self.context_weights(alpha), beta, state)
        h = self.lstm_step(self.gates_of_word(x), context, state)
        return self.deep_output(x, h, context), alpha
