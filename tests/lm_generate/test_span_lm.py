"""T5's spans."""

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.lm_generate import masked_lm, span_lm
from dlkit.lm_generate.infer import fill
from dlkit.lm_generate.results import FilledText
from dlkit.lm_generate.span_lm import SpanLM
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import train as train_tokenizer
from tests.lm_generate.helpers import CATS, CODEC, generate_all, random_network, wrap

pytestmark = pytest.mark.usefixtures("seeded")


def test_a_t5_fills_spans_and_continues_prompts() -> None:
    special = SpanLM.special_ids(CODEC.tokenizer)
    network = random_network("t5", vocab_size=SpanLM.vocab_size(CODEC), sharp=2)
    model = wrap(network, arch="t5")
    [found] = fill(["To <extra_id_0> or not<extra_id_1>"], model, 2)
    assert isinstance(found, FilledText)
    assert len(found.gaps) == 2
    assert found.gaps[0].candidates[0].text.startswith("To ")
    assert "extra_id" not in found.gaps[0].candidates[0].text
    [failed] = fill(["To <extra_id_1>"], model, 2)
    assert "<extra_id_0>" in getattr(failed, "error", "")
    prompts = ["To be, or not", "to", ""]
    together = generate_all(prompts, model, max_tokens=10)
    alone = generate_all(prompts, model, max_tokens=10, batch_size=1)
    assert [r.text for r in together] == [r.text for r in alone]
    # As the decoder computes it without a state.
    source = [*CODEC.encode("to"), special["<extra_id_0>"], special["</s>"]]
    ids = [special["<pad>"], special["<extra_id_0>"], *(t.id for t in together[1].tokens)]
    with torch.no_grad():
        logits = network(torch.tensor([ids]), source=torch.tensor([source]))[0].log_softmax(-1)
    for place, token in enumerate(together[1].tokens):
        assert token.logprob == pytest.approx(float(logits[place + 1, token.id]), abs=1e-3)


def test_missing_special_tokens_are_numbered_after_its_last_id() -> None:
    tokenizer = train_tokenizer([CATS], algorithm="char")
    special = SpanLM.special_ids(tokenizer)
    assert min(special.values()) == max(tokenizer.names) + 1
    assert SpanLM.vocab_size(TextCodec(tokenizer)) == len(tokenizer.names) + 102
    assert set(masked_lm.regular_ids(tokenizer).tolist()) == set(tokenizer.vocab.values())


@pytest.mark.parametrize("length", [2, 3, 7, 50, 256])
def test_the_written_spans_complete_the_text_that_was_read(length: int) -> None:
    special = SpanLM.special_ids(train_tokenizer([CATS], algorithm="char"))
    windows = torch.randint(1000, 9000, (20, length))
    sources, targets = span_lm.corrupt_spans(windows, special)
    assert (sources[:, -1] == special["</s>"]).all()
    assert (targets[:, -1] == special["</s>"]).all()
    sentinels = {i for name, i in special.items() if name.startswith("<extra")}
    for window, source, target in zip(windows, sources, targets, strict=True):
        spans: dict[int, list[int]] = {}
        for token in target[:-1].tolist():
            if token in sentinels:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        assert list(spans) == sorted(spans)
        whole: list[int] = []
        for token in source[:-1].tolist():
            whole += spans[token] if token in sentinels else [token]
        assert whole == window.tolist()
        hidden = sum(map(len, spans.values()))
        assert hidden == max(round(0.15 * length), 1)
        assert len(spans) == max(round(hidden / 3), 1)
    if length > 7:
        assert not torch.equal(sources[0] < 1000, sources[1] < 1000)


def test_decoder_inputs_are_shifted_right() -> None:
    special = SpanLM.special_ids(train_tokenizer([CATS], algorithm="char"))
    target = torch.tensor([[5, 6, special["</s>"]]])
    assert span_lm.shift_right(target, special).tolist() == [[special["<pad>"], 5, 6]]


def test_one_token_has_no_span() -> None:
    special = SpanLM.special_ids(train_tokenizer([CATS], algorithm="char"))
    with pytest.raises(DlkitError, match="2 tokens or more"):
        span_lm.corrupt_spans(torch.zeros(1, 1, dtype=torch.long), special)
