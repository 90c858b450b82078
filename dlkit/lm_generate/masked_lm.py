"""Masked language models as BERT: hidden tokens are predicted from both sides.

Shapes: B texts, T tokens, N gaps, V tokens in the vocabulary.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.lm_generate.models.bert import BERT
from dlkit.lm_generate.neural import NeuralLM, Objective, special_ids
from dlkit.lm_generate.results import Candidate, FilledText, Gap
from dlkit.lm_generate.scoring import LOGITS_AT_ONCE, target_logprobs
from dlkit.lm_generate.text_codec import TextCodec, insert
from dlkit.tokenize import Tokenizer

MASK = "[MASK]"
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", MASK)
SPACE_FIRST = ("gpt2", "gpt4")  # splits in which the token of a word includes the space before it
MASKED, RANDOM = 0.8, 0.1  # shares of the chosen tokens; the others stay as they are


class MaskedLM(NeuralLM):
    """A model of masked tokens."""

    network: BERT

    verbs: ClassVar[frozenset[str]] = frozenset({"score", "fill", "features"})
    predicts_line_ends: ClassVar[bool] = False
    predicts_all_tokens: ClassVar[bool] = False

    @classmethod
    def special_ids(cls, tokenizer: Tokenizer) -> dict[str, int]:
        return special_ids(tokenizer, SPECIAL)

    @torch.inference_mode()
    def token_logprobs(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """The log-probability of each token when it alone is masked (Salazar et al. 2020).

        Of a text longer than the context, the network sees the part around the token.
        """
        network, device = self.network, self.device
        special = self.special_ids(self.codec.tokenizer)
        begin, end = torch.tensor([[special["[CLS]"]], [special["[SEP]"]]], device=device)
        found = []
        for ids in texts:
            whole = torch.tensor(ids, dtype=torch.long, device=device)
            size = min(len(ids), network.context - 2)
            rows = max(1, LOGITS_AT_ONCE // (size + 2) // network.position_embedding.embedding_dim)
            logprobs: list[float] = []
            for places in torch.arange(len(ids), device=device).split(rows) if ids else ():
                starts = (places - size // 2).clamp(min=0, max=len(ids) - size)
                seen = whole[starts[:, None] + torch.arange(size, device=device)]
                framed = torch.cat(
                    [begin.expand(len(seen), 1), seen, end.expand(len(seen), 1)], dim=1
                )
                masked = torch.zeros_like(framed, dtype=torch.bool)
                masked[torch.arange(len(places), device=device), places - starts + 1] = True
                logits, _ = network(framed.masked_fill(masked, special[MASK]), at=masked)
                logprobs += target_logprobs(logits, whole[places]).tolist()
            found.append(logprobs)
        return found

    @torch.inference_mode()
    def fill(self, text: str, count: int) -> FilledText:
        """The most probable tokens for each [MASK]."""
        pieces = text.split(MASK)
        if len(pieces) == 1:
            raise DlkitError(f"no {MASK} in the text; write one for each gap")
        codec, special = self.codec, self.special_ids(self.codec.tokenizer)
        ids = [special["[CLS]"]]
        for number, piece in enumerate(pieces):
            if number:
                ids.append(special[MASK])
            # Where tokens include the space before a word, that before a gap is the gap's.
            last = number == len(pieces) - 1
            spaced = codec.tokenizer.split in SPACE_FIRST and not last
            ids += codec.encode(piece.removesuffix(" ") if spaced else piece)
        ids.append(special["[SEP]"])
        self.check_length(ids)
        row = torch.tensor([ids], device=self.device)
        logits, _ = self.network(row, at=row == special[MASK])
        logits[:, sorted(self.banned)] = -torch.inf
        probabilities, tokens = logits.softmax(-1).topk(min(count, logits.shape[-1]), dim=-1)
        gaps = []
        for gap, row_of_gap in enumerate(zip(probabilities.tolist(), tokens.tolist(), strict=True)):
            before, after = MASK.join(pieces[: gap + 1]), MASK.join(pieces[gap + 1 :])
            candidates = []
            for probability, token in zip(*row_of_gap, strict=True):
                name = codec.decode([token])
                candidates.append(
                    Candidate(name, round(probability, 4), insert(name, before, after))
                )
            gaps.append(Gap(candidates))
        return FilledText(text, gaps)

    @torch.inference_mode()
    def features(self, ids: list[int], layer: int | None) -> list[list[float]]:
        if layer is not None:
            raise DlkitError("--layer is for a bilm; omit it for the last layer of a bert")
        special = self.special_ids(self.codec.tokenizer)
        framed = [special["[CLS]"], *ids, special["[SEP]"]]
        self.check_length(framed)
        hidden = self.network.hidden(torch.tensor([framed], device=self.device))
        vectors: list[list[float]] = hidden[0, 1:-1].float().tolist()
        return vectors

    def check_length(self, ids: list[int]) -> None:
        """Raise DlkitError where ids exceed the context."""
        if len(ids) > self.network.context:
            raise DlkitError(
                f"the text has {len(ids)} tokens, more than the context of {self.name},"
                f" {self.network.context}; shorten it"
            )

    @classmethod
    def window(cls, context: int, next_sentence: bool = False) -> int:
        return max(context - (3 if next_sentence else 2), 1)

    @classmethod
    def objective(cls, codec: TextCodec, next_sentence: bool = False) -> Objective:
        """BERT's: cross-entropy of masked tokens, and perhaps of next-sentence prediction."""
        special, regular = cls.special_ids(codec.tokenizer), regular_ids(codec.tokenizer)

        def loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
            segments = is_foreign = None
            if next_sentence:
                ids, segments, is_foreign = pair_halves(ids, special)
            else:
                ids = add_frame(ids, special)
            masked, chosen = mask_tokens(ids, regular, special)
            chosen[:, 1] |= ~chosen.any()  # of a few tokens, none may have been chosen
            logits, relation = network(masked, segments, None, chosen)
            total = F.cross_entropy(logits, ids[chosen])
            return total if is_foreign is None else total + F.cross_entropy(relation, is_foreign)

        return loss


