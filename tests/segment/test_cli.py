"""`dlkit segment` as it is typed: formats, files, failures, refusals."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.segment import model, rle
from tests.conftest import one_line, records, run
from tests.segment.helpers import COLOR_NAMES, FP32, ColorSegmenter, picture_of, truth_of


def test_it_names_what_is_there_in_every_format(segment: Any) -> None:
    truth = truth_of(0)
    rows, columns = np.nonzero(truth == 1)
    lines = [line.split("\t") for line in segment("in/0.png").out.splitlines()]
    assert [line[1] for line in lines] == ["red", "green", "blue"]
    assert [float(line[2]) for line in lines] == [
        pytest.approx((truth == k).mean(), abs=1e-5) for k in range(3)
    ]
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert [int(side) for side in lines[1][3:]] == box
    table = list(csv.DictReader(io.StringIO(segment("in/0.png", "-f", "csv").out)))
    assert [list(row.values()) for row in table] == lines
    (record,) = records(segment("in/0.png", "-f", "jsonl"))
    assert record.keys() == {"path", "width", "height", "segments"}
    for region, line in zip(record["segments"], lines, strict=True):
        code = region.pop("rle")
        assert [str(value) for value in region.values()] == line[1:]
        assert (rle.decode(code) == (truth == COLOR_NAMES.index(region["label"]))).all()
    assert json.loads(segment("in/0.png", "-f", "json").out)[0]["path"] == "in/0.png"


def test_nothing_found_names_what_there_is(segment: Any) -> None:
    """On a terminal alone; a pipe gets what it got."""
    Image.new("RGB", (48, 40), (250, 0, 0)).save("red.png")
    command = ("red.png", "--classes", "green,blue")
    assert segment(*command).err == ""
    line = segment(*command, "--color", "always").err
    assert line == "no green or blue in red.png; largest: red 1.00\n"
    objects = ("in/0.png", "-m", "objects.safetensors", "--threshold", 1)
    assert (segment(*objects).out, segment(*objects).err) == ("", "")
    best = segment("in/0.png", "-m", "objects.safetensors", "--threshold", 0).out.split("\t")
    line = segment(*objects, "--color", "always").err
    assert line.startswith(f"nothing above 1.00 in in/0.png; highest: {best[1]} ")
    assert float(line.split()[-1]) == pytest.approx(float(best[2]), abs=0.006)


@pytest.mark.parametrize("model", ["colors", "objects"])
def test_masks_or_overlays_alone(model: str, segment: Any) -> None:
    """Each is the file that --save writes with both, and the results are the same."""
    both = segment("in", "-m", f"{model}.safetensors", "--save", "both")
    ends = {
        "masks": {"0.png", "1.png", "2.png"},
        "overlays": {f"{n}-overlay.jpg" for n in range(3)},
    }
    for kind, names in ends.items():
        done = segment("in", "-m", f"{model}.safetensors", "--save", kind, "--save-as", kind)
        assert done.out == both.out
        assert {path.name for path in Path(kind).iterdir()} == names
        assert all(Path(kind, n).read_bytes() == Path("both", n).read_bytes() for n in names)
        assert done.saved == (f"3 files in {kind}",)


def test_existing_files_are_kept_unless_forced(segment: Any) -> None:
    """One that exists is noticed before any is written."""
    Path("out").mkdir()
    Path("out/2-overlay.jpg").write_text("mine")
    one_line(segment("in", "--save", "out"), "out/2-overlay.jpg: exists already")
    assert [path.name for path in Path("out").iterdir()] == ["2-overlay.jpg"]
    assert segment("in", "--save", "out", "--save-as", "masks").code == 0
    assert Path("out/2-overlay.jpg").read_text() == "mine"
    assert segment("in", "--save", "out", "--force").saved == ("6 files in out",)
    assert images.size(Path("out/2-overlay.jpg"))[0] == 56


def test_files_that_are_saved(segment: Any) -> None:
    done = segment("in", "--save", "out", "--probabilities", "numbers")
    assert done.code == 0
    assert done.out == segment("in").out
    saved = {path.name for path in Path("out").iterdir()}
    assert saved == {f"{n}{end}" for n in range(3) for end in (".png", "-overlay.jpg")}
    for seed in range(3):
        with Image.open(f"out/{seed}.png") as picture:
            assert picture.mode == "P"
            assert (np.array(picture) == truth_of(seed)).all()
            assert len({*map(tuple, np.array(picture.convert("RGB")).reshape(-1, 3))}) == 3
        width, height = images.size(Path(f"out/{seed}-overlay.jpg"))
        assert width == 56
        assert height > 40  # the legend is below
        with np.load(f"numbers/{seed}.npz") as arrays:
            assert arrays["labels"].tolist() == COLOR_NAMES
            numbers = arrays["probabilities"]
        assert numbers.shape == (3, 40, 56)
        np.testing.assert_allclose(numbers.astype(float).sum(axis=0), 1, atol=2e-3)
        assert (numbers.argmax(axis=0) == truth_of(seed)).all()


def test_classes_leave_out_all_others(segment: Any) -> None:
    every = segment("in").out.splitlines()
    some = segment("in", "--classes", " green,blue ").out.splitlines()
    assert some == [line for line in every if line.split("\t")[1] != "red"]
    one_line(segment("in", "--classes", "green,gray"), "gray", "red, green, blue")


@pytest.mark.parametrize("options", ["--tile 32", "--tta", "--tile 32 --tta", "--batch-size 1"])
def test_other_ways_of_computing_agree(options: str, segment: Any) -> None:
    """Views of other scales are soft at borders, so a few pixels there may differ."""
    picture_of(truth_of(5, (90, 130))).save("in/large.png")
    segment("in", "--save", "plain")
    assert segment("in", "--save", "other", "--workers", 0, *options.split()).code == 0
    for path in Path("plain").glob("*.png"):
        ones, twos = (np.array(Image.open(Path(f, path.name))) for f in ("plain", "other"))
        assert (ones != twos).mean() < (0.03 if "tta" in options else 1e-9)


def test_image_size_is_what_the_network_sees(segment: Any) -> None:
    """Half of the pixels give nearly the same map, at the image's own size."""
    picture_of(truth_of(0).repeat(4, axis=0).repeat(4, axis=1)).save("big.png")
    seen: list[torch.Size] = []
    logits = ColorSegmenter.logits

    def watched(self: ColorSegmenter, images: Tensor) -> Tensor:
        seen.append(images.shape)
        return logits(self, images)

    with mock.patch.object(ColorSegmenter, "logits", watched):
        segment("big.png", "--save", "out", "--image-size", 112)
    assert [tuple(shape[-2:]) for shape in seen] == [(80, 112)]
    with Image.open("out/big.png") as picture:
        labels = np.array(picture)
    assert labels.shape == (160, 224)
    assert (labels != truth_of(0).repeat(4, axis=0).repeat(4, axis=1)).mean() < 0.03


