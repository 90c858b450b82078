"""Texts with a cached state."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlkit.core.generation import sampling
from dlkit.core.generation.sampling import Sampling
from dlkit.core.nn.fast_inference import can_pack, pack_linears
from dlkit.lm_generate import neural_texts
from dlkit.lm_generate.neural import NeuralLM
from dlkit.lm_generate.neural_texts import NeuralTexts
from tests.lm_generate.helpers import (
    CODEC,
    GENERATING,
    HAMLET,
    SMALL_GPT,
    generate_all,
    random_model,
    random_network,
)


def test_repetition_penalty_by_its_definition() -> None:
    logits = np.array([[2.0, -2.0, 1.0, -1.0]])
    now = neural_texts.penalize(torch.from_numpy(logits), [[0, 1, 0]], 2.0)
    assert now.tolist() == [[1.0, -4.0, 1.0, -1.0]]
    seen = np.array([[True, True, False, False]])
    assert sampling.penalized(logits, seen, 2.0).tolist() == now.tolist()


@pytest.mark.parametrize("arch", GENERATING)
def test_the_state_gives_what_the_whole_text_gives(arch: str) -> None:
    model = random_model(arch)
    [result] = generate_all(["To be"], model, sampling=Sampling(greedy=True), max_tokens=20)
    ids = CODEC.encode("To be")
    for token in result.tokens:
        with torch.no_grad():
            logits = model.network(torch.tensor([ids]))[0, -1]
        allowed = logits.clone()
        allowed[0] = -torch.inf  # <unk> is never written
        assert token.id == int(allowed.argmax())
        assert token.logprob == pytest.approx(float(logits.log_softmax(0)[token.id]), abs=2e-4)
        ids.append(token.id)
    assert result.text == CODEC.decode([token.id for token in result.tokens])
    assert result.logprob == pytest.approx(sum(t.logprob or 0 for t in result.tokens), abs=2e-3)


def test_a_text_longer_than_the_context_is_truncated_with_one_notice(
    gpt: NeuralLM, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = HAMLET[:50]
    results = generate_all([prompt, "To"], gpt, sampling=Sampling(greedy=True), max_tokens=60)
    assert capsys.readouterr().err.count("random sees 32 tokens") == 1
    # The first token comes from the end of the prompt, three quarters of the context long.
    kept = neural_texts.tokens_kept(32)
    with torch.no_grad():
        logits = gpt.network(torch.tensor([CODEC.encode(prompt)[-kept:]]))[0, -1]
    logits[0] = -torch.inf
    assert results[0].tokens[0].id == int(logits.argmax())
    # What a text sees depends on its own length, not on others of the batch.
    alone = generate_all(["To"], gpt, sampling=Sampling(greedy=True), max_tokens=60)
    assert alone[0].text == results[1].text
    ids = [*CODEC.encode("To"), *(token.id for token in alone[0].tokens)]
    full = ids[: SMALL_GPT["context"] + 1]
    seen = full[len(full) - kept :]
    with torch.no_grad():
        after = gpt.network(torch.tensor([seen]))[0, -1]
    after[0] = -torch.inf
    assert ids[SMALL_GPT["context"] + 1] == int(after.argmax())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arch", ["gpt", "t5"])
def test_logits_do_not_depend_on_the_batch(arch: str, dtype: torch.dtype) -> None:
    """Bit for bit on a CPU, for texts of up to 256 tokens."""
    network = random_network(arch, context=256, heads=4, width=64).requires_grad_(False)
    network = network.to(dtype)
    if not can_pack(network.embedding.weight):
        pytest.skip("this CPU packs no linear layers of this type")
    packed: Any = pack_linears(network)
    lengths = [1, 2, 3, 4, 5, 31, 33, 34, 35, 65, 130, 200]
    ids = [torch.randint(CODEC.size, (length,)).tolist() for length in lengths]

    def logits(group: list[list[int]]) -> list[Tensor]:
        sources = {"sources": group} if arch == "t5" else {}
        texts = NeuralTexts(packed, [[0, 1]] * len(group) if sources else group, 3, (), **sources)
        found = [texts.logits]
        for token in (2, 3):
            texts.append([token] * len(group))
            found.append(texts.logits)
        return list(torch.stack(found, dim=1))

    alone = [logits([text])[0] for text in ids]
    order = [5, 0, 11, 2, 7, 1, 10, 3, 8, 4, 6, 9]
    for size in (2, 7, 12):
        for start in range(0, len(order), size):
            group = order[start : start + size]
            for place, found in zip(group, logits([ids[n] for n in group]), strict=True):
                assert torch.equal(found, alone[place]), lengths[place]
