"""T5 folders of Hugging Face, against transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.generation.sampling import Sampling
from dlkit.lm_generate import huggingface
from dlkit.lm_generate.infer import load
from dlkit.lm_generate.model import build
from tests.conftest import loud
from tests.lm_generate.helpers import CLOSE, difference, generate_all

pytestmark = pytest.mark.usefixtures("seeded")
WORDS = ["▁the", "▁cat", "▁sat", "▁on", "▁a", "▁mat", "▁"]
SIZE = 3 + len(WORDS) + 100


def write_t5(folder: Path, **config: Any) -> Any:
    """A small random T5 in transformers' format; returns their network."""
    transformers = pytest.importorskip("transformers")
    settings = {
        "vocab_size": SIZE + 20, "d_model": 32, "d_kv": 6, "d_ff": 40, "num_layers": 2,
        "num_heads": 4, "num_decoder_layers": 3, "decoder_start_token_id": 0, **config,
    }  # fmt: skip
    network = loud(transformers.T5ForConditionalGeneration(transformers.T5Config(**settings)))
    network.save_pretrained(folder)
    extra = [f"<extra_id_{99 - n}>" for n in range(100)]
    vocab = ["<pad>", "</s>", "<unk>", *WORDS, *extra]
    content = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [
            {"id": n, "content": name, "special": True, "lstrip": False, "rstrip": False,
             "single_word": False, "normalized": False}
            for n, name in enumerate(vocab) if name.startswith("<")
        ],
        "pre_tokenizer": {
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True
        },
        "post_processor": None,
        "decoder": {
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True
        },
        "model": {
            "type": "Unigram", "unk_id": 2, "byte_fallback": False,
            "vocab": [[name, -float(n)] for n, name in enumerate(vocab)],
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return network.eval()


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "config",
    [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}],
    ids=["v1.0", "v1.1"],
)
def test_t5_has_the_logits_of_transformers(tmp_path: Path, config: dict[str, Any]) -> None:
    theirs = write_t5(tmp_path, **config)
    header, weights = huggingface.load(tmp_path)
    ours: Any = build(header.arch, **header.settings["network"])
    ours.load_state_dict(weights)
    source, target = torch.randint(3, SIZE, (2, 30)), torch.randint(3, SIZE, (2, 20))
    with torch.inference_mode():
        expected = theirs(source, decoder_input_ids=target).logits[..., :SIZE]
        found = ours.eval()(target, source=source)
    assert difference(found, expected) < CLOSE
    assert expected.std() > 0.5


def test_t5_writes_what_transformers_does(tmp_path: Path) -> None:
    theirs = write_t5(tmp_path, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model = load(tmp_path, "cpu", "fp32")
    prompt = "the cat sat"
    ids = torch.tensor([[*model.codec.encode(prompt), 1]])
    assert ids.tolist() == [[3, 4, 5, 1]]
    banned = [[n] for n in range(SIZE + 20) if n in model.banned or n >= SIZE]
    expected: Tensor = theirs.generate(
        ids, do_sample=False, max_new_tokens=12, bad_words_ids=banned, use_cache=False
    )
    [found] = generate_all([prompt], model, max_tokens=12, sampling=Sampling(greedy=True))
    assert [token.id for token in found.tokens] == expected[0, 1:].tolist()
    filled = model.fill("the <extra_id_0> sat", 2)
    assert len(filled.gaps) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feed_forward_proj", "gated-silu"),
        ("relative_attention_num_buckets", 64),
        ("relative_attention_max_distance", 256),
        ("is_decoder", True),
        ("attention_layers", ["local"]),
    ],
)
def test_other_t5s_are_refused_by_the_name_of_the_field(
    tmp_path: Path, field: str, value: Any
) -> None:
    write_t5(tmp_path)
    change(tmp_path / "config.json", **{field: value})
    with pytest.raises(DlkitError, match=field):
        huggingface.load(tmp_path)
