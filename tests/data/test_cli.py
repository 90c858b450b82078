"""The commands of `dlkit data` on data sets in files, there and back."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from dlkit.core.datasets.samples import Annotation, Keypoint, Sample
from dlkit.core.datasets.sources import find_source
from dlkit.core.ledger import Ledger
from dlkit.data.convert import convert
from dlkit.data.layouts import Content
from tests.conftest import run
from tests.data.helpers import paint

Maker = Callable[[Path], Content]


def boxes(folder: Path) -> Content:
    def sample(name: str, seed: int, *annotations: Annotation) -> Sample:
        return Sample(paint(folder / name, seed), name, annotations=annotations)

    cat = Annotation("cat", "", (4.5, 6.25, 40.0, 30.0))
    dog = Annotation("dog", "", (0.0, 0.0, 64.0, 48.0))
    bird = Annotation("bird", "", (10.1, 7.3, 20.7, 33.9))
    return Content(
        ("dog", "cat", "bird"),
        {
            "train": [sample("1.png", 1, cat, dog), sample("a b.png", 2), sample("3.png", 3, bird)],
            "val": [sample("4.png", 4, cat, bird)],
        },
    )


def polygons(folder: Path) -> Content:
    corners = ((4.0, 6.0, 40.0, 6.0, 40.0, 30.0), (1.5, 1.5, 3.5, 1.5, 3.5, 4.5))
    shape = Annotation("cat", "", (4.0, 6.0, 40.0, 30.0), polygons=corners[:1])
    two = Annotation("cat", "", (1.5, 1.5, 40.0, 30.0), polygons=corners)
    content = boxes(folder)
    path = content.splits["val"][0].path
    return Content(
        ("cat",),
        {
            "train": [Sample(content.splits["train"][0].path, "", annotations=(shape,))],
            "val": [Sample(path, "", annotations=(shape, two))],
        },
    )


def keypoints(folder: Path) -> Content:
    points = (Keypoint(8, 12), Keypoint(16, 24, 1), Keypoint(0, 0, 0))
    person = Annotation("person", "", (4.0, 6.0, 40.0, 30.0), keypoints=points)
    samples = [Sample(paint(folder / "1.png", 1), "", annotations=(person,))]
    return Content(("person",), {"train": samples, "val": samples[:0]})


def described(samples: list[Sample]) -> list[object]:
    """All that a layout must keep of samples, with numbers rounded to a millionth of a pixel."""

    def rounded(values: object) -> object:
        if isinstance(values, float | int):
            return round(float(values), 6)
        return tuple(map(rounded, values)) if isinstance(values, tuple) else values

    return [
        (
            sample.path.name,
            sample.labels,
            sample.captions,
            [
                (a.label, rounded(a.box), rounded(a.polygons), len(a.keypoints))
                + tuple((round(p.x, 6), round(p.y, 6), p.visibility) for p in a.keypoints)
                for a in sample.annotations
            ],
        )
        for sample in samples
    ]


@pytest.mark.parametrize(
    ("maker", "layout", "lossy"),
    [
        (boxes, "coco", False),
        (boxes, "voc", False),
        (boxes, "yolo", False),
        (polygons, "coco", False),
        (keypoints, "coco", False),
        (keypoints, "yolo", False),
    ],
)
def test_there_and_back_is_the_identity(
    tmp_path: Path, maker: Maker, layout: str, lossy: bool
) -> None:
    content = maker(tmp_path / "in")
    convert(content, layout, tmp_path / "out", copy=True, lossy=lossy)
    source = find_source(tmp_path / "out")
    assert set(source.classes.names) >= set(content.classes)
    for split, samples in content.splits.items():
        if samples:
            read = source.read(split, Ledger(split))
            assert described(sorted(read, key=by_name)) == described(sorted(samples, key=by_name))


def random_boxes(folder: Path, seed: int) -> Content:
    """A data set of random sizes, names, labels and boxes."""
    draw = random.Random(seed)
    labels = ["cat", "Katze 2", "été", "犬"][: draw.randint(1, 4)]
    splits: dict[str, list[Sample]] = {}
    for split in draw.choice((["train"], ["train", "val"], ["train", "val", "test"])):
        for number in range(draw.randint(1, 4)):
            width, height = draw.randint(16, 90), draw.randint(16, 90)
            found = []
            for _ in range(draw.randint(0, 5)):
                x1, x2 = sorted(draw.uniform(0, width) for _ in range(2))
                y1, y2 = sorted(draw.uniform(0, height) for _ in range(2))
                found.append(Annotation(draw.choice(labels), "", (x1, y1, x2, y2)))
            name = f"{split} {number}{draw.choice(['', ' é', '.b'])}.png"
            path = paint(folder / name, seed + number, (width, height))
            splits.setdefault(split, []).append(Sample(path, "", annotations=tuple(found)))
    return Content(tuple(labels), splits)


def read_back(folder: Path, splits: Iterable[str]) -> Content:
    source = find_source(folder)
    read = {split: source.read(split, Ledger(split)) for split in splits}
    # Areas are those of the boxes.
    plain = {
        split: [
            replace(s, annotations=tuple(replace(a, area=None) for a in s.annotations))
            for s in samples
        ]
        for split, samples in read.items()
    }
    return Content(source.classes.names, plain)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("first", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("second", ["coco", "voc", "yolo"])
def test_random_boxes_pass_through_every_pair_of_layouts(
    tmp_path: Path, first: str, second: str, seed: int
) -> None:
    content = random_boxes(tmp_path / "in", seed)
    convert(content, first, tmp_path / "1", copy=False, lossy=False)
    between = read_back(tmp_path / "1", content.splits)
    convert(between, second, tmp_path / "2", copy=False, lossy=False)
    read = read_back(tmp_path / "2", content.splits)
    assert read.classes == content.classes
    for split, samples in content.splits.items():
        assert described(sorted(read.splits[split], key=by_name)) == described(
            sorted(samples, key=by_name)
        )


def by_name(sample: Sample) -> str:
    return sample.path.name


def test_check_prints_findings_and_exits_with_1(tmp_path: Path) -> None:
    convert(boxes(tmp_path / "in"), "voc", tmp_path / "voc", copy=True, lossy=False)
    good = run("data", "check", tmp_path / "voc")
    assert (good.code, good.out) == (0, "")
    assert "train: 3 images, 3 annotations of 3 labels" in good.err
    assert "0 findings, 0 notes" in good.err
    xml = tmp_path / "voc" / "Annotations" / "1.xml"
    xml.write_text(xml.read_text().replace("<xmax>40</xmax>", "<xmax>4</xmax>"))
    bad = run("data", "check", tmp_path / "voc", "-f", "jsonl", "--save", tmp_path / "report")
    assert bad.code == 1
    (finding,) = map(json.loads, bad.out.splitlines())
    assert (finding["kind"], finding["path"]) == ("box without area", str(xml))
    assert xml.read_text().splitlines()[finding["line"] - 1].strip() == "<object>"
    assert bad.saved == (str(tmp_path / "report" / "report.html"),)


def test_check_against_another_data_set(tmp_path: Path) -> None:
    for k in range(6):
        paint(folder(tmp_path / "ours" / "train" / "cat") / f"{k}.png", k)
        paint(folder(tmp_path / "theirs" / "test" / "pet") / f"{k}.png", 100 + k)
    good = ["data", "check", str(tmp_path / "ours"), "--against", str(tmp_path / "theirs")]
    assert run(*good).code == 0
    twin = paint(tmp_path / "theirs" / "test" / "pet" / "twin.png", 3, (128, 96))
    result = run(*good, "-f", "jsonl")
    assert result.code == 1
    (finding,) = [json.loads(line) for line in result.out.splitlines()]
    assert finding["kind"] == "in the other data set"
    assert finding["path"] == str(tmp_path / "ours" / "train" / "cat" / "3.png")
    assert finding["other"] == str(twin)
    twin.write_bytes(b"no image")  # The comparison is not whole.
    result = run(*good)
    assert result.code == 1
    assert "twin.png" in result.err


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_stats_counts_labels_of_splits(tmp_path: Path) -> None:
    convert(boxes(tmp_path / "in"), "coco", tmp_path / "coco", copy=True, lossy=False)
    counted = run("data", "stats", tmp_path / "coco", "--split", "train")
    assert counted.code == 0
    assert counted.out == "train\tdog\t1\t1\ntrain\tcat\t1\t1\ntrain\tbird\t1\t1\n"


def test_convert_and_split_write_new_data_sets(tmp_path: Path) -> None:
    convert(boxes(tmp_path / "in"), "voc", tmp_path / "voc", copy=True, lossy=False)
    done = run("data", "convert", tmp_path / "voc", "--to", "yolo", "-o", tmp_path / "yolo")
    assert (done.code, done.out) == (0, f"{tmp_path / 'yolo'}\n")
    assert "train: 3 images, 3 annotations" in done.err
    again = run("data", "convert", tmp_path / "voc", "--to", "yolo", "-o", tmp_path / "yolo")
    assert (again.code, again.out) == (2, "")
    assert "exists already" in again.err

    command = ["data", "split", tmp_path / "voc", "--val", 0.25, "--test", 0.25, "--to", "coco"]
    divided = run(*command, "-o", tmp_path / "new")
    assert divided.code == 0
    assert "images: train 2, val 1, test 1" in divided.err
    source = find_source(tmp_path / "new")
    assert list(source.splits) == ["train", "val", "test"]
    sizes = [len(source.read(split, Ledger(split))) for split in source.splits]
    assert sizes == [2, 1, 1]


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = run("data", "check", tmp_path / "empty")
    assert (refused.code, refused.out) == (2, "")
    assert "known layout" in refused.err
    convert(boxes(tmp_path / "in"), "voc", tmp_path / "voc", copy=True, lossy=False)
    unknown = run("data", "check", tmp_path / "voc", "--split", "dev")
    assert "no split 'dev'; choose from train, val" in unknown.err
    lossy = run("data", "convert", tmp_path / "voc", "--to", "csv", "-o", tmp_path / "csv")
    assert "csv cannot hold 5 x annotated objects, 4 x images without a label" in lossy.err
