"""GPT, BERT and T5: against transformers, with and without a cache, and what they learn from."""

import http.server
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.core.nn.fast_inference import PackedLinear, can_pack, pack_linears
from dlkit.core.nn.rebuild import skip_init
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate import huggingface, masked_lm, span_lm
from dlkit.lm_generate.masked_lm import MaskedLM
from dlkit.lm_generate.model import build
from dlkit.lm_generate.models import gpt as gpt_module
from dlkit.lm_generate.models.bert import BERT
from dlkit.lm_generate.models.gpt import GPT, rotate
from dlkit.lm_generate.models.t5 import T5
from dlkit.lm_generate.span_lm import SpanLM
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import Tokenizer, train
from tests.conftest import loud

TEXT = "the cat sat on the mat, and the dog sat by the door; the cat saw the dog."
CLOSE = 1e-4


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small_gpt(positions: str, **settings: Any) -> GPT:
    network: GPT = loud(GPT(50, 32, 3, 2, 32, positions=positions, **settings))
    return network


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


# ---- the cache, and the causal mask --------------------------------------------------------------


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


def test_cached_logits_are_those_without_a_cache(texts: Any) -> None:
    ids, full, start, network = texts
    state = start()
    parts = [network(ids[:, a:b], state) for a, b in [(0, 7), (7, 12), (12, 13)]]
    parts += [network.next_logits(ids[:, i : i + 1], state)[:, None] for i in range(13, 20)]
    assert difference(torch.cat(parts, dim=1), full) < CLOSE


def test_rows_of_different_lengths_continue_each_where_they_are(texts: Any) -> None:
    ids, full, start, network = texts
    state, lengths = start(), torch.tensor([3, 7, 1, 20])
    first = network.next_logits(ids, state, lengths)
    assert difference(first, full[torch.arange(4), lengths - 1]) < CLOSE
    rows = torch.tensor([2, 0, 1, 1])  # one left, one is there twice
    state, lengths = state.select(rows), lengths[rows]
    ids, full = ids[rows], full[rows]
    more = torch.tensor([2, 3, 5, 0])
    block = torch.full((4, 15), 49)
    for row in range(4):
        block[row, : more[row]] = ids[row, lengths[row] : lengths[row] + more[row]]
    logits = network(block, state, more)
    for row in range(4):
        expected = full[row, lengths[row] : lengths[row] + more[row]]
        assert torch.allclose(logits[row, : more[row]], expected, atol=CLOSE)
    lengths = lengths + more
    for _ in range(3):
        next_ids = ids[torch.arange(4), lengths][:, None]
        logits = network.next_logits(next_ids, state)
        assert difference(logits, full[torch.arange(4), lengths]) < CLOSE
        lengths = lengths + 1


def test_what_comes_later_does_not_change_the_past(texts: Any) -> None:
    ids, full, start, network = texts
    changed = torch.cat([ids[:, :11], (ids[:, 11:] + 1) % 50], dim=1)
    state = start()
    logits = network(changed, state)
    assert difference(logits[:, :11], full[:, :11]) < CLOSE
    assert difference(logits[:, 11:], full[:, 11:]) > 100 * CLOSE


