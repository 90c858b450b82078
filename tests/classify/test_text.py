"""Vocabularies, layouts and batches of texts."""

import json
from pathlib import Path

import pytest
import torch

from dlkit.classify.models.text import (
    PADDING,
)
from dlkit.classify.text import TextDataset, WordVocabulary, read_texts
from dlkit.core.errors import DlkitError
from tests.classify.helpers import write_lines


def test_words_and_ids_go_together() -> None:
    vocabulary = WordVocabulary.learn(["the film is n't GREAT, the film."] * 3, 100)
    text = "The FILM isn't odd ."
    assert vocabulary.words(text) == ["The", "FILM", "is", "n't", "odd", "."]
    ids = vocabulary.encode(text, 100)
    names = vocabulary.tokenizer.names
    assert [names[i] for i in ids] == ["the", "film", "is", "n't", "<unk>", "."]
    assert vocabulary.encode(text, 2) == ids[:2]
    assert names[0] == "<pad>"
    assert names[1] == "<unk>"
    assert vocabulary.encode("", 5) == []
    assert vocabulary.sentence_ends() == [vocabulary.tokenizer.vocab["."]]


def test_the_most_frequent_words_are_kept() -> None:
    vocabulary = WordVocabulary.learn(["rare rare some some some often often often often"], 4)
    assert len(vocabulary) == 4
    assert sorted(vocabulary.tokenizer.vocab) == ["often", "some"]


@pytest.mark.parametrize("tokenizer", ["words", "english-8k", "english-wordpiece-8k"])
def test_a_vocabulary_travels_as_json(tokenizer: str) -> None:
    texts = ["One sentence. And another, isn't it?", "Naïve café 日本", "x"]
    vocabulary = WordVocabulary.learn(texts * 2, 100, tokenizer)
    again = WordVocabulary.from_settings(json.loads(json.dumps(vocabulary.to_settings())))
    assert len(again) == len(vocabulary)
    for text in texts:
        ids = vocabulary.encode(text, 100)
        assert again.encode(text, 100) == ids
        assert len(vocabulary.words(text)) == len(ids)
        assert min(ids) > PADDING
        assert max(ids) < len(vocabulary)
    batch = vocabulary.encode_batch(texts, 4)
    assert [ids.tolist() for ids in batch] == [vocabulary.encode(text, 4) for text in texts]
    assert len(vocabulary.sentence_ends()) >= 1


def test_word_dropout_leaves_words_out() -> None:
    vocabulary = WordVocabulary.learn(["a b c d e f g h"] * 2, 100)
    texts = TextDataset([("a b c d e f g h", 1)] * 200, vocabulary, 8, word_dropout=0.5)
    torch.manual_seed(0)
    ids, targets = texts.__getitems__(list(range(200)))
    assert 700 < int((ids != PADDING).sum()) < 900
    assert targets.tolist() == [1] * 200
    present = (ids != PADDING).int()
    assert (present.diff(dim=1) <= 0).all()  # padding only at the end


def contents(data: Path, split: str, labels: list[str] | None = None) -> list[tuple[str, int]]:
    return read_texts(data).split(split, labels)[1]


def test_shares_are_stratified_seeded_and_apart(tmp_path: Path) -> None:
    data = write_lines(tmp_path)
    parts = {split: contents(data, split) for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 64, "val": 8, "test": 8}
    assert [sum(label for _, label in part) for part in parts.values()] == [32, 4, 4]
    assert sorted(sum(parts.values(), [])) == sorted(contents(data, "all"))
    assert contents(data, "val") == parts["val"]
    assert read_texts(data).split("val", seed=1)[1] != parts["val"]


def test_equal_texts_stay_together(tmp_path: Path) -> None:
    for label in ("x", "y"):
        lines = [f"{label} {i % 10}" for i in range(40)]
        (tmp_path / f"{label}.txt").write_text("\n".join(lines))
    training, held_out = contents(tmp_path, "train"), contents(tmp_path, "test")
    assert len(held_out) == 8
    assert not set(training) & set(held_out)


