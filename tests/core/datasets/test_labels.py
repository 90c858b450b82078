"""Sources of labeled images: folders, tables, their splits, and draws from them."""

from pathlib import Path

import pytest

from dlkit.core.datasets.samples import ALL, Sample
from dlkit.core.datasets.sources import find_source
from dlkit.core.datasets.splits import Draw, read_split, read_training
from dlkit.core.errors import DlkitError
from dlkit.core.ledger import Ledger


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return root


def read(data: Path, split: str) -> tuple[list[Sample], Ledger]:
    ledger = Ledger(split)
    return find_source(data, "labels").read(split, ledger), ledger


def named(samples: list[Sample]) -> list[tuple[str, tuple[str, ...]]]:
    return [(sample.path.name, sample.labels) for sample in samples]


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Valid", "Test"),
        ("training_set", "validation_set", "test_set"),
        ("TRAIN", "dev", "testing"),
        ("images_train2017", "images_val2017", "images_test"),
    ],
)
def test_folders_of_splits_have_many_spellings(
    tmp_path: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, *(f"{name}/{label}/{name}.jpg" for name in names for label in ("cat", "dog")))
    put(tmp_path, ".ipynb_checkpoints/x.jpg", "__MACOSX/cat/._x.jpg")
    assert list(find_source(tmp_path, "labels").splits) == ["train", "val", "test"]
    assert f"{names[0]} is train" in capsys.readouterr().err
    for split, name in zip(("train", "val", "test"), names, strict=True):
        assert named(read(tmp_path, split)[0]) == [
            (f"{name}.jpg", ("cat",)), (f"{name}.jpg", ("dog",)),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/cat/1.jpg", "cat/2.jpg"), r"folders of splits \(train\) beside other .* \(cat\)"),
        (("train/cat/1.jpg", "Train/cat/2.jpg"), "both Train and train can be the split 'train'"),
        (("val/cat/1.jpg", "valid/cat/2.jpg"), "both val and valid can be the split 'val'"),
    ],
)
def test_contradicting_folders_are_refused(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DlkitError, match=message):
        find_source(put(tmp_path, *names), "labels")


def test_a_label_may_be_called_like_a_split(tmp_path: Path) -> None:
    put(tmp_path, "car/1.jpg", "train/2.jpg", "test tube/3.jpg")
    source = find_source(tmp_path, "labels")
    assert list(source.splits) == [ALL]
    labels = {sample.labels for sample in source.read(ALL, Ledger())}
    assert labels == {("car",), ("train",), ("test tube",)}


def test_everything_in_folders_of_labels_is_used_or_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "cat/1.jpg", "cat/2.JFIF", "cat/._1.jpg", "cat/notes.txt", "dog/deep/3.jpg")
    put(tmp_path, "sheet.png", "bird/readme.txt", ".ipynb_checkpoints/x.jpg")
    (tmp_path / "dog" / "more").symlink_to(put(tmp_path.parent / "elsewhere", "4.jpg"))
    (tmp_path / "dog" / "loop").symlink_to(tmp_path)
    (tmp_path / "hound").symlink_to("dog")
    (tmp_path / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    samples, ledger = read(tmp_path, ALL)
    assert named(samples) == [
        ("1.jpg", ("cat",)), ("2.JFIF", ("cat",)), ("3.jpg", ("dog",)), ("4.jpg", ("dog",)),
    ]  # fmt: skip
    assert ledger.places == {"images": {"broken link": [str(tmp_path / "dog" / "gone.jpg")]}}
    assert {text: len(places) for text, places in ledger.notes.items()} == {
        "labels without images": 1,
        "links to folders of the data set, which are not read": 1,
        "images beside the folders of labels, which are not read": 1,
    }
    assert "2 files of other kinds (.txt)" in capsys.readouterr().err


def test_listed_labels_are_compared_with_those_found(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg", "dgo/2.jpg", "2/3.jpg")
    (tmp_path / "classes.txt").write_text("cat\ndog\nfox\n")
    samples, ledger = read(tmp_path, ALL)
    assert named(samples) == [("3.jpg", ("fox",)), ("1.jpg", ("cat",))]
    reason = "label 'dgo' that classes.txt does not list"
    assert ledger.places["images"] == {reason: [str(tmp_path / "dgo" / "2.jpg")]}
    assert ledger.notes == {"labels of classes.txt without a folder": ["dog"]}


def test_the_column_of_splits_is_read_in_any_spelling_and_accounts_for_all_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, *(f"{n}.jpg" for n in range(8)))
    splits = ["train", "Train", "training ", "", "dev", "TEST", "extra", "train"]
    table = tmp_path / "labels.csv"
    rows = [f"{n}.jpg,cat,{split}" for n, split in enumerate(splits)]
    table.write_text("\n".join(["path,label,split", *rows, "9.jpg,cat", "gone.jpg,cat,val"]))
    source = find_source(table, "labels")
    assert list(source.splits) == ["train", "val", "test", "extra"]
    said = capsys.readouterr().err
    assert "dev is val" in said
    assert "1 rows of the split 'extra', none of train, val and test" in said
    ledgers = {split: Ledger(split) for split in source.splits}
    found = {split: source.read(split, ledger) for split, ledger in ledgers.items()}
    assert {split: len(samples) for split, samples in found.items()} == {
        "train": 4, "val": 1, "test": 1, "extra": 1,
    }  # fmt: skip
    assert ledgers["train"].places["images"] == {
        "row without a split": [f"{table}:5"],
        "row with another number of fields than the header (3)": [f"{table}:10"],
    }
    missing = f"{table}:11 ({tmp_path / 'gone.jpg'})"
    assert ledgers["val"].places["images"] == {"missing image": [missing]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'path,label\n"a, b.jpg",cat\n img/c.jpg ,dog\nimg\\d.jpg, fox \n'),
        ("a.tsv", "label\tfile\ncat\ta, b.jpg\ndog\t img/c.jpg\nfox\timg\\d.jpg\n"),
        ("a.csv", "\ufeffpath;label\r\na, b.jpg;cat\r\nimg/c.jpg;dog\r\nimg\\d.jpg;fox\r\n"),
        ("a.csv", "image_name| number| class\na, b.jpg| 0| cat\nimg/c.jpg| 1| dog\n"
                  "img/d.jpg| 2| fox\n"),
        ("a.csv", "path,label\n\"a, b.jpg\",cat\nc.jpg,dog\nimg/d.jpg,fox\n"),
        ("a.jsonl", '{"path": "a, b.jpg", "label": "cat"}\n{"path": "img/c.jpg", "label": "dog"}\n'
                    '{"label": "fox", "path": "img\\\\d.jpg"}\n'),
    ],
    ids=["csv", "tsv", "semicolons", "bars", "images", "jsonl"],
)  # fmt: skip
def test_tables_name_files_as_they_are(tmp_path: Path, name: str, content: str) -> None:
    put(tmp_path, "a, b.jpg", "img/c.jpg", "img/d.jpg", "images/c.jpg")
    (tmp_path / name).write_text(content)
    samples, ledger = read(tmp_path / name, ALL)
    assert named(samples) == [("a, b.jpg", ("cat",)), ("c.jpg", ("dog",)), ("d.jpg", ("fox",))]
    assert not ledger.places


