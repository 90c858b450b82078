"""What BERT and T5 learn from: texts with tokens hidden, and the tokens that stand for them.

Shapes: B texts, T tokens.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.tokenize import Tokenizer

Marks = Mapping[str, int]  # the ids of special tokens
OF_BERT = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
OF_T5 = ("<pad>", "</s>", *(f"<extra_id_{number}>" for number in range(100)))
MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens; the others stay as they are


def marks_of(tokenizer: Tokenizer, names: Sequence[str]) -> dict[str, int]:
    """The tokenizer's ids of these special tokens; those it lacks come after all it has."""
    missing = (name for name in names if name not in tokenizer.special)
    own = {name: tokenizer.special[name] for name in names if name in tokenizer.special}
    return own | {name: i for i, name in enumerate(missing, start=max(tokenizer.names) + 1)}


def bert_marks(tokenizer: Tokenizer) -> dict[str, int]:
    return marks_of(tokenizer, OF_BERT)


def t5_marks(tokenizer: Tokenizer) -> dict[str, int]:
    return marks_of(tokenizer, OF_T5)


def vocab_size(tokenizer: Tokenizer, marks: Marks) -> int:
    """How many ids a network must know."""
    return max([*tokenizer.names, *marks.values()]) + 1


def ordinary(tokenizer: Tokenizer) -> Tensor:
    """The ids that texts are made of, ascending."""
    return torch.tensor(sorted(set(tokenizer.vocab.values()) - set(tokenizer.special.values())))


def mask_tokens(
    ids: Tensor,
    ordinary: Tensor,
    marks: Marks,
    generator: torch.Generator | None = None,
    share: float = 0.15,
) -> tuple[Tensor, Tensor]:
    """ids (B, T) with tokens hidden, and where (B, T) they are to be found again.

    Of the chosen 15 %, 80 % are replaced by [MASK], 10 % by any token, and 10 % kept, so that the
    network cannot know which were replaced (Devlin et al. 2019).
    """
    special = torch.isin(ids, torch.tensor(list(marks.values()), device=ids.device))
    draws = torch.rand(2, *ids.shape, generator=generator).to(ids.device)
    chosen = (draws[0] < share) & ~special
    others = ordinary[torch.randint(len(ordinary), ids.shape, generator=generator)].to(ids.device)
    hidden = torch.where(draws[1] < MASKED, marks["[MASK]"], others)
    return torch.where(chosen & (draws[1] < MASKED + RANDOM), hidden, ids), chosen


def framed(ids: Tensor, marks: Marks) -> Tensor:
    """[CLS] ids [SEP] (B, T + 2)."""
    begin, end = (ids.new_full((len(ids), 1), marks[name]) for name in ("[CLS]", "[SEP]"))
    return torch.cat([begin, ids, end], dim=1)


def pair_halves(
    ids: Tensor, marks: Marks, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """[CLS] first half [SEP] second half [SEP] (B, T + 3), the segments (B, T + 3), and what the
    second half is (B): 0 the first one's continuation, 1 that of another text of the batch.

    Half of the rows get another's second half; a single row keeps its own.
    """
    rows, middle = len(ids), ids.shape[1] // 2
    first, second = ids[:, :middle], ids[:, middle:]
    foreign = torch.rand(rows, generator=generator).to(ids.device) < 0.5
    foreign &= torch.tensor(rows > 1, device=ids.device)
    further = torch.randint(1, max(rows, 2), (rows,), generator=generator).to(ids.device)
    others = (torch.arange(rows, device=ids.device) + further * foreign) % rows
    begin, end = (ids.new_full((rows, 1), marks[name]) for name in ("[CLS]", "[SEP]"))
    pairs = torch.cat([begin, first, end, second[others], end], dim=1)
    segments = torch.zeros_like(pairs)
    segments[:, middle + 2 :] = 1
    return pairs, segments, foreign.long()


def corrupt_spans(
    ids: Tensor,
    marks: Marks,
    generator: torch.Generator | None = None,
    share: float = 0.15,
    mean_span: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """ids (B, T) with spans replaced by sentinels, and the spans, each after its sentinel.

    The first text is to be read (B, S), the second to be written (B, U); both end in </s>, and
    their lengths depend on T alone. Spans and what is between them are drawn as T5 draws them:
    all ways to cut the same number of tokens into the same number of parts are equally likely.
    """
    rows, tokens = ids.shape
    if tokens < 2:
        raise DlkitError("T5 needs a context of 2 tokens or more")
    hidden = min(max(round(tokens * share), 1), tokens - 1)
    spans = min(max(round(hidden / mean_span), 1), tokens - hidden, hidden)
    if f"<extra_id_{spans - 1}>" not in marks:
        raise DlkitError(f"{tokens} tokens have {spans} spans, and T5 has 100 sentinels")
    sentinels = torch.tensor([marks[f"<extra_id_{n}>"] for n in range(spans)], device=ids.device)
    end = torch.tensor([marks["</s>"]], device=ids.device)
    sources, targets = [], []
    for row in ids:
        kept = random_parts(tokens - hidden, spans, generator)
        lost = random_parts(hidden, spans, generator)
        lengths = torch.stack([kept, lost], dim=1).flatten().tolist()
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


def random_parts(total: int, parts: int, generator: torch.Generator | None) -> Tensor:
    """`parts` numbers from 1 on that sum to `total`."""
    cuts = torch.randperm(total - 1, generator=generator)[: parts - 1].sort().values + 1
    bounds = torch.cat([torch.tensor([0]), cuts, torch.tensor([total])])
    return bounds.diff()


def shifted(target: Tensor, marks: Marks) -> Tensor:
    """What the decoder is given to predict target (B, T): <pad>, and all but the last token."""
    return torch.cat([target.new_full((len(target), 1), marks["<pad>"]), target[:, :-1]], dim=1)
