"""What the architectures learn: how improbable they find what they are to foretell, in nats.

Shapes: B texts, T tokens, V tokens in the vocabulary, N tokens that were hidden.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from dlkit.lm_generate.masking import (
    bert_marks,
    corrupt_spans,
    framed,
    mask_tokens,
    ordinary,
    pair_halves,
    shifted,
    t5_marks,
)
from dlkit.tokenize import Tokenizer

# Of a network, ids and targets (B, T), and a state to go on with.
Objective = Callable[[Any, Tensor, Tensor, Any], Tensor]


def next_token_loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
    """Mean cross-entropy of the tokens after ids."""
    return cross_entropy(network(ids, state), targets)


def both_directions_loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
    """Mean cross-entropy of the tokens after ids, read forwards, and before them, read backwards.

    As ELMo (Peters et al. 2018), but the mean of the two and not their sum.
    """
    forwards, backwards = network(ids)
    before = cross_entropy(backwards[:, 1:], ids[:, :-1])
    return (cross_entropy(forwards, targets) + before) / 2


def masked_loss(tokenizer: Tokenizer, next_sentence: bool) -> Objective:
    """BERT's: the mean cross-entropy of hidden tokens, and of whether halves belong together."""
    marks, others = bert_marks(tokenizer), ordinary(tokenizer)

    def loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
        segments = foreign = None
        if next_sentence:
            ids, segments, foreign = pair_halves(ids, marks)
        else:
            ids = framed(ids, marks)
        masked, chosen = mask_tokens(ids, others, marks)
        chosen[:, 1] |= ~chosen.any()  # of a few tokens, none may have been chosen
        logits, relation = network(masked, segments, None, chosen)
        total = F.cross_entropy(logits, ids[chosen])
        return total if foreign is None else total + F.cross_entropy(relation, foreign)

    return loss


def span_loss(tokenizer: Tokenizer) -> Objective:
    """T5's: the mean cross-entropy of the spans that were cut out, and of their sentinels."""
    marks = t5_marks(tokenizer)

    def loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
        source, spans = corrupt_spans(ids, marks)
        return cross_entropy(network(shifted(spans, marks), source=source), spans)

    return loss


def objective(arch: str, tokenizer: Tokenizer, next_sentence: bool = False) -> Objective:
    """What this architecture learns."""
    if arch == "bert":
        return masked_loss(tokenizer, next_sentence)
    if arch == "t5":
        return span_loss(tokenizer)
    return both_directions_loss if arch == "bilm" else next_token_loss


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over targets (B, T) under logits (B, T, V)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
