"""Rows of networks that move with their vocabulary: old tokens keep their logits, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from dlkit.caption import model as caption  # noqa: E402
from dlkit.core.store import checkpoint  # noqa: E402
from dlkit.core.store.checkpoint import Header  # noqa: E402
from dlkit.lm_generate import model as lm  # noqa: E402
from dlkit.lm_generate.infer import load as load_lm  # noqa: E402
from dlkit.lm_generate.text_codec import TextCodec  # noqa: E402
from dlkit.tokenize import DecoderVocabulary, Tokenizer, train  # noqa: E402
from dlkit.tokenize.network_rows import ROWS  # noqa: E402
from dlkit.translate import model as translate  # noqa: E402
from dlkit.translate.infer import load as load_translator  # noqa: E402
from tests.conftest import run  # noqa: E402
from tests.tokenize.helpers import LINES, error_line  # noqa: E402

SMALL = {"width": 32, "dropout": 0.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "bengio": {"direct": True, "hidden": 16},
    "lstm": {"tie_embeddings": False, "layers": 1},
    "gru": {"layers": 1},
    "bilm": {"layers": 1},
    "gpt": {"layers": 1, "heads": 2, "context": 32},
    "gpt untied": {"layers": 1, "heads": 2, "context": 32, "tie_embeddings": False},
    "bert": {"layers": 1, "heads": 2, "context": 32},
    "t5": {"layers": 1, "heads": 2, "context": 32},
}
TRANSLATORS: dict[str, dict[str, Any]] = {
    "rnn": {"layers": 1, "cell": "gru", "residual": False, "reverse": False},
    "transformer": {"layers": 1, "heads": 2, "ffn_width": 32, "pre_norm": True},
}


def learned(special: tuple[str, ...] = ()) -> Tokenizer:
    return train("\n".join(LINES), algorithm="byte-bpe", vocab_size=300, special=list(special))


def save_lm(path: Path, name: str, bits: int = 32, special: tuple[str, ...] = ()) -> Tokenizer:
    torch.manual_seed(1)
    arch, tokenizer = name.split()[0], learned(special)
    kind = lm.architecture(arch).kind
    settings = SMALL | NETWORKS[name] | {"vocab_size": kind.vocab_size(TextCodec(tokenizer))}
    network = lm.build(arch, **settings)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    header = Header(
        "lm-generate", arch, {"network": settings, "tokenizer": tokenizer.to_settings()}, []
    )
    checkpoint.save(path, network.state_dict(), header, bits)
    return tokenizer


def built(names: list[str], build: Callable[..., Any], *settings: dict[str, Any]) -> set[str]:
    """The tensors of a network that grow with the vocabulary."""
    small, large = (
        {n: tuple(t.shape) for n, t in build(*names, **s).state_dict().items()} for s in settings
    )
    return {name for name, shape in small.items() if shape != large[name]}


def test_the_tensors_with_rows_are_those_that_grow_with_the_vocabulary() -> None:
    found = set()
    for name, options in NETWORKS.items():
        sizes = [SMALL | options | {"vocab_size": size} for size in (50, 51)]
        found |= built([name.split()[0]], lm.build, *sizes)
    ids = {"pad": 0, "bos": 1, "eos": 2, "unk": 3}
    both = [SMALL | ids | {"vocab_size": size} for size in (50, 51)]
    for arch, options in TRANSLATORS.items():
        for tie in (True, False):
            sizes = [{**both[n], **options, "tie_embeddings": tie} for n in (0, 1)]
            found |= built([arch], translate.build, *sizes)
    backbone = {"fit": "squash", "image_size": 32, "grid": 1, "backbone": {
        "arch": "lenet", "network": {"num_labels": 3, "image_size": 32},
        "preprocessing": {"image_size": 32, "fit": "squash", "channels": 3, "mean": [0] * 3,
                          "std": [1] * 3},
    }}  # fmt: skip
    try:
        found |= built(["nic"], caption.build, *({**b, **backbone, "layers": 1} for b in both))
    except (TypeError, KeyError, ValueError):
        pytest.fail("the settings of a captioner have changed; this test needs them")
    assert found == set(ROWS)


@pytest.mark.parametrize("name", NETWORKS)
def test_old_tokens_keep_their_numbers_in_a_language_model(name: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    tokenizer = save_lm(old, name)
    command = ["tokenize", "extend", old, "--add", "qzqz", "--add", "New York", "--network", old]
    done = run(*command, "-o", tmp_path / "new.json")
    assert (done.code, done.out) == (0, f"{tmp_path / 'new.json'}\n{new}\n"), done.err
    assert "the mean of the rows of its pieces" in done.err
    before, after = checkpoint.load(old), checkpoint.load(new)
    size = len(tokenizer.names)
    virtual = len(before[1]["embedding.weight"]) - size  # special tokens that it lacks
    assert after[0].settings["network"]["vocab_size"] == size + virtual + 2
    pieces = tokenizer.encode("New York")
    for weight, tensor in before[1].items():
        grown = after[1][weight]
        if weight not in ROWS:
            assert torch.equal(grown, tensor)
            continue
        assert torch.equal(grown[:size], tensor[:size])
        assert torch.equal(grown[size + 2 :], tensor[size:])
        assert torch.equal(grown[size + 1], tensor[pieces].mean(0))
    assert ("head.weight" in after[1]) == ("head.weight" in before[1])
    text = "The quick fox"
    mine, theirs = load_lm(old), load_lm(new)
    assert theirs.codec.encode(text) == mine.codec.encode(text)
    if name.split()[0] in {"gpt", "lstm", "gru", "bengio"}:
        ids = torch.tensor([mine.codec.encode(text)])
        logits = [model.network(ids) for model in (mine, theirs)]  # type: ignore[attr-defined]
        # Renormalized over the old tokens, the log-probabilities are the same.
        expected, found = logits[0].log_softmax(-1), logits[1][..., :size].log_softmax(-1)
        assert torch.allclose(expected, found, atol=1e-5)


def test_a_pruned_language_model(tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    tokenizer = save_lm(old, "gpt", special=("<pad>", "<s>"))
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The quick brown fox.\n", encoding="utf-8")
    command = ["tokenize", "prune", old, corpus, "--network", old, "-o", tmp_path / "new.json"]
    assert run(*command).code == 0
    mine, theirs = load_lm(old), load_lm(new)
    kept = [
        tokenizer.vocab.get(t, tokenizer.special.get(t))
        for t in theirs.codec.tokenizer.names.values()
    ]
    names = theirs.codec.tokenizer.names
    by_id = [{**tokenizer.vocab, **tokenizer.special}[names[i]] for i in range(len(names))]
    assert len(kept) < len(tokenizer.names)
    ids = mine.codec.encode("The quick brown fox.")
    moved = theirs.codec.encode("The quick brown fox.")
    assert [by_id[i] for i in moved] == ids
    expected = mine.network(torch.tensor([ids]))[..., by_id].log_softmax(-1)  # type: ignore[attr-defined]
    found = theirs.network(torch.tensor([moved])).log_softmax(-1)  # type: ignore[attr-defined]
    assert torch.allclose(expected, found, atol=1e-5)


@pytest.mark.parametrize("bits", [8, 16])
def test_stored_rows_of_fewer_bits_stay_the_same_bits(bits: int, tmp_path: Path) -> None:
    old = tmp_path / "old.safetensors"
    size = len(save_lm(old, "gpt", bits).names)
    out = ["--network", old, "-o", tmp_path / "new.json"]
    assert run("tokenize", "extend", old, "--add", "qzqz", *out).code == 0
    before, after = (
        checkpoint.load_stored(path)[1] for path in (old, tmp_path / "new.safetensors")
    )
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name][: len(tensor)], tensor)
    assert len(after["embedding.weight"]) == size + 1


@pytest.mark.parametrize("special", [(), ("<pad>", "<s>", "</s>", "<unk>")])
@pytest.mark.parametrize("arch", TRANSLATORS)
def test_a_translator(arch: str, special: tuple[str, ...], tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    tokenizer = learned(special)
    torch.manual_seed(1)
    roles = DecoderVocabulary(tokenizer).network_settings()
    settings = SMALL | TRANSLATORS[arch] | roles | {"tie_embeddings": False}
    network = translate.build(arch, **settings)
    content = {"network": settings, "tokenizer": tokenizer.to_settings(), "lower": False}
    checkpoint.save(old, network.state_dict(), Header("translate", arch, content, []))
    command = ["tokenize", "extend", old, "--add", "qzqz", "--network", old]
    done = run(*command, "-o", tmp_path / "new.json")
    assert done.code == 0, done.err
    mine, theirs = load_translator(old, "cpu"), load_translator(new, "cpu")
    vocabulary = DecoderVocabulary(Tokenizer.from_settings(
        checkpoint.read_header(new).settings["tokenizer"]))  # fmt: skip
    moved = {**{i: i for i in tokenizer.names}}
    moved |= {roles[role]: getattr(vocabulary, role) for role in ("pad", "bos", "eos", "unk")}
    source = [*tokenizer.encode("The quick fox"), roles["eos"]]
    target = [roles["bos"], *tokenizer.encode("A dog")]
    results = []
    for model, ids in ((mine, {i: i for i in moved}), (theirs, moved)):
        one, two = ([[ids[i] for i in text]] for text in (source, target))
        logits = model.network(torch.tensor(one), torch.tensor([len(source)]), torch.tensor(two))
        results.append(logits[..., [ids[i] for i in sorted(moved)]].log_softmax(-1))
    assert torch.allclose(*results, atol=1e-5)


def test_what_has_no_rows_is_refused(tmp_path: Path) -> None:
    old, out = tmp_path / "old.safetensors", tmp_path / "new.json"
    save_lm(old, "gpt")
    weights = Path(lm.__file__).parent / "weights"
    for network, message in (
        (weights / "english-ngram.safetensors", "no rows for tokens"),
        (old, "its tokenizer is another one"),
        (tmp_path / "no.safetensors", "no such file"),
    ):
        refused = run(
            "tokenize", "extend", "english-8k", "--add", "qzqz", "--network", network, "-o", out
        )
        assert refused.code == 2
        assert message in refused.err
        assert "Traceback" not in refused.err
        assert not out.exists()
    vision = Path(lm.__file__).parents[1] / "classify" / "weights" / "digits.safetensors"
    assert "carries no tokenizer" in error_line("--text", "x", "-m", vision)
