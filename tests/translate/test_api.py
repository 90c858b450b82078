"""The Python functions of translate against the command line."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.translate import Config, Translation, align, evaluate, load, train, translate
from tests.conftest import records, run
from tests.translate.helpers import write_lines

LINES = ["A dog runs in the snow.", "", "Two men talk."]


def as_record(result: Any) -> Any:
    """What -f jsonl prints of a result."""
    return json.loads(json.dumps(asdict(result)))


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, []),
        ({"beam": 3, "n_best": 2, "length_penalty": 1.0},
         ["--beam", 3, "--n-best", 2, "--length-penalty", 1]),
        ({"alignment": True, "max_length": 9}, ["--alignment", "--max-length", 9]),
        ({"sample": True, "temperature": 0.7, "top_k": 9, "seed": 3, "n_best": 2},
         ["--sample", "--temperature", 0.7, "--top-k", 9, "--seed", 3, "--n-best", 2]),
    ],
    ids=["beam", "n-best", "alignment", "sample"],
)  # fmt: skip
def test_same_results_as_the_command(
    file: Path, options: dict[str, Any], arguments: list[object]
) -> None:
    command = run("translate", "-m", file, "-f", "jsonl", *arguments, stdin="\n".join(LINES) + "\n")
    assert [as_record(found) for found in translate(LINES, file, **options)] == records(command)


def test_a_string_is_one_text_and_an_iterator_many(file: Path) -> None:
    one = translate("Two men talk.", file)
    assert isinstance(one, Translation)
    assert str(one) == one.text == one.translation
    many = translate(iter(LINES), file)
    assert [found.text for found in many][1:] == ["", one.text]
    assert translate([], file) == []


def test_the_lines_of_a_text_are_translated_one_by_one(file: Path) -> None:
    text = "\n".join(LINES)
    whole = translate(text, file, alignment=True)
    first, empty, last = translate(LINES, file, alignment=True)
    assert whole.text == f"{first.text}\n\n{last.text}"
    assert whole.text + "\n" == run("translate", "-m", file, "--text", text).out
    assert whole.logprob == pytest.approx(first.logprob + last.logprob)
    words, translated = text.split(), whole.text.split()
    shift = len(LINES[0].split()), len(first.text.split())
    assert first.alignment is not None
    assert last.alignment is not None
    assert whole.alignment == first.alignment + [
        (i + shift[0], j + shift[1]) for i, j in last.alignment
    ]
    assert all(i < len(words) and j < len(translated) for i, j in whole.alignment)


def test_a_loaded_model_is_used_as_it_is(file: Path) -> None:
    model = load(file, "cpu", "fp32")
    assert translate("Two men talk.", model) == translate(
        "Two men talk.", file, device="cpu", precision="fp32"
    )
    with pytest.raises(DlkitError, match="loaded"):
        translate("Two men talk.", model, device="cpu")


def test_a_path_or_a_number_is_no_text(file: Path) -> None:
    for wrong in (Path("a.txt"), b"a", 3, ["a", 3]):
        given: Any = wrong
        with pytest.raises(DlkitError, match="not a text"):
            translate(given, file)


def test_results_are_shown_and_saved(file: Path, tmp_path: Path) -> None:
    found = translate("Two <b> men talk.", file, alignment=True, n_best=2)
    shown = found._repr_html_()
    assert shown.count("<table>") == 2
    assert "<b>" not in shown
    assert "&lt;b&gt;" in shown
    assert json.loads(found.save(tmp_path / "a.jsonl").read_text()) == as_record(found)
    many = translate(LINES, file)
    many.save(tmp_path / "a.csv")
    command = run("translate", "-m", file, "-f", "csv", stdin="\n".join(LINES) + "\n")
    assert (tmp_path / "a.csv").read_text() == command.out
    assert translate(LINES[0], file, alignment=True).save(tmp_path / "a.json").is_file()
    assert (
        align("A dog runs.", "Ein Hund läuft.", file).save(tmp_path / "a.png").stat().st_size > 1000
    )
    with pytest.raises(DlkitError, match="no format has the suffix"):
        found.save(tmp_path / "a.xlsx")


def test_mistakes_have_the_message_of_the_command(file: Path) -> None:
    for option, value in (("n_best", 9), ("seed", 1), ("context", 2)):
        options: dict[str, Any] = {option: value}
        with pytest.raises(DlkitError) as caught:
            translate("a", file, **options)
        arguments = ["--text", "a", f"--{option.replace('_', '-')}", value]
        assert run("translate", "-m", file, *arguments).err == f"dlkit: {caught.value}\n"
    with pytest.raises(DlkitError, match="unknown model 'nothing'"):
        translate("a", "nothing")


def test_align_and_evaluate_as_the_commands_do(file: Path, tmp_path: Path) -> None:
    found = align("A dog runs.", None, file)
    (record,) = json.loads(run("translate", "align", "A dog runs.", "-m", file, "-f", "json").out)
    assert as_record(found) == record
    source, reference = write_lines(tmp_path / "s", LINES), write_lines(tmp_path / "r", LINES)
    command = run(
        "translate", "evaluate", "--source", source, "--ref", reference, "-m", file, "-f", "json"
    )
    assert [as_record(s) for s in evaluate(source, reference, file)] == json.loads(command.out)


def test_train_from_python(numbers: dict[str, list[str]], tmp_path: Path) -> None:
    source, target = numbers["source"][0], numbers["target"][0]  # a file each, not a list
    small: dict[str, Any] = {"tokenizer": "words", "layers": 1, "width": 16, "epochs": 1}
    config = Config(source=source, target=target, out=tmp_path / "run", **small)  # type: ignore[arg-type]
    best = train(config)
    assert best == tmp_path / "run" / "best.safetensors"
    assert isinstance(translate("one two", best), Translation)
    with pytest.raises(DlkitError, match="choose from"):
        train(Config(source=[source], target=[target], arch="none"))  # type: ignore[arg-type]