def test_a_picture_on_its_side_is_labeled_as_shown(segment: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture_of(truth_of(0)).transpose(Image.Transpose.ROTATE_90).save("lying.png", exif=exif)
    segment("lying.png", "--save", "out")
    assert (np.array(Image.open("out/lying.png")) == truth_of(0)).all()


def test_images_smaller_than_the_stride(segment: Any, tmp_path: Path) -> None:
    picture_of(truth_of(0)[:9, :8]).save("tiny.png")
    assert len(segment("tiny.png").out.splitlines()) >= 1
    settings = {"width_multiplier": 0.05, "depth": 4}
    network = model.build("unet", 3, **settings)
    header = Header("segment", "unet", settings, COLOR_NAMES, {"image_size": None})
    checkpoint.save(tmp_path / "u.safetensors", network.state_dict(), header)
    done = run("segment", "tiny.png", "in", "-m", "u.safetensors", *FP32, "-f", "jsonl")
    assert done.code == 0, done.err
    assert sum(region["fraction"] for region in records(done)[-1]["segments"]) == pytest.approx(1)


def test_a_url_is_fetched_once(segment: Any) -> None:
    content = Path("in/0.png").read_bytes()
    answers = [iter([content]), DlkitError("the server answered 503")]
    with mock.patch("dlkit.core.vision.images.fetch", side_effect=answers):
        options = ("--save", "out", "--image-size", 32, "-f", "jsonl")
        done = segment("http://host/a.png?size=full", "in/1.png", *options)
    assert done.code == 0
    assert ["error" in record for record in records(done)] == [False, False]
    assert len(list(Path("out").iterdir())) == 4


def test_an_image_that_cannot_be_read_again_fails_alone(segment: Any) -> None:
    read = images.full_size

    def full_size(source: str, picture: images.Picture) -> images.Picture:
        if source == "in/0.png":
            raise DlkitError("no such file")
        return read(source, picture)

    with mock.patch("dlkit.core.vision.images.full_size", full_size):
        options = ("--save", "out", "--image-size", 32, "-f", "jsonl")
        done = segment("in/0.png", "in/1.png", *options)
    assert done.code == 1
    assert ["error" in record for record in records(done)] == [True, False]
    assert {path.name for path in Path("out").iterdir()} == {"1.png", "1-overlay.jpg"}


def test_outputs_that_cannot_be_written_fail_their_inputs(segment: Any) -> None:
    Path("file").touch()
    done = segment("in", "--save", "file/out", "-f", "jsonl")
    assert done.code == 1
    assert len(records(done)) == 3
    assert all("cannot be written" in record["error"] for record in records(done))
    # One of three: its name is that of a folder.
    Path("out/1.png").mkdir(parents=True)
    done = segment("in", "--save", "out", "-f", "jsonl")
    assert done.code == 1
    assert ["error" in record for record in records(done)] == [False, True, False]
    assert Path("out/2-overlay.jpg").is_file()


def test_threshold_is_for_objects(segment: Any) -> None:
    one_line(
        segment("in", "--threshold", 0.5),
        "--threshold",
        "labels pixels; use an instance segmentation model",
    )


@pytest.mark.parametrize("options", [[], ["--tile", "32"], ["--workers", "0", "--batch-size", "1"]])
def test_every_input_has_its_record_in_order(options: list[str], segment: Any) -> None:
    Path("text.jpg").write_text("hello")
    Path("zero.png").touch()
    Image.new("RGB", (1, 1)).save("one.png")
    whole = Path("in/0.png").read_bytes()
    Path("cut.jpg").write_bytes(whole[: len(whole) // 2])
    bad = ["missing.jpg", "text.jpg", "zero.png", "one.png", "cut.jpg"]
    inputs = ["in/0.png", *bad[:2], "in/1.png", *bad[2:], "in/0.png"]
    done = segment(*inputs, "-f", "jsonl", "--save", "out", *options)
    assert done.code == 1
    assert [record["path"] for record in records(done)] == inputs
    assert [r["path"] for r in records(done) if "error" in r] == bad
    *lines, last = done.err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["dlkit", path] for path in bad]
    assert last == "dlkit: 5 of 8 inputs failed"
    names = {path.name for path in Path("out").glob("*.png")}
    assert names == {"0.png", "1.png", "0-2.png"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("in --save in", "in: the folder holds inputs"),
        ("in --probabilities in", "in: the folder holds inputs"),
        ("in -o map.png", "not a text format"),
        ("in --device nonsense", "nonsense"),
        ("in --precision fp16", "fp16"),
    ],
)
def test_what_cannot_be_done_is_one_line(args: str, said: str, segment: Any) -> None:
    before = sorted(Path().rglob("*"))
    one_line(segment(*args.split()), said)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("args", ["", "in --tile 8", "in --batch-size 0", "in --image-size 3"])
def test_wrong_usage(args: str, segment: Any) -> None:
    one_line(segment(*args.split()), "--" if args else "missing IMAGES")


def test_models_that_do_not_fit(segment: Any) -> None:
    weights = model.build("colors", 3).state_dict()
    path = Path("other.safetensors")
    for wrong, said in [
        (Header("detect", "yolo", {}, COLOR_NAMES), "dlkit detect"),
        (Header("segment", "nothing", {}, COLOR_NAMES, {"image_size": None}), "nothing"),
        (
            Header("segment", "unet", {"width_multiplier": 0.1}, COLOR_NAMES, {"image_size": None}),
            "do not fit",
        ),
        (Header("segment", "colors", {}, COLOR_NAMES), "no setting 'image_size'"),
    ]:
        checkpoint.save(path, weights, wrong)
        one_line(run("segment", "in", "-m", path, *FP32), said)
