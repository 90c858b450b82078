"""`dlkit detect train --arch keypoints`: its data sets, and the options that it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from dlkit.core.store import checkpoint
from tests.conftest import run
from tests.detect.helpers import CORNERS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--keypoints 2", "--keypoints 2, but its objects have 3 keypoints"),
        ("--keypoints 4", "--keypoints 4, but its objects have 3 keypoints"),
        ("--keypoints 3 --alpha 0.4", "--alpha is for boxes, not for keypoints"),
        ("--arch keypoints --alpha 0.4", "--alpha is for localize, not keypoints"),
        ("--keypoints 3 --flip 0.2", "--flip 0.2: the data do not determine which keypoint"),
        ("--keypoints 3 --flip-vertical 0.2", "--flip-vertical is for boxes"),
        ("--keypoints 3 --arch ssd", "--keypoints is for localize, keypoints, not ssd"),
        ("--keypoints 3 --mosaic 0.5", "--mosaic is for yolo"),
    ],
)
def test_options_that_do_not_fit(corners: Path, tmp_path: Path, options: str, message: str) -> None:
    done = run(
        "detect", "train", corners, "--out", tmp_path / "run", "--arch", "localize",
        *options.split(),
    )  # fmt: skip
    assert done.code == 2
    assert message in done.err
    assert done.err.count("dlkit: ") == 1


def test_data_without_keypoints_says_what_is_missing(shapes: Path, tmp_path: Path) -> None:
    command = ["--out", tmp_path / "run", "--arch", "localize", "--keypoints", 3]
    done = run("detect", "train", shapes, *command)
    assert done.code == 2
    assert "no keypoints in a known layout: YOLO (images/ and labels/" in done.err
    assert "train.csv with file, x1, y1" in done.err
    (tmp_path / "train.csv").write_text(f"{CORNERS}\ngone.png,1,2,3,4,5,6\n")
    done = run("detect", "train", tmp_path, *command)
    assert done.code == 2
    assert "none of the 1 images of 'train' can be used, most often: missing image" in done.err
    assert done.err.count("dlkit: ") == 1


NAMES = ["top_left", "top_right", "bottom"]
TRAIN = (
    "--image-size 64 --epochs 1 --batch-size 8 --workers 0 --device cpu --precision fp32 --ema 0"
)


def as_poses(corners: Path, root: Path) -> Path:
    """The data set in YOLO's layout: each image with a pose, of which the second may be missing."""
    lines = ["names: [card]", "kpt_shape: [3, 3]", "flip_idx: [1, 0, 2]"]
    (root / "data.yaml").write_text("\n".join(lines))
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for line in (corners / f"{split}.csv").read_text().splitlines()[1:]:
            file, *texts = line.split(",")
            name = Path(file)
            shutil.copy(corners / name, root / "images" / split / name.name)
            values = ["0", "0.5", "0.5", "1", "1"]
            for x, y in zip(texts[::2], texts[1::2], strict=True):
                values += [f"{float(v or 0) / 64}" for v in (x, y)] + [str(2 * bool(x))]
            (root / "labels" / split / f"{name.stem}.txt").write_text(" ".join(values))
    return root


def test_a_data_set_of_yolo_and_of_coco(corners: Path, tmp_path: Path) -> None:
    """Trained from YOLO's poses; evaluated on them, and on the same in COCO's and CSV files."""
    (tmp_path / "yolo").mkdir()
    data = as_poses(corners, tmp_path / "yolo")
    done = run(
        "detect", "train", data, "--out", tmp_path / "run", "--arch", "keypoints", *TRAIN.split()
    )
    assert done.code == 0, done.err
    assert "train: 40 images, 40 objects, 110 keypoints" in done.err
    assert "not mirrored" not in done.err
    best = done.out.strip()
    header = checkpoint.read_header(Path(best))
    assert (header.arch, header.labels, header.settings["keypoints"]) == (
        "keypoints", ["1", "2", "3"], 3,
    )  # fmt: skip

    assert run("data", "convert", data, "--to", "coco", "-o", tmp_path / "coco").code == 0
    for file in (tmp_path / "coco/annotations").iterdir():
        content = json.loads(file.read_text())
        content["categories"][0] |= {"keypoints": NAMES, "skeleton": [[1, 2], [2, 3]]}
        file.write_text(json.dumps(content))
    scores = []
    for own in (data, data / "data.yaml", tmp_path / "coco", corners):
        printed = run("detect", "evaluate", own, "-m", best, "-f", "json")
        assert printed.code == 0, printed.err
        scores.append([(r["metric"], r["label"], r["value"]) for r in json.loads(printed.out)])
    assert scores[0] == scores[1] == scores[2] == scores[3]
    assert scores[0][0] == ("truths", "all", 24)

    coco = tmp_path / "coco"
    again = run(
        "detect", "train", coco, "--out", tmp_path / "two", "--arch", "keypoints", *TRAIN.split()
    )
    assert again.code == 0, again.err
    assert "not mirrored" not in again.err  # the names have sides
    best = again.out.strip()
    assert checkpoint.read_header(Path(best)).labels == NAMES
    image = corners / "images" / "50.png"
    found = run("detect", image, "-m", best, "-f", "json", "--save", tmp_path / "drawn")
    points = json.loads(found.out)[0]["keypoints"]
    assert [(p["keypoint"], p["name"]) for p in points] == [*enumerate(NAMES, 1)]
    assert (tmp_path / "drawn/50.png").exists()
    other = coco / "annotations/instances_test.json"
    other.write_text(other.read_text().replace("bottom", "lowest"))
    refused = run("detect", "evaluate", other, "-m", best)
    assert refused.code == 2
    assert "keypoint 3 is lowest, but bottom in the model" in refused.err
