"""Layouts of captioned images on disk."""

import json
from pathlib import Path

import pytest

from dlkit.caption.layouts import CaptionSplit
from dlkit.caption.layouts import read_split as read
from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from tests.caption.helpers import picture, save_images, write_csv


def read_split(data: Path, split: str, share: float = 0.1, seed: int = 0) -> CaptionSplit:
    return read(data, split, Draw(share, seed))


def test_flickrs_folder_with_its_splits(photos: Path) -> None:
    found = read_split(photos, "train")
    assert [sample.path.name for sample in found.samples] == [f"{n}.png" for n in range(8)]
    assert found.samples[1].captions == [
        "A blue sky , above green ground .",
        "blue over green",
    ]
    assert [s.path.name for s in read_split(photos, "val").samples] == ["8.png", "9.png"]
    assert len(read_split(photos, "test").samples) == 2
    assert len(read_split(photos, "all").samples) == 12
    assert not found.ledger.places


def test_flickrs_token_file_without_splits(tmp_path: Path) -> None:
    """Parts are dealt by image, the same ones in each call, and nothing is in two of them."""
    names = save_images(tmp_path / "Flicker8k_Dataset", 10)
    lines = [f"{name}#{k}\tsentence {k} of {name}\n" for name in names for k in range(3)]
    tokens = tmp_path / "Flickr8k.token.txt"
    tokens.write_text("".join(lines) + "no tab\n")
    (tmp_path / "Flickr8k.lemma.token.txt").write_text("0.png#0\tlemma\n")
    for source in (tmp_path, tokens):
        parts = [read_split(source, split, 0.2, 3) for split in ("train", "val", "test")]
        paths = [{sample.path for sample in part.samples} for part in parts]
        assert [len(part) for part in paths] == [6, 2, 2]
        assert len(set.union(*paths)) == 10
        assert parts[0].samples[0].captions[2].startswith("sentence 2 of ")
        assert parts[0].ledger.places == {"captions": {"line without a tab": [f"{tokens}:31"]}}


def coco(file: Path, names: list[str], captions: dict[str, list[str]]) -> None:
    file.parent.mkdir(exist_ok=True)
    images = [{"id": 7 * n, "file_name": name} for n, name in enumerate(names)]
    annotations = [
        {"id": 0, "image_id": 7 * n, "caption": text}
        for n, name in enumerate(names)
        for text in captions.get(name, [])
    ]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))


def test_cocos_folder(tmp_path: Path) -> None:
    names = save_images(tmp_path / "images", 4)
    annotations = tmp_path / "annotations"
    coco(annotations / "captions_train2017.json", names[:3], {"0.png": ["a", "b"], "2.png": ["c"]})
    coco(annotations / "captions_val2017.json", names[3:], {"3.png": ["d"]})
    (annotations / "instances_train2017.json").write_text("{}")
    found = read_split(tmp_path, "train")
    assert [(s.path.name, s.captions) for s in found.samples] == [
        ("0.png", ["a", "b"]),
        ("2.png", ["c"]),
    ]
    assert list(found.ledger.places["images"]) == ["image without a caption"]
    assert [s.captions for s in read_split(tmp_path, "val").samples] == [["d"]]
    assert len(read_split(tmp_path, "all").samples) == 3
    # Without a json of its own, the validation is a share of the training images.
    (annotations / "captions_val2017.json").unlink()
    train_, val = read_split(tmp_path, "train", 0.5), read_split(tmp_path, "val", 0.5)
    assert len(train_.samples) == len(val.samples) == 1
    assert train_.samples[0].path != val.samples[0].path