def test_a_step_in_a_window_of_fixed_size_gives_the_same_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a CUDA graph replays, without the graph: no number of it depends on the position."""
    made = []

    def as_cuda_graph(
        compute: Callable[[Tensor], Tensor], ids: Tensor, lengths: Tensor
    ) -> Callable[[Tensor], Tensor]:
        before = lengths.clone()
        compute(ids)
        lengths.copy_(before)
        made.append(ids)
        return compute

    monkeypatch.setattr(gpt_module, "as_cuda_graph", as_cuda_graph)
    monkeypatch.setattr(gpt_module, "GRAPH_WINDOW", 8)
    network = small_gpt("rotary")
    with torch.inference_mode():
        ids = torch.randint(50, (3, 20))
        full, state, lengths = network(ids), network.start(3, 20), torch.tensor([4, 6, 2])
        network(ids[:, :6], state, lengths)
        for _ in range(12):
            next_ids = ids[torch.arange(3), lengths][:, None]
            length = state.longest
            logits = network.replay_step(next_ids, state)
            # The graph leaves what Python counts to `replay_step`.
            state.longest = length + 1
            assert difference(logits, full[torch.arange(3), lengths]) < CLOSE
            lengths = lengths + 1
        assert len(made) == 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graphs_give_the_logits_of_the_cpu() -> None:
    network = small_gpt("learned")
    with torch.inference_mode():
        ids = torch.randint(50, (3, 20))
        full = network(ids)
        network.cuda()
        state = network.start(3, 20)
        network(ids[:, :5].cuda(), state)
        for i in range(5, 20):
            logits = network.next_logits(ids[:, i : i + 1].cuda(), state)
            assert difference(logits.cpu(), full[:, i]) < CLOSE


# ---- positions -----------------------------------------------------------------------------------


def test_rotary_positions_are_turns_of_complex_numbers() -> None:
    x = torch.randn(2, 5, 3, 8)
    turns = gpt_module.angles(5, 8)
    turned = rotate(x, turns.cos().unsqueeze(-2), turns.sin().unsqueeze(-2))
    for t in range(5):
        for pair in range(4):
            number = torch.complex(x[:, t, :, pair], x[:, t, :, pair + 4])
            factor = complex(math.cos(t / 10_000 ** (pair / 4)), math.sin(t / 10_000 ** (pair / 4)))
            assert torch.allclose(turned[:, t, :, pair], (number * factor).real, atol=1e-6)
            assert torch.allclose(turned[:, t, :, pair + 4], (number * factor).imag, atol=1e-6)


def test_sinusoidal_positions_are_those_of_the_paper() -> None:
    network = small_gpt("sinusoidal")
    assert network.sin[7, 3].item() == pytest.approx(math.sin(7 / 10_000 ** (2 * 3 / 32)))
    assert network.cos[7, 3].item() == pytest.approx(math.cos(7 / 10_000 ** (2 * 3 / 32)))


@pytest.mark.parametrize("kind", ["gpt", "bert", "t5"])
def test_a_width_that_the_heads_cannot_share_is_refused(kind: str) -> None:
    with pytest.raises(DlkitError, match="width"):
        build(kind, vocab_size=9, width=10, heads=3)


# ---- quick weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_compute_the_same_for_a_row_whatever_the_others_are(
    dtype: torch.dtype,
) -> None:
    linear = nn.Linear(96, 65).to(dtype)
    if not can_pack(linear.weight):
        pytest.skip("this processor has no packed weights of that type")
    packed = PackedLinear(linear.weight, linear.bias)
    x = torch.randn(40, 96).to(dtype)
    with torch.inference_mode():
        y = packed(x)
        assert torch.allclose(y, linear(x), atol=1e-5 if dtype == torch.float32 else 0.02)
        for rows in (1, 2, 3, 4, 17, 33):
            assert torch.equal(packed(x[:rows]), y[:rows])
            assert torch.equal(packed(x[:rows, None]), y[:rows, None])


@pytest.mark.parametrize("activation", ["gelu", "gelu-tanh", "relu"])
@pytest.mark.parametrize("untied", [False, True])
def test_a_quick_network_has_the_same_logits(activation: str, untied: bool) -> None:
    network = small_gpt("learned", activation=activation, tie_embeddings=not untied)
    ids = torch.randint(50, (2, 9))
    with torch.inference_mode():
        before = network(ids)
        assert difference(pack_linears(network)(ids), before) < CLOSE


def test_a_quick_bert_and_t5_have_the_same_logits() -> None:
    ids, source = torch.randint(50, (2, 9)), torch.randint(50, (2, 7))
    bert, t5 = loud(BERT(50, 32, 2, 2, 32)), loud(T5(50, 32, 2, 2, 32))
    with torch.inference_mode():
        before = bert(ids)[0], t5(ids, source=source)
        assert difference(pack_linears(bert)(ids)[0], before[0]) < CLOSE
        assert difference(pack_linears(t5)(ids, source=source), before[1]) < CLOSE


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 0)])
def test_a_text_is_continued_alike_alone_and_among_others(dtype: torch.dtype, most: float) -> None:
    """So that the same seed draws the same text, whatever the batch. In bf16 what is not the same
    bit by bit is much different.
    """
    network = small_gpt("learned").to(dtype)
    if not can_pack(network.embedding.weight):
        pytest.skip("this processor has no packed weights of that type")
    pack_linears(network)
    with torch.inference_mode():
        ids, lengths = torch.randint(50, (5, 20)), torch.tensor([6, 9, 1, 4, 9])
        together = network.start(5, 20)
        logits = [network.next_logits(ids[:, :9], together, lengths)]
        for i in range(8):
            given = ids[torch.arange(5), lengths + i][:, None]
            logits.append(network.next_logits(given, together))
        for row in range(5):
            alone, length = network.start(1, 20), int(lengths[row])
            for i in range(9):
                new = (
                    ids[row : row + 1, :length] if i == 0 else ids[row : row + 1, [length + i - 1]]
                )
                found = network.next_logits(new, alone)
                assert difference(found[0], logits[i][row]) <= most


def test_networks_to_be_loaded_are_not_drawn_at_random_first() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    with skip_init():
        network: Any = build("gpt", vocab_size=50, width=32, heads=2, positions="rotary")
    assert torch.equal(torch.random.get_rng_state(), before)
    filled = small_gpt("rotary")
    assert torch.equal(network.cos[:32], filled.cos)


def test_the_first_token_waits_for_torch_and_for_no_compiler(tmp_path: Path) -> None:
    codec = TextCodec.learn([TEXT], "char", 100, "gpt")
    settings = {"vocab_size": codec.size, "context": 32, "width": 32, "heads": 2}
    described = {"network": settings, "tokenizer": codec.to_settings()}
    header = Header("lm-generate", "gpt", described, [])
    path = tmp_path / "small.safetensors"
    checkpoint.save(path, build("gpt", **settings).state_dict(), header)
    script = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
        "from dlkit.cli import main\n"
        f"main(['lm-generate', 'the cat', '-m', {str(path)!r}, '--max-tokens', '3'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "torch" in loaded
    assert not loaded & {"torch._dynamo", "sympy", "numba", "transformers", "matplotlib"}


# ---- against transformers ------------------------------------------------------------------------


def byte_tokenizer() -> Tokenizer:
    return train([TEXT] * 3, vocab_size=280, special=["<|endoftext|>"])


def word_pieces() -> Tokenizer:
    return train(
        [TEXT] * 3,
        algorithm="wordpiece",
        vocab_size=45,
        special=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    )


def write_gpt2(folder: Path) -> Tensor:
    """A small random GPT-2 in transformers' format; its logits of 24 tokens are returned."""
    transformers = pytest.importorskip("transformers")
    tokenizer = byte_tokenizer()
    config = transformers.GPT2Config(
        vocab_size=280, n_positions=32, n_embd=48, n_layer=3, n_head=4, initializer_range=0.2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    network = loud(transformers.GPT2LMHeadModel(config))
    network.save_pretrained(folder)
    vocab = {**tokenizer.special, **tokenizer.vocab}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    merges = "".join(f"{left} {right}\n" for left, right in tokenizer.merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    with torch.inference_mode():
        logits: Tensor = network(gpt2_ids()).logits
    return logits


def gpt2_ids() -> Tensor:
    return torch.arange(48).view(2, 24) * 5


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    return folder, write_gpt2(folder)


@pytest.fixture
def gpt2_copy(gpt2: tuple[Path, Tensor], tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpt2[0], tmp_path / "gpt2"))


def loaded(folder: Path) -> Any:
    header, weights = huggingface.load(folder)
    network = build(header.arch, **header.settings["network"])
    network.load_state_dict(weights)
    return network.eval()


def test_gpt2_has_the_logits_of_transformers(gpt2: tuple[Path, Tensor]) -> None:
    folder, logits = gpt2
    with torch.inference_mode():
        assert difference(loaded(folder)(gpt2_ids()), logits) < CLOSE
        assert difference(pack_linears(loaded(folder))(gpt2_ids()), logits) < CLOSE
    assert logits.std() > 0.5


def test_gpt2s_tokenizer_is_that_of_the_folder(gpt2: tuple[Path, Tensor]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    files = [str(gpt2[0] / name) for name in ("vocab.json", "merges.txt")]
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(*files)
    header, _ = huggingface.load(gpt2[0])
    ours = Tokenizer.from_settings(header.settings["tokenizer"])
    assert ours.encode(TEXT) == theirs.encode(TEXT).ids


def test_weights_in_shards_without_prefix_and_in_half_precision(
    gpt2: tuple[Path, Tensor], gpt2_copy: Path
) -> None:
    weights = load_file(gpt2_copy / "model.safetensors")
    (gpt2_copy / "model.safetensors").unlink()
    table: dict[str, str] = {}
    shards: tuple[dict[str, Tensor], ...] = ({}, {})
    for number, (name, tensor) in enumerate(weights.items()):
        short = name.removeprefix("transformer.")
        shards[number % 2][short] = tensor
        table[short] = f"model-{number % 2}.safetensors"
    # Files of 2019 hold the causal masks, and the output's weights once more.
    shards[0]["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    shards[1]["lm_head.weight"] = weights["transformer.wte.weight"].clone()
    for number, shard in enumerate(shards):
        save_file(shard, gpt2_copy / f"model-{number}.safetensors")
    index = gpt2_copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    with torch.inference_mode():
        assert difference(loaded(gpt2_copy)(gpt2_ids()), gpt2[1]) < CLOSE
    for number, shard in enumerate(shards):
        halves = {name: tensor.bfloat16() for name, tensor in shard.items()}
        save_file(halves, gpt2_copy / f"model-{number}.safetensors")
    network = loaded(gpt2_copy)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    (gpt2_copy / "model-1.safetensors").unlink()
    with pytest.raises(DlkitError, match="model-1.safetensors: no such file"):
        huggingface.load(gpt2_copy)


def test_rows_that_pad_the_vocabulary_are_left_out(
    gpt2: tuple[Path, Tensor], gpt2_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(gpt2_copy, vocab_size=320)
    change_tensor(gpt2_copy, "transformer.wte.weight", lambda w: torch.cat([w, w[:40]]))
    with torch.inference_mode():
        assert difference(loaded(gpt2_copy)(gpt2_ids()), gpt2[1]) < CLOSE
    assert "40 rows" in capsys.readouterr().err


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_tensor(folder: Path, name: str, change: Callable[[Tensor], Tensor | None]) -> None:
    """Another value for the tensor; None takes it out."""
    weights = load_file(folder / "model.safetensors")
    changed = change(weights.pop(name))
    if changed is not None:
        weights[name] = changed
    save_file(weights, folder / "model.safetensors")


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda f: change_tensor(f, "transformer.h.1.mlp.c_fc.weight", lambda w: None),
        "the tensor transformer.h.1.mlp.c_fc.weight is missing",
    ),
    (
        lambda f: change_tensor(f, "transformer.h.2.attn.c_attn.bias", lambda w: w[:7].clone()),
        r"the tensor transformer.h.2.attn.c_attn.bias is \(7,\), not \(144,\)",
    ),
    (lambda f: change_config(f, n_layer=2), "the tensor transformer.h.2.* has no place"),
    (lambda f: change_config(f, n_head=5), "not divisible"),
    (lambda f: change_config(f, model_type="llama"), "a model of type llama"),
    (lambda f: change_config(f, activation_function="mish"), "mish"),
    (lambda f: change_config(f, scale_attn_by_inverse_layer_idx=True), "not supported"),
    (lambda f: change_config(f, n_embd="48"), "config.json"),
    (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
    (lambda f: (f / "config.json").unlink(), "config.json: No such file"),
    (lambda f: (f / "vocab.json").unlink(), "vocab.json: no such file"),
    (lambda f: (f / "merges.txt").write_text("a b c\n"), "merges.txt"),
    (lambda f: (f / "model.safetensors").write_bytes(b"12345678901"), "model.safetensors"),
    (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "bin"),
    (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "index.json: no table"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_damaged_folder_is_named_with_what_is_wrong(
    gpt2_copy: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(gpt2_copy)
    with pytest.raises(DlkitError, match=message) as error:
        huggingface.load(gpt2_copy)
    assert str(gpt2_copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_model_is_refused(gpt2_copy: Path) -> None:
    change_config(gpt2_copy, vocab_size=1000)
    change_tensor(gpt2_copy, "transformer.wte.weight", lambda w: torch.zeros(1000, 48))
    with pytest.raises(DlkitError, match="280 tokens, but its network 1000"):
        huggingface.load(gpt2_copy)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
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


def test_bert_has_the_logits_of_transformers(bert: tuple[Path, Any]) -> None:
    folder, theirs = bert
    ids = torch.randint(30, (2, 20))
    segments = torch.arange(20).expand(2, -1) // 11
    lengths = torch.tensor([20, 12])
    network = loaded(folder)
    with torch.inference_mode():
        there = (torch.arange(20) < lengths[:, None]).long()
        expected = theirs(ids, token_type_ids=segments, attention_mask=there)
        logits, relation = network(ids, segments, lengths)
        assert difference(logits[0], expected.prediction_logits[0]) < CLOSE
        assert difference(logits[1, :12], expected.prediction_logits[1, :12]) < CLOSE
        assert difference(relation, expected.seq_relationship_logits) < CLOSE
        at = torch.zeros(2, 20, dtype=torch.bool)
        at[0, 3] = at[1, 7] = True
        asked, _ = network(ids, segments, lengths, at)
        assert difference(asked, torch.stack([logits[0, 3], logits[1, 7]])) < CLOSE


def test_bert_files_of_2018(bert: tuple[Path, Any], tmp_path: Path) -> None:
    """They say gamma and beta, and may know nothing of the next sentence."""
    folder = Path(shutil.copytree(bert[0], tmp_path / "bert"))
    before = loaded(folder)
    weights = load_file(folder / "model.safetensors")
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): w
        for n, w in weights.items()
        if "seq_relationship" not in n
    }
    save_file(old, folder / "model.safetensors")
    network = loaded(folder)
    ids = torch.randint(30, (1, 9))
    with torch.inference_mode():
        assert torch.equal(network(ids)[0], before(ids)[0])
        assert network(ids)[1] is None
    only_encoder = {n: w for n, w in weights.items() if not n.startswith("cls")}
    save_file(only_encoder, folder / "model.safetensors")
    with pytest.raises(DlkitError, match="cls.predictions.* is missing"):
        huggingface.load(folder)


@pytest.mark.parametrize("lower", [True, False])
def test_bert_lowers_its_text_if_the_folder_says_so(
    bert: tuple[Path, Any], tmp_path: Path, lower: bool
) -> None:
    folder = Path(shutil.copytree(bert[0], tmp_path / "bert"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    header, _ = huggingface.load(folder)
    tokenizer = Tokenizer.from_settings(header.settings["tokenizer"])
    assert (tokenizer.encode("The") == tokenizer.encode("the")) == lower


def test_t5_has_the_logits_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=128, num_layers=2, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    theirs = transformers.T5ForConditionalGeneration(config)
    theirs = loud(theirs)
    ours = T5(50, layers=2, heads=4, width=32).eval()
    ours.load_state_dict(t5_weights(theirs.state_dict()))
    # Past 128 tokens all distances are alike.
    source, target = torch.randint(2, 50, (2, 150)), torch.randint(2, 50, (2, 140))
    lengths = torch.tensor([150, 60])
    there = (torch.arange(150) < lengths[:, None]).long()
    with torch.inference_mode():
        expected = theirs(source, attention_mask=there, decoder_input_ids=target).logits
        assert difference(ours(target, source=source, source_lengths=lengths), expected) < CLOSE
    assert expected.std() > 0.5


def t5_weights(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' weights under our names."""
    weights = {"embedding.weight": theirs["shared.weight"]}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights[f"{stack}_bias.embedding.weight"] = theirs[first]
        weights[f"{stack}_norm.weight"] = theirs[f"{stack}.final_layer_norm.weight"]
        for n in range(2):
            block, ours = f"{stack}.block.{n}.layer.", f"{stack}.{n}."
            parts = [("attention", "0.SelfAttention", "0")]
            if stack == "decoder":
                parts.append(("reading", "1.EncDecAttention", "1"))
            for name, attention, number in parts:
                q, k, v, o = (theirs[f"{block}{attention}.{part}.weight"] for part in "qkvo")
                weights[f"{ours}{name}.query.weight"] = q
                weights[f"{ours}{name}.key_value.weight"] = torch.cat([k, v])
                weights[f"{ours}{name}.out.weight"] = o
                norm = theirs[f"{block}{number}.layer_norm.weight"]
                weights[f"{ours}{name}_norm.weight"] = norm
            dense = f"{block}{last}.DenseReluDense"
            weights[f"{ours}up.weight"] = theirs[f"{dense}.wi.weight"]
            weights[f"{ours}down.weight"] = theirs[f"{dense}.wo.weight"]
            weights[f"{ours}norm.weight"] = theirs[f"{block}{last}.layer_norm.weight"]
    return weights


# ---- by name, from a hub -------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A server as the hub is; the folder with its models, and what was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    folder = tmp_path / "hub"
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    yield folder, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_downloaded_by_name_once(
    hub: tuple[Path, list[str]], gpt2: tuple[Path, Tensor]
) -> None:
    served, asked = hub
    shutil.copytree(gpt2[0], served / "someone" / "gpt2" / "resolve" / "main")
    folder = huggingface.find("hf:someone/gpt2")
    assert folder is not None
    with torch.inference_mode():
        assert difference(loaded(folder)(gpt2_ids()), gpt2[1]) < CLOSE
    count = len(asked)
    assert huggingface.find("hf:someone/gpt2") == folder
    assert len(asked) == count
    (folder / "vocab.json").unlink()  # an interrupted download is completed
    (folder / "model.safetensors").unlink()
    assert huggingface.find("hf:someone/gpt2") == folder
    huggingface.load(folder)


def test_names_that_the_hub_does_not_know(
    hub: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DlkitError, match="404"):
        huggingface.find("hf:nobody/nothing")
    for name in ("hf:gpt2", "hf:a/b/c", "hf:../x", "hf:a/.."):
        with pytest.raises(DlkitError, match="hf:owner/name"):
            huggingface.find(name)
    assert huggingface.find("shakespeare") is None
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DlkitError, match="cannot be reached"):
        huggingface.find("hf:someone/else")


# ---- what BERT and T5 learn from -----------------------------------------------------------------


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


def test_marks_that_a_tokenizer_lacks_come_after_its_own() -> None:
    tokenizer = train([TEXT], algorithm="char")
    special = SpanLM.special_ids(tokenizer)
    assert min(special.values()) == max(tokenizer.names) + 1
    assert SpanLM.vocab_size(TextCodec(tokenizer)) == len(tokenizer.names) + 102
    assert set(masked_lm.regular_ids(tokenizer).tolist()) == set(tokenizer.vocab.values())


def test_half_of_the_pairs_do_not_belong_together() -> None:
    special = MaskedLM.special_ids(train([TEXT], algorithm="char"))
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


@pytest.mark.parametrize("length", [2, 3, 7, 50, 256])
def test_the_written_spans_complete_the_text_that_was_read(length: int) -> None:
    special = SpanLM.special_ids(train([TEXT], algorithm="char"))
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


def test_the_decoder_is_given_its_text_one_later() -> None:
    special = SpanLM.special_ids(train([TEXT], algorithm="char"))
    target = torch.tensor([[5, 6, special["</s>"]]])
    assert span_lm.shift_right(target, special).tolist() == [[special["<pad>"], 5, 6]]


def test_one_token_has_no_span() -> None:
    special = SpanLM.special_ids(train([TEXT], algorithm="char"))
    with pytest.raises(DlkitError, match="2 tokens or more"):
        span_lm.corrupt_spans(torch.zeros(1, 1, dtype=torch.long), special)