def regular_ids(tokenizer: Tokenizer) -> Tensor:
    """The ids of tokens that are not special, ascending."""
    return torch.tensor(sorted(set(tokenizer.vocab.values()) - set(tokenizer.special.values())))


def mask_tokens(
    ids: Tensor,
    regular: Tensor,
    special: dict[str, int],
    generator: torch.Generator | None = None,
    share: float = 0.15,
) -> tuple[Tensor, Tensor]:
    """Mask tokens of ids (B, T); returns them and where (B, T) tokens are to be predicted.

    Of the chosen 15 %, 80 % are replaced by [MASK], 10 % by any token, and 10 % kept, so that the
    network cannot know which were replaced (Devlin et al. 2019).
    """
    fixed = torch.isin(ids, torch.tensor(list(special.values()), device=ids.device))
    draws = torch.rand(2, *ids.shape, generator=generator).to(ids.device)
    chosen = (draws[0] < share) & ~fixed
    others = regular[torch.randint(len(regular), ids.shape, generator=generator)].to(ids.device)
    replaced = torch.where(draws[1] < MASKED, special[MASK], others)
    return torch.where(chosen & (draws[1] < MASKED + RANDOM), replaced, ids), chosen


def add_frame(ids: Tensor, special: dict[str, int]) -> Tensor:
    """Frame ids (B, T) as [CLS] ids [SEP] (B, T + 2)."""
    begin, end = (ids.new_full((len(ids), 1), special[name]) for name in ("[CLS]", "[SEP]"))
    return torch.cat([begin, ids, end], dim=1)


def pair_halves(
    ids: Tensor, special: dict[str, int], generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Make pairs for next-sentence prediction from the two halves of ids (B, T).

    Returns [CLS] first half [SEP] second half [SEP] (B, T + 3), the segments (B, T + 3), and the
    classes (B): 0 where the second half continues the first one, 1 where it is that of another text
    of the batch. Half of the rows get another's second half; a single row keeps its own.
    """
    rows, middle = len(ids), ids.shape[1] // 2
    first, second = ids[:, :middle], ids[:, middle:]
    foreign = torch.rand(rows, generator=generator).to(ids.device) < 0.5
    foreign &= torch.tensor(rows > 1, device=ids.device)
    further = torch.randint(1, max(rows, 2), (rows,), generator=generator).to(ids.device)
    others = (torch.arange(rows, device=ids.device) + further * foreign) % rows
    begin, end = (ids.new_full((rows, 1), special[name]) for name in ("[CLS]", "[SEP]"))
    pairs = torch.cat([begin, first, end, second[others], end], dim=1)
    segments = torch.zeros_like(pairs)
    segments[:, middle + 2 :] = 1
    return pairs, segments, foreign.long()