def test_a_csv_with_and_without_splits(tmp_path: Path) -> None:
    names = save_images(tmp_path / "pictures", 4)
    rows = [[f"pictures/{name}", text] for name in names for text in ("one", "two")]
    write_csv(tmp_path / "train.csv", ["Path", "Caption"], rows[:6])
    write_csv(tmp_path / "val.csv", ["path", "caption"], rows[6:])
    assert [len(read_split(tmp_path, s).samples) for s in ("train", "val")] == [3, 1]
    one = tmp_path / "all.csv"
    parts = ["train", "train", "dev", "test"]
    write_csv(
        one, ["path", "caption", "split"], [[*row, parts[n // 2]] for n, row in enumerate(rows)]
    )
    assert [len(read_split(one, s).samples) for s in ("train", "val", "test")] == [2, 1, 1]
    assert read_split(one, "val").samples[0].captions == ["one", "two"]


def test_unusable_samples_are_counted_and_named(tmp_path: Path) -> None:
    save_images(tmp_path / "i", 3)
    rows = [
        ["i/0.png", "Ein Hund läuft"], ["i/gone.png", "one"], ["i/gone.png", "two"],
        ["i/1.png", "  "], ["i/2.png", ""], ["i/2.png", "一只狗 в траве"],
    ]  # fmt: skip
    file = tmp_path / "all.csv"
    write_csv(file, ["path", "caption"], rows)
    found = read_split(file, "all")
    assert [sample.captions for sample in found.samples] == [["Ein Hund läuft"], ["一只狗 в траве"]]
    assert found.ledger.places == {
        "images": {
            "missing image": [f"{tmp_path / 'i/gone.png'} ({file}:3)"],
            "image without a caption": [f"{tmp_path / 'i/1.png'} ({file}:5)"],
        },
        "captions": {
            "caption of a missing image": [f"{file}:3", f"{file}:4"],
            "empty caption": [f"{file}:5", f"{file}:6"],
        },
    }


def test_listed_images_without_captions_are_named(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "Images").mkdir(parents=True)
    picture(0).save(root / "Images" / "0.png")
    write_csv(root / "captions.txt", ["image", "caption"], [["0.png", "red"]])
    (root / "x.trainImages.txt").write_text("0.png\nother.png\n")
    found = read_split(root, "train", 0.0)
    assert found.ledger.places == {
        "images": {"image without a caption": [f"other.png ({root / 'x.trainImages.txt'})"]}
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "no such folder or file"),
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "not COCO's captions: no usable 'images'"),
        ("a.csv", "path,words\nx,y\n", "no column named caption or captions or text"),
        (
            "a.csv",
            "path,caption\nx.png,y\n",
            "none of the 1 images .* missing image",
        ),
        ("a.csv", "path,caption\n", "no images of 'all'"),
        ("folder/", None, "no captions in a known layout"),
    ],
)
def test_data_without_captions_is_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DlkitError, match=message):
        read_split(path, "all")


def test_missing_captions_are_no_text(tmp_path: Path) -> None:
    names = save_images(tmp_path / "images", 3)
    coco(tmp_path / "annotations" / "captions_train.json", names, {names[0]: ["a sky"]})
    file = tmp_path / "annotations" / "captions_train.json"
    content = json.loads(file.read_text())
    content["annotations"] += [
        {"id": 1, "image_id": 7, "caption": None},
        {"id": 2, "image_id": 0, "caption": "None"},
        {"id": 3, "image_id": 0, "caption": ["a", "b"]},
        {"id": 4, "image_id": 99, "caption": "of nothing"},
    ]
    file.write_text("\ufeff" + json.dumps(content))
    found = read_split(tmp_path, "train", share=0.0)
    assert [sample.captions for sample in found.samples] == [["a sky"]]
    assert {reason for reason, _ in found.ledger.reasons("captions")} == {
        "caption null", "caption None", "caption that is no text", "caption of no image",
    }  # fmt: skip
    assert found.ledger.skipped("images") == 2


def test_names_of_images_are_files_first(tmp_path: Path) -> None:
    folder = tmp_path / "Images"
    odd = ["a, b.png", "c #1.png", "d#2", "[e] (1).png", " f.png"]
    save_images(folder, 5)
    for old, new in zip(sorted(folder.iterdir()), odd, strict=True):
        old.rename(folder / new)
    lines = [f"{odd[0]}#0\tone", f"{odd[1]}#0\ttwo", f"{odd[2]}\tthree", f"{odd[3]}#12\tfour"]
    tokens = tmp_path / "x.token.txt"
    tokens.write_text("\ufeff" + "\r\n".join([*lines, " f.png#0\tfive"]) + "\r\n")
    found = read_split(tokens, "all")
    assert [sample.path.name for sample in found.samples] == odd
    assert not found.ledger.places
