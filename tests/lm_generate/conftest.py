"""Fixtures of the tests of lm-generate."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate.models.t5 import T5
from dlkit.lm_generate.neural import NeuralLM
from tests.conftest import loud, run
from tests.lm_generate.helpers import (
    CODEC,
    SMALL_GPT,
    random_network,
    random_text,
    small_gpt,
    word_pieces,
    wrap,
    write_gpt2,
)


@pytest.fixture(scope="module")
def gpt() -> NeuralLM:
    return wrap(random_network())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a checkpoint."""
    path = tmp_path_factory.mktemp("lm") / "random.safetensors"
    settings = {
        "network": {"vocab_size": CODEC.size, **SMALL_GPT},
        "tokenizer": CODEC.to_settings(),
    }
    checkpoint.save(path, random_network().state_dict(), Header("lm-generate", "gpt", settings, []))
    return path


@pytest.fixture(scope="module")
def ngrams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An n-gram model of words, trained from the command line."""
    folder = tmp_path_factory.mktemp("ngrams")
    corpus = folder / "corpus.txt"
    corpus.write_text("the cat sat on the mat\nthe dog sat on the log\na cat saw the dog\n" * 3)
    done = run(
        "lm-generate", "train", corpus, "--arch", "ngram", "--order", 3, "--tokenizer", "words",
        "--smoothing", "jelinek-mercer", "--out", folder / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    return Path(done.out.strip())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(random_text(120))
    return path


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["learned", "sinusoidal", "rotary", "untied", "t5"])
def texts(request: pytest.FixtureRequest) -> Iterator[Any]:
    """ids (4, 20), logits (4, 20, V) without a cache, what makes an empty state, the network."""
    with torch.inference_mode():
        ids = torch.randint(50, (4, 20))
        network: Any
        if request.param == "t5":
            network = loud(T5(50, layers=2, heads=2, width=32))
            source = torch.randint(50, (4, 9))
            lengths = torch.tensor([9, 3, 7, 1])
            full = network(ids, source=source, source_lengths=lengths)
            yield ids, full, partial(network.start, 4, 20, source, lengths), network
        else:
            untied = request.param == "untied"
            network = small_gpt("learned" if untied else request.param, tie_embeddings=not untied)
            yield ids, network(ids), partial(network.start, 4, 20), network


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    return folder, write_gpt2(folder)


@pytest.fixture(scope="module")
def hf_bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A small random BERT in transformers' format, and transformers' network."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    names = word_pieces().names
    config = transformers.BertConfig(
        vocab_size=len(names), max_position_embeddings=32, hidden_size=48, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=100, initializer_range=0.2,
    )  # fmt: skip
    network = loud(transformers.BertForPreTraining(config))
    network.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{names[i]}\n" for i in range(len(names))))
    return folder, network