def test_labels_in_json_may_be_lists_and_numbers(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    table = tmp_path / "a.jsonl"
    table.write_text(
        '{"path": "1.jpg", "labels": ["cat", "dog"]}\n{"path": "2.jpg", "labels": 7}\n'
        '{"path": "3.jpg", "labels": ["a;b"]}\n'
    )
    samples, ledger = read(table, ALL)
    assert named(samples) == [("1.jpg", ("cat", "dog")), ("2.jpg", ("7",))]
    assert ledger.places["images"] == {"label with ';' in a list": [f"{table}:3"]}


def test_rows_that_contradict_each_other_are_all_skipped(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "2.jpg")
    table = tmp_path / "train.csv"
    table.write_text("path,label\n1.jpg,cat\n2.jpg,cat\n1.jpg,dog\n2.jpg,cat\n")
    samples, ledger = read(tmp_path, "train")
    assert named(samples) == [("2.jpg", ("cat",))] * 2
    assert ledger.skipped("images") == 2
    (tmp_path / "Train.tsv").write_text("path\tlabel\n")
    with pytest.raises(DlkitError, match="both Train.tsv and train.csv"):
        find_source(tmp_path, "labels")


def test_a_drawn_val_split_keeps_groups_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"train/{label}/p{n // 5:02}-{n}.jpg" for label in ("a", "b") for n in range(50)]
    source = find_source(put(tmp_path, *names), "labels")
    ledger = Ledger("train")
    draw = Draw(0.2, 3, r"/(p\d+)-")
    own, held_out = read_training(source, draw, ledger, Ledger("val"), draws_test=True)
    groups = [{sample.path.name[:3] for sample in part} for part in (own, held_out)]
    assert not groups[0] & groups[1]
    assert len(own) + len(held_out) == 100
    assert {sample.labels for sample in held_out} == {("a",), ("b",)}
    assert "for val of 100 images, drawn with --val-share 0.2" in capsys.readouterr().err
    assert read_split(source, "val", draw, Ledger("val"), draws_test=True) == held_out
    with pytest.raises(DlkitError, match="finds nothing in any path"):
        read_split(source, "val", Draw(0.2, 3, "patient"), Ledger("val"), draws_test=True)


def test_splits_that_the_data_lacks_are_named(tmp_path: Path) -> None:
    source = find_source(put(tmp_path, "train/a/1.jpg", "val/a/2.jpg"), "labels")
    with pytest.raises(DlkitError, match="no split 'test'; choose from train, val"):
        read_split(source, "test", Draw(), Ledger(), draws_test=True)
