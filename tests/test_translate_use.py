"""Translators in use: searching, drawing, lines in and out, alignment."""

import contextlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.generation.beam_search import length_penalty
from dlkit.core.generation.sampling import Sampling
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.translate import infer
from dlkit.translate.alignment import Link, WordAlignment, align_words, join_alignments
from dlkit.translate.config import Search
from dlkit.translate.infer import LineFailure, Predictor, Translation, load, translate
from dlkit.translate.model import build
from dlkit.translate.models.translator import Translator
from dlkit.translate.sentences import split_line
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.conftest import run

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK}


# ---- a real network ------------------------------------------------------------------------------

ENGLISH = ["A dog runs.", "Two men walk on the street.", "The girl eats a red apple.", "Ein Hund."]
LINES = [
    "A dog runs.",
    "",
    "Two men walk.",
    "   ",
    "The girl eats a red apple on the street, and two dogs walk.",
    "...!?",
    "собака 狗 🐕",
    "a",
]


@pytest.fixture(scope="module")
def vocabulary() -> TranslationVocabulary:
    return TranslationVocabulary.learn(ENGLISH * 3, "byte-bpe", 300)


def network(
    vocabulary: TranslationVocabulary, arch: str = "transformer", seed: int = 0
) -> Translator:
    """A random network whose next tokens differ much in probability."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"width": 16, "layers": 2, "dropout": 0.1}
    if arch == "transformer":
        settings |= {"heads": 2, "ffn_width": 32}
    made = build(arch, **vocabulary.network_settings(), **settings)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data *= 2.5
    return made.eval().requires_grad_(False)


def save(
    path: Path, vocabulary: TranslationVocabulary, arch: str = "transformer", **settings: Any
) -> Path:
    made = network(vocabulary, arch)
    shape: dict[str, Any] = {"width": 16, "layers": 2, "dropout": 0.1}
    if arch == "transformer":
        shape |= {"heads": 2, "ffn_width": 32}
    described = {
        "network": {**vocabulary.network_settings(), **shape},
        "tokenizer": vocabulary.to_settings(),
        **settings,
    }
    checkpoint.save(path, made.state_dict(), Header("translate", arch, described, []))
    return path


@pytest.fixture(scope="module")
def file(vocabulary: TranslationVocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "tiny.safetensors", vocabulary)


@pytest.fixture(scope="module")
def model(file: Path) -> Predictor:
    return load(file, "cpu", "fp32")


def texts(results: Any) -> list[str]:
    return [result.translation for result in results if isinstance(result, Translation)]


QUICK = ("--precision", "fp32", "--max-length", "12")


@pytest.mark.parametrize(
    "search",
    [
        Search(beam=1, max_length=12),
        Search(beam=3, n_best=2, max_length=12),
        Search(sampling=Sampling(temperature=0.8), n_best=2, seed=1, max_length=12),
    ],
    ids=["greedy", "beam", "drawn"],
)
def test_lines_together_are_translated_as_lines_by_themselves(
    model: Predictor, search: Search
) -> None:
    together = list(translate([LINES], model, search))
    one_by_one = list(translate([[line] for line in LINES], model, search))
    assert texts(together) == texts(one_by_one)
    for one, other in zip(together, one_by_one, strict=True):
        assert isinstance(one, Translation)
        assert isinstance(other, Translation)
        assert [h.translation for h in one.hypotheses] == [h.translation for h in other.hypotheses]
        scores = [h.logprob for h in other.hypotheses]
        assert [h.logprob for h in one.hypotheses] == pytest.approx(scores, abs=1e-3)
    assert [result.line for result in together if isinstance(result, Translation)] == [*range(1, 9)]
    assert len(set(texts(together))) > 4


def test_batches_hold_each_part_once_and_similar_lengths() -> None:
    parts = [infer.Segment("", [4] * length) for length in (9, 300, 2, 700, 2, 50)] * 40
    made = list(infer.batch_segments(parts, 5))
    assert sum(map(len, made)) == len(parts)
    assert [len(p.ids) for batch in made for p in batch] == sorted(len(p.ids) for p in parts)
    for batch in made:
        longest = max(len(part.ids) for part in batch)
        assert (
            len(batch) == 1
            or 5 * len(batch) * (2 * longest + infer.EXTRA_LENGTH) <= infer.MAX_POSITIONS
        )
        assert 5 * len(batch) <= infer.MAX_ROWS


# ---- lines in, lines out -------------------------------------------------------------------------


def lines_out(result: Any) -> list[str]:
    assert result.out == "" or result.out.endswith("\n")
    found: list[str] = result.out.split("\n")[:-1]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a",
        "a\n",
        "\n\n\n",
        "A dog runs.\n\nTwo men walk.\n",
        "A dog\x0bruns.\x0c\x1c\x85  Two.\u2028 men\n",
        "tab\there\r\nand \r there\n",
        "\x00\x01\x02\n\x7f\n",
        "<s> </s> <pad> <unk>\n",
        "?!.,;:\n",
        "狗在跑。\nسگ\n🐕🐕🐕\n",
    ],
)
def test_as_many_lines_out_as_in(file: Path, text: str) -> None:
    result = run("translate", "-m", file, *QUICK, stdin=text)
    assert result.code == 0, result.err
    asked = (text[:-1] if text.endswith("\n") else text).split("\n") if text else []
    found = lines_out(result)
    assert len(found) == len(asked)
    for line, translation in zip(asked, found, strict=True):
        assert line.strip() or not translation


def test_a_very_long_line_is_one_line(file: Path) -> None:
    for line in ("a" * 100_000, "." * 100_000, "A dog runs. " * 9_000):
        start = time.monotonic()
        result = run("translate", "-m", file, "--beam", 1, "--max-length", 1, stdin=f"{line}\na\n")
        assert result.code == 0, result.err
        assert len(lines_out(result)) == 2
        assert time.monotonic() - start < 30


def test_bytes_that_are_not_utf8_are_said_once(file: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_bytes(b"A dog\n\xff\xfe runs\nTwo \x80 men\n")
    result = run("translate", odd, "-m", file, *QUICK)
    assert result.code == 0
    assert len(lines_out(result)) == 3
    assert result.err.count("not UTF-8") == 1
    assert "byte 6" in result.err


def test_a_file_that_is_not_there_does_not_end_the_others(file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.txt"
    there.write_text("A dog runs.\n")
    result = run("translate", there, tmp_path / "missing.txt", there, "-m", file, *QUICK)
    assert result.code == 1
    assert len(lines_out(result)) == 2
    assert "missing.txt" in result.err
    assert "Traceback" not in result.err


def test_a_line_that_fails_is_an_empty_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = TranslationVocabulary.encode_sources

    def failing(self: TranslationVocabulary, sources: Any, workers: int = 1) -> Any:
        if any("bad" in turn for turns in sources for turn in turns):
            raise DlkitError("no token for this")
        return encode(self, sources, workers)

    monkeypatch.setattr(TranslationVocabulary, "encode_sources", failing)
    result = run("translate", "-m", file, *QUICK, stdin="A dog runs.\nbad\nTwo men.\n")
    assert result.code == 1
    assert [bool(line) for line in lines_out(result)] == [True, False, True]
    assert "line 2: no token for this" in result.err
    records = run("translate", "-m", file, *QUICK, "-f", "jsonl", stdin="bad\na\n")
    assert [json.loads(line).get("error") for line in lines_out(records)] == [
        "no token for this",
        None,
    ]


def test_numbers_that_overflow_are_an_error_of_their_line(
    vocabulary: TranslationVocabulary,
) -> None:
    made = network(vocabulary)
    broken = Predictor("broken", Header("translate", "transformer", {}, []), vocabulary, made)
    made.get_parameter("encoder.0.norm.weight").data.fill_(torch.nan)
    (found,) = translate([["A dog runs."]], broken, Search(beam=2, max_length=5))
    assert found == LineFailure("line 1", "the model's numbers overflow; try --precision fp32")


def test_a_slow_pipe_is_answered_line_by_line_and_a_reader_may_leave(file: Path) -> None:
    command = [sys.executable, "-m", "dlkit", "translate", "-m", str(file), *QUICK, "--beam", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for line in ("A dog runs.", "", "Two men walk."):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer.endswith("\n")
            assert bool(answer.strip()) == bool(line)
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("A dog runs.\n" * 5)
            process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1


# ---- long lines ----------------------------------------------------------------------------------


def test_long_lines_are_cut_at_sentence_ends() -> None:
    def fits(text: str) -> bool:
        return len(text) <= 20

    assert split_line("A dog runs. It is red.", lambda text: True) == ["A dog runs. It is red."]
    assert split_line(" A dog runs.  It is red! ", fits) == ["A dog runs.", "It is red!"]
    assert split_line('He said "no." Then (so) he left...', fits) == [
        'He said "no."',
        "Then (so) he left...",
    ]
    assert split_line("狗在跑。它是红色的。" * 3, fits) == ["狗在跑。", "它是红色的。"] * 3
    assert split_line("v1.5 costs 3.50 and e.g. this", fits) == ["v1.5 costs 3.50", "and e.g. this"]
    assert split_line("one two three four five six", fits) == ["one two three", "four five six"]
    assert split_line("x" * 50, fits) == ["x" * 12, "x" * 13, "x" * 12, "x" * 13]
    assert split_line(" \t ", fits) == []
    assert split_line("ab", lambda text: False) == ["a", "b"]


def test_nothing_of_a_long_line_is_lost() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        line = "".join(rng.choice(list("ab. !?。\"'"), size=60))
        assert "".join("".join(split_line(line, lambda text: len(text) <= 9)).split()) == "".join(
            line.split()
        )


def test_a_long_line_is_the_translations_of_its_sentences(model: Predictor) -> None:
    short = Predictor(model.name, Header("translate", "", {"longest": 16}, []), model.vocabulary,
                  model.network)  # fmt: skip
    search = Search(beam=2, max_length=8, alignment=True)
    sentences = ["A dog runs.", "Two men walk.", "The girl eats."]
    (whole,) = translate([[" ".join(sentences)]], short, search)
    each = list(translate([sentences], short, search))
    assert isinstance(whole, Translation)
    assert whole.translation == " ".join(filter(None, texts(each)))
    logprobs = [result.hypotheses[0].logprob for result in each if isinstance(result, Translation)]
    assert whole.hypotheses[0].logprob == pytest.approx(math.fsum(logprobs), abs=1e-3)


# ---- what is printed -----------------------------------------------------------------------------


def test_scores_n_best_and_formats(file: Path) -> None:
    given = "A dog runs.\n\n"
    options = ["-m", file, *QUICK, "--beam", 3]
    bare = lines_out(run("translate", *options, stdin=given))
    scored = lines_out(run("translate", *options, "--scores", "--alignment", stdin=given))
    translation, score, pairs = scored[0].split("\t")
    assert [translation, scored[1]] == bare
    assert float(score) < 0
    assert len(pairs.split()) == len(translation.split())
    several = lines_out(run("translate", *options, "--n-best", 3, "--scores", stdin=given))
    assert [line.split("\t")[0] for line in several] == ["1", "1", "1", "2"]
    found = [float(line.split("\t")[2]) for line in several[:3]]
    assert found == sorted(found, reverse=True)
    (record, empty) = json.loads(
        run("translate", *options, "--n-best", 2, "-f", "json", stdin=given).out
    )
    assert record["translation"] == record["hypotheses"][0]["translation"] == bare[0]
    assert record["source"] == "A dog runs."
    assert empty == {"line": 2, "source": "", "translation": "", "hypotheses": []}
    best = record["hypotheses"][0]
    assert best["score"] == pytest.approx(found[0], abs=1e-3)
    table = run("translate", *options, "--n-best", 2, "-f", "csv", stdin=given).out.splitlines()
    assert table[0] == "line,rank,source,translation,score,logprob,alignment"
    assert len(table) == 3
    assert run("translate", *options, "-f", "csv", stdin="\n").out == table[0] + "\n"


def test_the_score_is_the_log_probability_over_the_length_penalty(model: Predictor) -> None:
    (found,) = translate([["A dog runs."]], model, Search(beam=3, alpha=1.0, max_length=30))
    assert isinstance(found, Translation)
    best = found.hypotheses[0]
    (again,) = translate([["A dog runs."]], model, Search(beam=3, alpha=0.0, max_length=30))
    assert isinstance(again, Translation)
    assert again.hypotheses[0].score == again.hypotheses[0].logprob
    count = {
        length: round(best.logprob / length_penalty(length, 1.0), 4) for length in range(1, 31)
    }
    assert best.score in count.values()


def test_the_same_seed_draws_the_same_translations(file: Path) -> None:
    options = ["-m", file, *QUICK, "--sample", "--text", "A dog runs."]
    first, second = (run("translate", *options, "--seed", 3).out for _ in range(2))
    assert first == second
    others = {run("translate", *options, "--seed", seed).out for seed in range(4)}
    assert len(others) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "0.5"], "--temperature: has no effect without --sample"),
        (["--seed", "1"], "--seed: has no effect without --sample"),
        (["--sample", "--beam", "2"], "--beam: has no effect with --sample"),
        (["--sample", "--length-penalty", "1"], "--length-penalty: has no effect with --sample"),
        (["--n-best", "4", "--beam", "2"], "--n-best 4: more than --beam 2; give --beam 4"),
        (["--scores", "-f", "jsonl"], "--scores: -f jsonl always has the scores"),
        (["--text", "a", "file.txt"], "--text: has no effect with files"),
        (["--sample", "--top-p", "0"], "--top-p 0"),
        (["--context", "2"], "was not trained with --context"),
        (["-m", "nothing"], "unknown model 'nothing'"),
        (["-m", "nothing.safetensors"], "no such model file"),
        (["--device", "cuda:99"], "no device"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(file: Path, options: list[str], message: str) -> None:
    result = run("translate", "-m", file, *options, stdin="a\n")
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


# ---- models --------------------------------------------------------------------------------------


def test_checkpoints_that_are_no_translators(
    file: Path, vocabulary: TranslationVocabulary, tmp_path: Path
) -> None:
    header, weights = checkpoint.load(file)

    def refused(name: str, changed: dict[str, Any], arch: str = "transformer") -> str:
        path = tmp_path / name
        checkpoint.save(path, weights, Header("translate", arch, changed, []))
        result = run("translate", "-m", path, stdin="a\n")
        assert result.code == 2
        assert result.err.count("\n") == 1
        return result.err

    settings = header.settings
    without = {key: value for key, value in settings.items() if key != "tokenizer"}
    assert "it has no setting 'tokenizer'" in refused("a.safetensors", without)
    wider = {**settings, "network": {**settings["network"], "width": 32}}
    assert "its weights do not fit the architecture" in refused("b.safetensors", wider)
    assert "unknown architecture 'other'" in refused("c.safetensors", settings, "other")
    other = TranslationVocabulary.learn(ENGLISH, "char", 300).to_settings()
    refusal = refused("d.safetensors", {**settings, "tokenizer": other})
    assert "they belong to different models" in refusal
    of_detect = tmp_path / "e.safetensors"
    checkpoint.save(of_detect, weights, Header("detect", "yolo", {}, []))
    assert "a model for `dlkit detect`" in run("translate", "-m", of_detect, stdin="a\n").err


# ---- dialogues -----------------------------------------------------------------------------------


def test_a_dialogue_is_read_with_the_turns_before(
    model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    encode = TranslationVocabulary.encode_sources

    def watching(self: TranslationVocabulary, sources: Any, workers: int = 1) -> Any:
        seen.extend([*turns] for turns in sources)
        return encode(self, sources, workers)

    monkeypatch.setattr(TranslationVocabulary, "encode_sources", watching)
    answers = texts(translate([["hi", "yes", "", "so"]], model, Search(max_length=6), context=2))
    assert len(answers) == 4
    assert answers[2] == ""
    assert ["hi", answers[0], "yes"] in seen
    assert seen[-1] == ["so"]  # the empty line ended the dialogue
    alone = texts(translate([["yes"]], model, Search(max_length=6)))
    assert answers[1] != alone[0]


def test_turns_that_do_not_fit_go_first(model: Predictor) -> None:
    short = Predictor("short", Header("translate", "", {"longest": 12}, []), model.vocabulary,
                  model.network)  # fmt: skip
    turns = ["the street the street the street", "yes"]
    (part,) = infer.make_segments("a dog", 1, turns, short, Search())  # type: ignore[misc]
    (expected,) = model.vocabulary.encode_sources([["yes", "a dog"]])
    assert part.ids == expected


def test_a_model_of_dialogues_is_asked_with_its_context(
    vocabulary: TranslationVocabulary, tmp_path: Path
) -> None:
    file = save(tmp_path / "chat.safetensors", vocabulary, context=2)
    given = "A dog runs.\nTwo men walk.\n"
    with_turns = lines_out(run("translate", "-m", file, *QUICK, stdin=given))
    without = lines_out(run("translate", "-m", file, *QUICK, "--context", 0, stdin=given))
    assert with_turns[0] == without[0]
    assert with_turns[1] != without[1]
    refused = run("translate", "-m", file, "--alignment", stdin=given)
    assert refused.code == 2
    assert "--context 0" in refused.err


# ---- alignment -----------------------------------------------------------------------------------


class Diagonal(Translator):
    """Each target token attends to one source token by its place, and a bit to the end."""

    def __init__(self, vocabulary: TranslationVocabulary) -> None:
        super().__init__(**vocabulary.network_settings())
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        weights = torch.zeros(1, target.shape[1], source.shape[1])
        for place in range(target.shape[1]):
            weights[0, place, min(place, source.shape[1] - 2)] = 0.9
        weights[..., -1] += 0.1
        return weights


def test_attention_of_tokens_becomes_that_of_words(vocabulary: TranslationVocabulary) -> None:
    letters = TranslationVocabulary.learn(["abcdef gh"] * 9, "char", 50)
    made = Diagonal(letters)
    ids = letters.encode_targets(["ab cd"])[0][1:-1]
    assert len(ids) == 5
    found = align_words(made, letters, "a bcd", ids)
    assert found.source == ["a", "bcd"]
    assert found.target == ["ab", "cd"]
    # a, b and the space after them attend to a, the space after it, and b.
    assert found.weights == [[0.6, 0.3], [0.0, 0.9]]
    assert found.links == [Link(0, 0), Link(1, 1)]
    assert str(found.links[1]) == "1-1"


def test_parts_are_aligned_by_themselves() -> None:
    left = WordAlignment(["a", "b"], ["x"], [[0.2, 0.8]])
    right = WordAlignment(["c"], ["y", "z"], [[1.0], [0.5]])
    both = join_alignments([left, right])
    assert both.weights == [[0.2, 0.8, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.5]]
    assert [str(link) for link in both.links] == ["1-0", "2-1", "2-2"]


def test_align_prints_words_and_saves_a_picture(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "heat.png"
    options = ["-m", file, "--precision", "fp32", "--target", "Ein $Hund 狗"]
    result = run("translate", "align", "A dog runs.", *options, "--save", picture)
    assert result.code == 0, result.err
    assert [line.split("\t")[2] for line in lines_out(result)] == ["Ein", "$Hund", "狗"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result.err == ""
    (record,) = json.loads(run("translate", "align", "A dog runs.", *options, "-f", "json").out)
    assert record["source"] == ["A", "dog", "runs."]
    weights = np.array(record["weights"])
    assert weights.shape == (3, 3)
    assert (weights >= 0).all()
    assert (weights.sum(1) <= 1.001).all()
    refused = run("translate", "align", "  ", "-m", file)
    assert refused.code == 2
    assert "empty" in refused.err


def test_the_bundled_model_translates_descriptions() -> None:
    lines = "Two dogs run on the beach.\n\nA man is riding a bicycle.\n"
    result = run("translate", stdin=lines)
    assert result.code == 0
    dogs, empty, man = result.out.splitlines()
    assert dogs.startswith("Zwei Hunde ")
    assert "Strand" in dogs
    assert empty == ""
    assert man.startswith("Ein Mann ")
    assert "Fahrrad" in man
    assert result.err == ""
