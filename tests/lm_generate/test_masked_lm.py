"""Masked language models."""

import math

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.lm_generate import masked_lm
from dlkit.lm_generate.infer import fill, generate, score
from dlkit.lm_generate.masked_lm import MaskedLM
from dlkit.lm_generate.results import FilledText
from dlkit.tokenize import train as train_tokenizer
from tests.lm_generate.helpers import CATS, random_bert, word_pieces

pytestmark = pytest.mark.usefixtures("seeded")


def test_masks_are_filled_with_the_most_probable_tokens() -> None:
    model = random_bert()
    [found] = fill(["the [MASK] sat on [MASK] mat"], model, 3)
    assert isinstance(found, FilledText)
    special = model.codec.tokenizer.special
    ids = [special["[CLS]"], *model.codec.encode("the"), special["[MASK]"]]
    place = len(ids) - 1
    ids += [*model.codec.encode("sat on"), special["[MASK]"], *model.codec.encode("mat")]
    ids.append(special["[SEP]"])
    with torch.no_grad():
        logits = model.network(torch.tensor([ids]))[0][0, place]
    logits[list(special.values())] = -torch.inf
    shares, tokens = logits.softmax(-1).topk(3)
    first = found.gaps[0].candidates
    assert [c.token for c in first] == [model.codec.tokenizer.names[int(i)] for i in tokens]
    assert [c.probability for c in first] == pytest.approx(shares.tolist(), abs=1e-4)
    assert len(found.gaps) == 2
    assert found.gaps[1].candidates[0].text.startswith("the [MASK] sat on ")
    [failed] = fill(["no gap"], model, 3)
    assert "[MASK]" in getattr(failed, "error", "")


def test_a_bert_scores_by_masking_each_token() -> None:
    model = random_bert()
    [result] = score(["the cat sat"], model)
    special, ids = model.codec.tokenizer.special, model.codec.encode("the cat sat")
    total = 0.0
    for place in range(len(ids)):
        masked = [special["[CLS]"], *ids, special["[SEP]"]]
        masked[place + 1] = special["[MASK]"]
        with torch.no_grad():
            logits = model.network(torch.tensor([masked]))[0][0, place + 1]
        total += float(logits.log_softmax(-1)[ids[place]])
    assert result.logprob == pytest.approx(total, abs=1e-3)
    empty, long = score(["", "the cat sat on the mat " * 10], model)
    assert empty.tokens == []
    assert len(long.tokens) > model.network.context
    with pytest.raises(DlkitError, match="cannot continue"):
        next(generate(["the"], model))


def test_15_percent_are_chosen_and_of_these_80_10_10() -> None:
    tokenizer = word_pieces()
    special, ordinary = MaskedLM.special_ids(tokenizer), masked_lm.regular_ids(tokenizer)
    assert special["[MASK]"] == tokenizer.special["[MASK]"]
    size = 40_000
    plain = ordinary[torch.arange(size) % len(ordinary)].view(40, -1)
    ids = masked_lm.add_frame(plain, special)
    hidden, chosen = masked_lm.mask_tokens(ids, ordinary, special)
    assert torch.equal(hidden[~chosen], ids[~chosen])
    assert not chosen[:, [0, -1]].any()
    count = int(chosen.sum())
    masked = (hidden == special["[MASK]"])[chosen].float().mean().item()
    same = (hidden == ids)[chosen].float().mean().item()

    def map_shard(share: float, of: int) -> float:
        return 4 * math.sqrt(share * (1 - share) / of)

    assert count / size == pytest.approx(0.15, abs=map_shard(0.15, size))
    assert masked == pytest.approx(0.8, abs=map_shard(0.8, count))
    # Of the tokens drawn at random a few are the ones that were there.
    kept = 0.1 + 0.1 / len(ordinary)
    assert same == pytest.approx(kept, abs=map_shard(kept, count))
    others = hidden[chosen & (hidden != ids) & (hidden != special["[MASK]"])]
    assert set(others.tolist()) == set(ordinary.tolist())


def test_half_of_the_pairs_do_not_belong_together() -> None:
    special = MaskedLM.special_ids(train_tokenizer([CATS], algorithm="char"))
    windows = torch.arange(1000)[:, None] * 1000 + torch.arange(9)
    ids, segments, foreign = masked_lm.pair_halves(windows, special)
    assert ids.shape == segments.shape == (1000, 12)
    assert torch.equal(ids[:, 1:5], windows[:, :4])
    assert (ids[:, 0] == special["[CLS]"]).all()
    assert (ids[:, [5, 11]] == special["[SEP]"]).all()
    assert segments[0].tolist() == [0] * 6 + [1] * 6
    others = (ids[:, 6:11] != windows[:, 4:]).any(dim=1)
    assert torch.equal(others.long(), foreign)
    assert 430 < int(foreign.sum()) < 570