def test_every_layout_gives_the_same(tmp_path: Path) -> None:
    rows = [("fine, really", "pos"), ("poor", "neg"), ("nice", "pos")]
    expected = [("poor", 0), ("fine, really", 1), ("nice", 1)]
    for split in ("train", "test"):
        for number, (text, label) in enumerate(rows):
            for name in ("documents", "lines"):
                (tmp_path / name / split / label).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "documents" / split / label / f"{number}.txt"
            file.write_text(text + "\n")
            with (tmp_path / "lines" / split / f"{label}.txt").open("a") as listing:
                listing.write(text + "\n")
            (tmp_path / "lines" / split / label).rmdir()
        table = "".join(f'"{text}",{label}\n' for text, label in rows)
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / f"{split}.csv").write_text("text,label\n" + table)
    table = "".join(
        f'{label},"{text}",{split}\n' for text, label in rows for split in ("train", "test")
    )
    (tmp_path / "one.csv").write_text("Label,text,split\n" + table)
    (tmp_path / "fasttext").mkdir()
    for split in ("train", "test"):
        lines = "".join(f"__label__{label} {text}\n" for text, label in rows)
        (tmp_path / "fasttext" / f"{split}.txt").write_text(lines)
    objects = "".join(
        json.dumps({"Text": text, "class": label, "split": f" {split.upper()}"}) + "\n"
        for text, label in rows
        for split in ("train", "test")
    )
    (tmp_path / "one.jsonl").write_text(objects)
    for name in ("documents", "lines", "tables", "one.csv", "fasttext", "one.jsonl"):
        texts = read_texts(tmp_path / name)
        found = [texts.split(split, None, 0.0) for split in ("train", "test")]
        for labels, samples in found:
            assert labels == ["neg", "pos"]
            assert sorted(samples, key=lambda sample: sample[1]) == expected


def test_unusable_texts_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\n\xff\xfe bad\nthree\r\n")
    (tmp_path / "b.txt").write_text("\ufeffother\n")
    (tmp_path / "c.txt").write_text("unknown\n")
    texts = read_texts(tmp_path, 0.5)
    _, samples = texts.split("all", ["a", "b"])
    assert samples == [("one", 0), ("two", 0), ("three", 0), ("other", 1)]
    assert [ledger.places for ledger in texts.ledgers] == [
        {"texts": {"not UTF-8": [f"{tmp_path}/a.txt:4"]}},
        {"texts": {"unknown label 'c'": [f"{tmp_path}/c.txt:1"]}},
    ]
    assert [ledger.seen("texts") for ledger in texts.ledgers] == [6, 5]
    err = capsys.readouterr().err
    assert f"{tmp_path.name}: skipped 1 of 6 texts (17 %): 1 not UTF-8" in err
    assert "all: 4 texts of 2 labels" in err
    with pytest.raises(DlkitError, match="1 of 6 texts .* not UTF-8 .*--allow-skipped 0.17"):
        read_texts(tmp_path, 0.01)
    with pytest.raises(DlkitError, match="1 of 5 texts of 'all' .* unknown label 'c'"):
        read_texts(tmp_path, 0.17).split("all", ["a", "b"])


def test_a_long_text_in_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text(f"text,label\n{'word ' * 50_000},a\nshort,b\n")
    assert len(contents(file, "all")) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no texts; give LABEL"),
        ({"a.txt": "x\ny\n"}, r"only one label \(a\)"),
        ({"a/1.txt": "x", "b/readme.md": "y"}, "b: a label without any text"),
        ({"a.txt": "x\n", "b.txt": "\n"}, "b.txt: a label without any text"),
        ({"train.csv": "words,label\nx,a\n"}, "no column named text or"),
        ({"train.csv": "text,label\n"}, "no rows of 'train.csv'"),
        ({"train.csv": "text,label\nx,a\n ,b\n"}, "1 of 2 rows .*row without text or label"),
        ({"train.csv": "text,label,split\nx,a,test\n"}, "row of the split 'test' in a file of"),
        ({"train.csv": "text,label\nx,a\n", "train.jsonl": ""}, "both train.csv and train.jsonl"),
        ({"train.txt": "x\n", "test.txt": "y\n"}, "has the name of a split, and its lines no"),
        ({"train.txt": "__label__a x\n__label__b __label__c y\n"}, "line with several labels"),
        ({"train.txt": "__label__a x\ny\n__label__a\n"}, "2 of 3 rows"),
        ({"train/a.txt": "x\n", "train/b.txt": "y\n"}, "no texts in the split 'test'"),
    ],
)
def test_bad_data_gets_one_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(DlkitError, match=message):
        read_texts(tmp_path, 0.01).split("test" if "train/a.txt" in files else "train")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="no such folder"):
        read_texts(tmp_path / "none")
    with pytest.raises(DlkitError, match="unknown split 'dev'"):
        read_texts(write_lines(tmp_path)).split("dev")


def test_splits_have_any_of_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("Training", "dev", "Test"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "1.txt").write_text(f"{split} {label}")
    (tmp_path / "pictures").mkdir()
    texts = read_texts(tmp_path)
    assert set(texts.splits) == {"train", "val", "test"}
    assert texts.split("val") == (["a", "b"], [("dev a", 0), ("dev b", 1)])
    assert "names are not those of splits: pictures" in capsys.readouterr().err


def test_any_word_with_the_prefix_is_a_label_of_fasttext(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text(
        "__label__a\tthe  text, \n"
        "before  __label__b after\r\n"
        "x__label__c __label__très\u00a0bon d\u2028e\n\n"
    )
    texts = read_texts(file)
    assert [(text, label) for text, label, _ in texts.splits["all"]] == [
        ("the  text,", "a"),
        ("before after", "b"),
        ("x__label__c d\u2028e", "très\u00a0bon"),
    ]
