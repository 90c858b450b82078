"""Recurrent networks with attention (Bahdanau et al. 2015; Luong et al. 2015).

A bidirectional encoder makes an annotation of each source token. At each step the decoder's output
h is scored against all of them; the weighted mean c of the annotations and h make the attentional
state tanh(W [c; h]), which predicts the next token (Luong et al. 2015, section 3). With input
feeding (section 3.3) it is also part of the decoder's next input.

Shapes: B sentences, S source tokens, T target tokens, V vocabulary, W width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.core.nn.decoder_state import EncoderMemory
from dlkit.core.nn.recurrent import Past, RecurrentState, Stack
from dlkit.translate.models.rnn import RecurrentTranslator

SCORES = ("additive", "general", "dot")


class AttentionScore(nn.Module):
    """The score of the decoder's output h and each annotation m of the source.

    additive: v^T tanh(W h + U m) (Bahdanau et al. 2015); general: h^T W m, dot: h^T m (Luong et
    al. 2015).
    """

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        if kind not in SCORES:
            raise DlkitError(f"unknown score {kind!r}; choose from {', '.join(SCORES)}")
        self.kind = kind
        self.key = nn.Linear(width, width, bias=False) if kind != "dot" else nn.Identity()
        if kind == "additive":
            self.query = nn.Linear(width, width, bias=False)
            self.weight = nn.Linear(width, 1, bias=False)

    def forward(self, h: Tensor, keys: Tensor) -> Tensor:
        """h (B, T, W), and `key` of the annotations (B, S, W) -> (B, T, S)."""
        if self.kind != "additive":
            return h @ keys.transpose(1, 2)
        hidden = torch.tanh(self.query(h)[:, :, None] + keys[:, None])
        score: Tensor = self.weight(hidden)[..., 0]
        return score


class AttentionState(RecurrentState):
    """The layers' states, the encoder's memory, and the last attentional state (B, W), first 0.

    The memory is annotations and keys (B, S, W), and the additive mask (B, 1, S) of padding.
    """

    def __init__(self, past: list[Past], sources: EncoderMemory, attentional: Tensor) -> None:
        super().__init__(past)
        self.sources, self.attentional = sources, attentional

    def select(self, rows: Tensor) -> "AttentionState":
        past = super().select(rows).past
        return AttentionState(past, self.sources.select(rows), self.attentional[rows])


class AttentionRNN(RecurrentTranslator):
    def __init__(
        self,
        width: int = 256,
        layers: int = 1,
        dropout: float = 0.1,
        cell: str = "gru",
        residual: bool = False,
        score: str = "additive",
        input_feeding: bool = False,
        tie_embeddings: bool = True,
        **translator: Any,
    ) -> None:
        """The other arguments are those of `Translator`."""
        super().__init__(width, dropout, tie_embeddings, **translator)
        if width % 2:
            raise DlkitError(
                f"--width {width}: odd, but the encoder's two directions share it; give an even"
                " number"
            )
        self.input_feeding = input_feeding
        self.encoder = Stack(cell, width, layers, dropout, residual, bidirectional=True)
        inputs = 2 * width if input_feeding else width
        self.decoder = Stack(cell, width, layers, dropout, residual, inputs)
        self.score = AttentionScore(score, width)
        self.combine = nn.Linear(2 * width, width, bias=False)

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> AttentionState:
        """Each decoder layer starts from the last states of both directions of its encoder's."""
        annotations, past = self.encoder.read(self.embed(source), lengths)
        real = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        mask = torch.zeros(real.shape, device=real.device).masked_fill_(~real, -torch.inf)
        keys = self.score.key(annotations)
        sources = EncoderMemory([tensor[None] for tensor in (annotations, keys, mask[:, None])])
        return AttentionState(past, sources, torch.zeros_like(annotations[:, 0]))

    def write(self, x: Tensor, state: AttentionState) -> tuple[Tensor, Tensor]:
        if not self.input_feeding:
            y, state.past = self.decoder(x, state.past)
            return self.attend(y, state)
        outputs, attentions = [], []
        for t in range(x.shape[1]):
            part = x[:, t : t + 1]
            fed = torch.cat([part, state.attentional[:, None].to(part.dtype)], dim=-1)
            y, state.past = self.decoder(fed, state.past)
            y, attention = self.attend(y, state)
            state.attentional = y[:, 0]
            outputs.append(y)
            attentions.append(attention)
        return torch.cat(outputs, dim=1), torch.cat(attentions, dim=1)

    def attend(self, y: Tensor, state: AttentionState) -> tuple[Tensor, Tensor]:
        """Attentional states (B, T, W) and attention weights (B, T, S) of outputs (B, T, W)."""
        (annotations,), (keys,), (mask,) = state.sources.tensors
        tokens = y.shape[1]
        y = state.sources.group_beams(y)
        attention = (self.score(y, keys) + mask).softmax(-1)
        context = attention.to(annotations.dtype) @ annotations
        z = self.dropout(torch.tanh(self.combine(torch.cat([context, y], dim=-1))))
        return z.view(-1, tokens, z.shape[-1]), attention.view(-1, tokens, attention.shape[-1])

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        state = self.start(source, lengths, target.shape[1])
        return self.write(self.embed(target), state)[1].float()
