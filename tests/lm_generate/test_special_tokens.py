"""Special tokens of models in Hugging Face's format, against transformers; scores and batches."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dlkit.lm_generate as lm
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.sampling import Sampling
from dlkit.core.io.scores import Score
from dlkit.core.store import checkpoint
from dlkit.lm_generate import chat, infer
from dlkit.lm_generate.evaluate import evaluate_checkpoint
from dlkit.lm_generate.infer import load
from tests.conftest import run
from tests.lm_generate.helpers import generate_all, write_gpt2

pytestmark = pytest.mark.usefixtures("seeded")
CHAT = "<|user|>the cat<|bot|>sat"


def with_chat_tokens(folder: Path, **config: Any) -> Path:
    """A GPT-2 with three added tokens, which have rows of their own in its embedding."""
    transformers = pytest.importorskip("transformers")
    write_gpt2(folder)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder)
    first = model.config.vocab_size
    model.resize_token_embeddings(first + 3, mean_resizing=False)
    model.save_pretrained(folder)
    added = {"<|user|>": first, "<|bot|>": first + 1, "[PAD]": first + 2}
    special = {
        "eos_token": "<|bot|>",
        "pad_token": "[PAD]",
        "additional_special_tokens": ["<|user|>", "<|bot|>"],
    }
    write_json(folder / "added_tokens.json", added)
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **config})
    return folder


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def change(path: Path, **changes: Any) -> None:
    write_json(path, (json.loads(path.read_text()) if path.exists() else {}) | changes)


@pytest.mark.parametrize("prefix_space", [False, True])
def test_added_tokens_have_their_ids_and_rows(tmp_path: Path, prefix_space: bool) -> None:
    transformers = pytest.importorskip("transformers")
    folder = with_chat_tokens(tmp_path, add_prefix_space=prefix_space)
    model = load(folder, "cpu", "fp32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    [found] = infer.score([CHAT], model)
    ids = [token.id for token in found.tokens]
    assert ids == tokenizer.encode(CHAT)[-len(ids) :]
    network = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    whole = torch.tensor([[*model.start_ids, *model.codec.encode(CHAT)]])
    with torch.inference_mode():
        logprobs = network(whole).logits[0].log_softmax(-1)
    expected = logprobs[:-1].gather(1, whole[0, 1:, None])[:, 0].tolist()
    assert [token.logprob for token in found.tokens] == pytest.approx(expected, abs=1e-4)


def test_special_tokens_are_text_where_asked(tmp_path: Path) -> None:
    folder = with_chat_tokens(tmp_path)
    plain = load(folder, "cpu", "fp32", parse_special=False)
    user = plain.codec.tokenizer.special["<|user|>"]
    assert user not in plain.codec.encode(CHAT)
    assert user in load(folder, "cpu", "fp32").codec.encode(CHAT)


def test_special_tokens_are_read_alike_by_score_evaluate_python_and_training(
    tmp_path: Path,
) -> None:
    folder = with_chat_tokens(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text(f"{CHAT}\n" * 3)

    def evaluated(parse_special: bool | None) -> int:
        scores = evaluate_checkpoint([str(text)], model=str(folder), parse_special=parse_special)
        definition = next(s.definition for s in scores if isinstance(s, Score))
        return int(definition.split(" of ")[1].split()[0])

    model = load(folder, "cpu", "fp32")
    assert evaluated(None) == len(model.codec.encode(text.read_text())) < evaluated(False)
    for how in (True, False):
        found = lm.score(CHAT, folder, device="cpu", precision="fp32", parse_special=how)
        assert ("<|user|>" in [token.token for token in found.tokens]) == how
    with pytest.raises(DlkitError, match="parse_special is an argument of load"):
        lm.score(CHAT, lm.load(folder, "cpu", "fp32"), parse_special=True)
    config = lm.Config(
        data=[str(text)], init_from=str(folder), epochs=1, batch_size=1, context=4, workers=1,
        device="cpu", out=tmp_path / "run", steps_per_epoch=1, val_share=0.0,
    )  # fmt: skip
    trained = load(lm.train(config), "cpu", "fp32")
    assert trained.codec.encode(CHAT) == model.codec.encode(CHAT)
    assert (trained.ends, trained.codec.begin) == (model.ends, model.codec.begin)
    ids = np.fromfile(next((tmp_path / "run").glob("training*.bin")), np.uint16)
    assert ids.tolist() == [*model.start_ids, *model.codec.encode(text.read_text())]


def test_texts_end_at_the_tokens_that_the_model_names(tmp_path: Path) -> None:
    folder = with_chat_tokens(tmp_path)
    config, generation = folder / "config.json", folder / "generation_config.json"
    special = load(folder, "cpu", "fp32").codec.tokenizer.special
    generation.unlink(missing_ok=True)
    change(config, eos_token_id=None, bos_token_id=None)
    assert load(folder, "cpu", "fp32").ends == {special["<|bot|>"]}  # special_tokens_map.json
    change(config, eos_token_id=5)
    assert load(folder, "cpu", "fp32").ends == {5}
    change(generation, eos_token_id=[special["[PAD]"], 7], bos_token_id=special["<|user|>"])
    model = load(folder, "cpu", "fp32")
    assert model.ends == {special["[PAD]"], 7}
    assert model.start_ids == [special["<|user|>"]]
    everything = list(range(model.size))
    change(generation, eos_token_id=everything)
    [text] = generate_all(["the"], load(folder, "cpu", "fp32"), sampling=Sampling(greedy=True))
    assert (text.finish, len(text.tokens)) == ("end", 1)
    change(generation, eos_token_id=100000)
    with pytest.raises(DlkitError, match="eos_token_id 100000 is no token of its tokenizer"):
        load(folder, "cpu", "fp32")


def test_a_field_that_is_not_known_is_named(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    change(tmp_path / "config.json", rope_scaling={"factor": 2})
    with pytest.raises(DlkitError, match=r"config.json: rope_scaling .* is not known to dlkit"):
        load(tmp_path, "cpu", "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scores_are_the_same_whatever_the_batch(tmp_path: Path, precision: Any) -> None:
    write_gpt2(tmp_path)
    model = load(tmp_path, "cpu", precision)
    texts = [("the cat sat on the mat " * 9)[: 3 * length] for length in range(1, 40)]
    expected = list(infer.score(texts, model, 1))
    for batch_size in (3, 16):
        assert list(infer.score(texts, model, batch_size)) == expected


def test_empty_texts_have_defined_scores(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    found = list(infer.score(["", " ", "\t", "the"], load(tmp_path, "cpu", "fp32")))
    assert [text.text for text in found] == ["", " ", "\t", "the"]
    assert (found[0].logprob, found[0].perplexity, found[0].tokens) == (0.0, None, [])
    assert all(text.perplexity for text in found[1:])


def test_a_failure_of_an_empty_text_has_a_name(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    model = load(tmp_path, "cpu", "fp32")

    def refuse(text: str) -> str:
        raise DlkitError("no gap")

    found = list(infer.map_texts(refuse, ["", " ", "x"], model, None))
    assert [str(failure) for failure in found] == [
        str(Failure(name, "no gap")) for name in ("an empty text", "an empty text", "x")
    ]


TEMPLATE = (
    "{% for message in messages %}\n"
    "  {%- if message['role'] == 'user' %}\n"
    "{{ '<|user|>' + message['content'] }}\n"
    "  {%- else %}\n"
    "{{ '<|bot|>' + message['content'] + eos_token }}\n"
    "  {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|bot|>' }}{% endif %}"
)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_chat_template_makes_the_prompt(tmp_path: Path, file: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = with_chat_tokens(tmp_path)
    if file.endswith("json"):
        change(folder / file, chat_template=TEMPLATE)
    else:
        (folder / file).write_text(TEMPLATE)
    model = load(folder, "cpu", "fp32")
    dialogue = chat.Dialogue(model, chat.Speakers(), None, 5)
    messages = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "sat"},
        {"role": "user", "content": "a dog"},
    ]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    found = dialogue.format([("the cat", "sat")], "a dog")
    assert found == expected
    assert found.endswith("<|user|>a dog<|bot|>")
    special = model.codec.tokenizer.special
    ids = model.codec.encode(found)
    assert [ids[0], ids[-1]] == [special["<|user|>"], special["<|bot|>"]]


def test_chat_uses_the_template_or_the_speakers(tmp_path: Path) -> None:
    folder = with_chat_tokens(tmp_path)
    change(folder / "tokenizer_config.json", chat_template=TEMPLATE)
    options = ("-m", folder, "--max-tokens", 3, "--greedy", "--device", "cpu")
    by_template = run("lm-generate", "chat", *options, stdin="the cat\na dog\n")
    assert by_template.code == 0, by_template.err
    model = load(folder, "cpu", "fp32")
    [first] = generate_all(
        ["<|user|>the cat<|bot|>"], model, max_tokens=3, sampling=Sampling(greedy=True)
    )
    assert by_template.out.split("\n")[0] == first.text.strip()
    by_speakers = run("lm-generate", "chat", *options, "--user", "U:", stdin="the cat\n")
    assert "--user and --bot are used in place of its chat_template" in by_speakers.err
    plain = run("lm-generate", "chat", *options, "--no-parse-special", stdin="the cat\n")
    assert plain.code == 2
    assert "its chat_template is made of special tokens; omit --no-parse-special" in plain.err


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no system role') }}", "refuses the dialogue: no system role"),
        ("{% for %}", "its chat_template is damaged"),
        ("{{ messages[0].content // 0 }}", "its chat_template fails"),
        ([{"name": "tool_use", "template": ""}], "none with the name default"),
    ],
)
def test_a_chat_template_that_fails_is_one_line(tmp_path: Path, template: Any, reason: str) -> None:
    folder = with_chat_tokens(tmp_path)
    change(folder / "tokenizer_config.json", chat_template=template)
    done = run("lm-generate", "chat", "-m", folder, "--device", "cpu", stdin="the cat\n")
    assert (done.code, reason in done.err) == (2, True), done.err


def test_the_settings_of_generation_that_are_not_used_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gpt2(tmp_path)
    settings = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "no_repeat_ngram_size": 3}
    write_json(tmp_path / "generation_config.json", settings)
    model = load(tmp_path, "cpu", "fp32")
    capsys.readouterr()
    generate_all(["the cat"], model, max_tokens=2, sampling=Sampling(top_p=0.9))
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}: as in its generation_config.json with --temperature 0.5",
        f"{tmp_path}: dlkit has no option for these fields of its generation_config.json:"
        " no_repeat_ngram_size 3",
    ]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("begin", "x", "begin is 'x'"),
        ("begin", 10**9, "1000000000 is no token"),
        ("ends", [-1], "ends[0] is -1"),
        ("ends", {"a": 1}, "ends is"),
        ("parse_special", "yes", "parse_special is 'yes'"),
        ("chat_template", 7, "chat_template is 7"),
        ("generation", [1], "generation is"),
    ],
)
def test_entries_of_a_header_of_other_types_are_refused(
    file: Path, tmp_path: Path, name: str, value: Any, reason: str
) -> None:
    header, weights = checkpoint.load(file)
    header = replace(header, settings={**header.settings, name: value})
    checkpoint.save(tmp_path / "model.safetensors", weights, header)
    with pytest.raises(DlkitError, match="a damaged model file") as refused:
        load(tmp_path / "model.safetensors", "cpu", "fp32")
    assert reason in str(refused.value)
