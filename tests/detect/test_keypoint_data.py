"""Reading and augmentation of keypoints."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.core.vision import images
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.keypoint_data import (
    CROWD,
    NO_KEYPOINT,
    NO_OBJECT,
    NO_POSE,
    KeypointDataset,
    KeypointSample,
    read_picture,
    read_split,
)
from tests.detect.helpers import CORNERS

NAN = float("nan")


def test_keypoints_move_with_their_pictures(tmp_path: Path) -> None:
    """A spot at the first keypoint is where the keypoint is said to be, after all changes."""
    image = Image.new("RGB", (120, 80))
    ImageDraw.Draw(image).ellipse((26, 46, 34, 54), fill="white")
    image.save(tmp_path / "a.png")
    points = np.array([[30.5, 50.5], [119, 79], [NAN, NAN]], np.float32)
    config = DetectTrainConfig(data=tmp_path, image_size=96, zoom=2.0, color_jitter=0)
    pictures = KeypointDataset([KeypointSample(tmp_path / "a.png", 120, 80, points)], config)
    unseen = 0
    for _ in range(20):
        pixels, moved = pictures[0]
        assert moved[2].isnan().all()
        unseen += int(moved[1].isnan().any())
        y, x = np.nonzero((pixels[0] > 200).numpy())
        # At the border, only a part of the spot is seen.
        if len(x) and not moved[0].isnan().any() and min(moved[0]) > 8 and max(moved[0]) < 88:
            assert moved[0].tolist() == pytest.approx([x.mean() + 0.5, y.mean() + 0.5], abs=1)
        else:
            unseen += 1
    assert 0 < unseen < 20


def test_bad_keypoints_are_skipped_and_named(
    corners: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        Image.new("RGB", (64, 48)).save(tmp_path / f"{name}.png")
    rows = [CORNERS, "a.png,1,2,64,48,,", "b.png,65,2,1,x,nan,3", "gone.png,1,2,3,4,5,6"]
    (tmp_path / "val.csv").write_text("\n".join(rows))
    with pytest.raises(DlkitError, match=r"3 of 5 keypoints of 'val' cannot be used \(60 %\)"):
        read_split(tmp_path, "val")
    split = read_split(tmp_path, "val", allowed=1)
    (found,), ledger = split.samples, split.ledger
    expected = np.array([[1, 2], [64, 48], [NAN, NAN]])
    assert np.array_equal(found.points, expected, equal_nan=True)
    where = f"{tmp_path / 'val.csv'}:3: keypoint"
    assert ledger.places == {
        "keypoints": {
            "keypoint that is not two numbers": [f"{where} 2"],
            "keypoint outside its image": [f"{where} 1", f"{where} 3"],
        },
        "objects": {"object of which no keypoint can be used": [f"{tmp_path / 'val.csv'}:3"]},
        "images": {"missing image": [str(tmp_path / "gone.png")]},
    }
    assert (ledger.used["keypoints"], ledger.used["objects"], ledger.used["images"]) == (2, 1, 1)
    assert ledger.notes == {NO_OBJECT: [str(tmp_path / "b.png")]}
    assert "gone.png" in capsys.readouterr().err


def test_a_mirrored_image_has_its_left_where_the_right_was(tmp_path: Path) -> None:
    """White is left, gray is right: a mirrored white spot is the right one, as flip_idx says."""
    image = Image.new("RGB", (64, 64))
    draw = ImageDraw.Draw(image)
    draw.ellipse((6, 26, 14, 34), fill=(255, 255, 255))
    draw.ellipse((46, 36, 54, 44), fill=(150, 150, 150))
    image.save(tmp_path / "a.png")
    points = np.array([[10.5, 30.5], [50.5, 40.5], [32, 8]], np.float32)
    config = DetectTrainConfig(data=tmp_path, image_size=64, zoom=1.0, color_jitter=0, flip=0.5)
    sample = KeypointSample(tmp_path / "a.png", 64, 64, points)
    pictures = KeypointDataset([sample], config, (1, 0, 2))
    seen = set()
    for _ in range(12):
        pixels, (left, right, middle) = pictures[0]
        values = [pixels[0, int(point[1]), int(point[0])].item() for point in (left, right)]
        mirrored = values[0] < 200
        seen.add(mirrored)
        assert values == pytest.approx([150, 255] if mirrored else [255, 150], abs=9)
        assert float(left[0]) < float(middle[0]) < float(right[0])
    assert seen == {True, False}
    plain = KeypointDataset([sample], config)
    assert all(float(plain[0][1][0, 0]) < float(plain[0][1][1, 0]) for _ in range(12))


def write_coco(root: Path, annotations: list[dict[str, Any]], **person: Any) -> Path:
    """person_keypoints_train.json with three images 100 x 80, beside an instances_train.json."""
    for number in (1, 2, 3):
        image = Image.new("RGB", (100, 80))
        image.paste((0, 200, 0), (40, 20, 60, 60))
        (root / "train").mkdir(exist_ok=True)
        image.save(root / "train" / f"{number}.png")
    listed = [{"id": n, "file_name": f"{n}.png", "width": 100, "height": 80} for n in (1, 2, 3)]
    names = {"keypoints": ["head", "left", "right"], "skeleton": [[1, 2], [3, 1]]}
    categories = [{"id": 1, "name": "person"} | names | person, {"id": 2, "name": "dog"}]
    records = [{"id": n, "category_id": 1, "iscrowd": 0} | a for n, a in enumerate(annotations, 1)]
    content = {"images": listed, "annotations": records, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations/person_keypoints_train.json").write_text(json.dumps(content))
    content = {"images": listed, "annotations": [], "categories": categories}
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return root


def test_objects_of_an_image_of_several_are_cropped(tmp_path: Path) -> None:
    """By hand: a box 40, 20, 60, 60 and an eighth on each side; keypoints count from its corner."""
    data = write_coco(
        tmp_path,
        [
            {
                "image_id": 1,
                "bbox": [40, 20, 20, 40],
                "area": 500,
                "keypoints": [50, 22, 2, 41, 40, 1, 0, 0, 0],
            },
            {"image_id": 1, "bbox": [70, 10, 20, 20], "keypoints": [99, 12, 2, 0, 0, 0, 0, 0, 0]},
            {"image_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [0] * 9, "num_keypoints": 0},
            {"image_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2] * 3, "iscrowd": 1},
            {"image_id": 1, "category_id": 2, "bbox": [0, 0, 50, 50]},
            {"image_id": 2, "bbox": [10, 10, 40, 40], "keypoints": [20, 30, 2] * 3},
        ],
    )
    split = read_split(data, "train", draw=Draw(0))
    assert split.pose.names == ("head", "left", "right")
    assert split.pose.skeleton == ((0, 1), (2, 0))
    assert split.pose.mirrored == (0, 2, 1)
    first, second, alone = split.samples
    assert first.region == (37, 15, 63, 65)
    assert (first.width, first.height, first.area) == (26, 50, 500)
    expected = np.array([[13, 7], [4, 25], [NAN, NAN]])
    assert np.array_equal(first.points, expected, equal_nan=True)
    # The box and the keypoint beside it are 70 to 99; a margin of 3.6, and the image ends at 100.
    assert second.region == (66, 7, 100, 33)
    assert second.area == pytest.approx(0.53 * 400)
    assert alone.region is None
    assert alone.points.tolist() == [[20, 30]] * 3
    notes = {note: len(places) for note, places in split.ledger.notes.items()}
    assert notes == {NO_KEYPOINT: 1, CROWD: 1, NO_POSE: 1, NO_OBJECT: 1}
    assert dict(split.ledger.used) == {"images": 2, "objects": 3, "keypoints": 6}

    whole = images.read(str(tmp_path / "train/1.png")).pixels
    picture = read_picture(first.source)
    assert picture.pixels.equal(whole[:, 15:65, 37:63])
    small = read_picture(first.source, 25)
    assert (*small.pixels.shape, small.width, small.height) == (3, 25, 13, 26, 50)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"keypoints": [1, 2, 2] * 2}, "object of 2 keypoints, not 3"),
        ({"keypoints": [1, 2, 2, 3]}, "keypoints that are not triples x, y, visibility"),
        ({"keypoints": [1, 2, 3] * 3}, "keypoint whose visibility is not 0, 1 or 2"),
        ({"keypoints": [1, None, 2] * 3}, "keypoint that is not two numbers"),
        ({"keypoints": [-1, 2, 2] * 3}, "object of which no keypoint can be used"),
        ({"keypoints": [1, 2, 2] * 3, "bbox": [5, 5, 0, 5]}, "box without area"),
        ({"keypoints": [1, 2, 2] * 3, "category_id": 7}, "unknown category id 7"),
    ],
)
def test_bad_objects_are_skipped_for_a_reason(
    annotation: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    good = {"image_id": 2, "keypoints": [1, 2, 2] * 3}
    data = write_coco(tmp_path, [{"image_id": 1, "bbox": [1, 2, 30, 40]} | annotation, good])
    split = read_split(data, "train", draw=Draw(0), allowed=1)
    assert split.ledger.reasons("objects") == [
        (reason, [f"{data}/annotations/person_keypoints_train.json: annotation 1"])
    ]
    assert [sample.path.name for sample in split.samples] == ["2.png"]
    with pytest.raises(DlkitError, match="of 'train' cannot be used"):
        read_split(data, "train", draw=Draw(0))


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ({"keypoints": ["a", "a", "b"]}, "category 'person': two keypoints have one name"),
        ({"keypoints": 3}, "category 'person': `keypoints` is not a list of names"),
        ({"skeleton": [[0, 1]]}, r"`skeleton` has \[0, 1\], not two numbers from 1 to 3"),
        ({"skeleton": 1}, "`skeleton` is not a list"),
    ],
)
def test_a_category_that_contradicts_itself_is_refused(
    person: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = write_coco(tmp_path, [{"image_id": 1, "keypoints": [1, 2, 2] * 3}], **person)
    with pytest.raises(DlkitError, match=message):
        read_split(data, "train", draw=Draw(0))


def test_data_without_keypoints_are_refused(tmp_path: Path) -> None:
    data = write_coco(tmp_path, [{"image_id": 1, "bbox": [1, 2, 3, 4]}], keypoints=None)
    with pytest.raises(DlkitError, match="COCO without keypoints: no class has some"):
        read_split(data, "train", draw=Draw(0))


def test_rows_of_one_image_are_its_objects(tmp_path: Path) -> None:
    """A table without boxes: each crop is that of the keypoints."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images/a.png")
    rows = ["file;x1;y1;x2;y2", "a.png;10;10;26;18", "a.png;40;20;;"]
    (tmp_path / "test.csv").write_text("\n".join(rows))
    first, second = read_split(tmp_path, "test").samples
    assert first.region == (8, 9, 28, 19)
    assert np.isnan(first.area)
    assert second.region == (39, 19, 41, 21)  # of a single keypoint


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,x1,y1,x2", "no column named y2"),
        ("file,x1,y1,x3,y3", "no column named x2"),
        ("file,label", "no column named x1"),
        ("x1,y1", "no column named path"),
    ],
)
def test_columns_that_are_missing_are_named(header: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(f"{header}\n")
    with pytest.raises(DlkitError, match=message):
        read_split(tmp_path, "test")
