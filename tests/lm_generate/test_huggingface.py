"""Models of Hugging Face, against transformers, and its hub."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.generation.sampling import Sampling
from dlkit.core.nn.fast_inference import pack_linears
from dlkit.lm_generate import huggingface
from dlkit.lm_generate.infer import load
from dlkit.lm_generate.model import build
from dlkit.tokenize import Tokenizer
from tests.conftest import Hub
from tests.lm_generate.helpers import CATS, CLOSE, difference, generate_all, gpt2_ids, write_gpt2

pytestmark = pytest.mark.usefixtures("seeded")


def test_gpt2_continues_as_transformers_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_gpt2(tmp_path)
    model = load(tmp_path, "cpu", "fp32")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    prompt = "the cat sat"
    ids = torch.tensor([model.codec.encode(prompt)])
    settings = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 0}
    greedy = theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    beam = theirs.generate(ids, attention_mask=torch.ones_like(ids), num_beams=4, **settings)
    penalized = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), repetition_penalty=1.5, **settings
    )
    for expected_ids, how in (
        (greedy, {"sampling": Sampling(greedy=True)}),
        (beam, {"beam": 4}),
        (penalized, {"sampling": Sampling(greedy=True, repetition_penalty=1.5)}),
    ):
        [ours] = generate_all([prompt], model, max_tokens=20, **how)
        assert [t.id for t in ours.tokens] == expected_ids[0, ids.shape[1] :].tolist()


@pytest.fixture
def gpt2_copy(gpt2: tuple[Path, Tensor], tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpt2[0], tmp_path / "gpt2"))


def load_network(folder: Path) -> Any:
    header, weights = huggingface.load(folder)
    network = build(header.arch, **header.settings["network"])
    network.load_state_dict(weights)
    return network.eval()


def test_gpt2_has_the_logits_of_transformers(gpt2: tuple[Path, Tensor]) -> None:
    folder, logits = gpt2
    with torch.inference_mode():
        assert difference(load_network(folder)(gpt2_ids()), logits) < CLOSE
        assert difference(pack_linears(load_network(folder))(gpt2_ids()), logits) < CLOSE
    assert logits.std() > 0.5


def test_gpt2s_tokenizer_is_that_of_the_folder(gpt2: tuple[Path, Tensor]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    files = [str(gpt2[0] / name) for name in ("vocab.json", "merges.txt")]
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(*files)
    header, _ = huggingface.load(gpt2[0])
    ours = Tokenizer.from_settings(header.settings["tokenizer"])
    assert ours.encode(CATS) == theirs.encode(CATS).ids


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
        assert difference(load_network(gpt2_copy)(gpt2_ids()), gpt2[1]) < CLOSE
    for number, shard in enumerate(shards):
        halves = {name: tensor.bfloat16() for name, tensor in shard.items()}
        save_file(halves, gpt2_copy / f"model-{number}.safetensors")
    network = load_network(gpt2_copy)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    (gpt2_copy / "model-1.safetensors").unlink()
    with pytest.raises(DlkitError, match="model-1.safetensors: no such file"):
        huggingface.load(gpt2_copy)


def test_rows_that_pad_the_vocabulary_are_dropped(
    gpt2: tuple[Path, Tensor], gpt2_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(gpt2_copy, vocab_size=320)
    change_tensor(gpt2_copy, "transformer.wte.weight", lambda w: torch.cat([w, w[:40]]))
    with torch.inference_mode():
        assert difference(load_network(gpt2_copy)(gpt2_ids()), gpt2[1]) < CLOSE
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
    (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
    (
        lambda f: (f / "vocab.json").unlink(),
        "gpt2: no tokenizer in this folder: no tokenizer.json, tokenizer.model, vocab.json",
    ),
    (lambda f: (f / "merges.txt").write_text("a b c\n"), "merges.txt"),
    (lambda f: (f / "model.safetensors").write_bytes(b"12345678901"), "model.safetensors"),
    (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "bin"),
    (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "index.json: no table"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_the_error_of_a_damaged_folder_names_its_cause(
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


def test_bert_has_the_logits_of_transformers(hf_bert: tuple[Path, Any]) -> None:
    folder, theirs = hf_bert
    ids = torch.randint(30, (2, 20))
    segments = torch.arange(20).expand(2, -1) // 11
    lengths = torch.tensor([20, 12])
    network = load_network(folder)
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


def test_bert_files_of_2018(hf_bert: tuple[Path, Any], tmp_path: Path) -> None:
    """They have the names gamma and beta, and may lack next-sentence prediction."""
    folder = Path(shutil.copytree(hf_bert[0], tmp_path / "bert"))
    before = load_network(folder)
    weights = load_file(folder / "model.safetensors")
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): w
        for n, w in weights.items()
        if "seq_relationship" not in n
    }
    save_file(old, folder / "model.safetensors")
    network = load_network(folder)
    ids = torch.randint(30, (1, 9))
    with torch.inference_mode():
        assert torch.equal(network(ids)[0], before(ids)[0])
        assert network(ids)[1] is None
    only_encoder = {n: w for n, w in weights.items() if not n.startswith("cls")}
    save_file(only_encoder, folder / "model.safetensors")
    with pytest.raises(DlkitError, match="cls.predictions.* is missing"):
        huggingface.load(folder)


@pytest.mark.parametrize("lower", [True, False])
def test_bert_lower_cases_its_text_if_the_folder_has_that_setting(
    hf_bert: tuple[Path, Any], tmp_path: Path, lower: bool
) -> None:
    folder = Path(shutil.copytree(hf_bert[0], tmp_path / "bert"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    header, _ = huggingface.load(folder)
    tokenizer = Tokenizer.from_settings(header.settings["tokenizer"])
    assert (tokenizer.encode("The") == tokenizer.encode("the")) == lower


def test_a_model_is_downloaded_by_name_once(hub: Hub, gpt2: tuple[Path, Tensor]) -> None:
    shutil.copytree(gpt2[0], hub.folder / "someone/gpt2/resolve/main")
    folder = huggingface.find("hf:someone/gpt2")
    assert folder is not None
    with torch.inference_mode():
        assert difference(load_network(folder)(gpt2_ids()), gpt2[1]) < CLOSE
    count = len(hub.asked)
    assert huggingface.find("hf:someone/gpt2") == folder
    assert len(hub.asked) == count
    (folder / "vocab.json").unlink()  # an interrupted download is completed
    (folder / "model.safetensors").unlink()
    assert huggingface.find("hf:someone/gpt2") == folder
    huggingface.load(folder)


def test_names_that_the_hub_does_not_know(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DlkitError, match="404"):
        huggingface.find("hf:nobody/nothing")
    for name in ("hf:gpt2", "hf:a/b/c", "hf:../x", "hf:a/.."):
        with pytest.raises(DlkitError, match="hf:owner/name"):
            huggingface.find(name)
    assert huggingface.find("shakespeare") is None
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DlkitError, match="cannot be reached"):
        huggingface.find("hf:someone/else")
