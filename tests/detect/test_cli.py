"""`dlkit detect` as it is typed: formats, exit codes, files written, options."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from dlkit.core.datasets.splits import Draw
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.detect import infer, layouts, options, predictor
from dlkit.detect.infer import Detections
from tests.conftest import LABELS, SIDE, Result, one_line, records, run, scene


def test_the_readmes_first_command_says_cat(tmp_path: Path) -> None:
    cat = Path(__file__).parents[2] / "data" / "cat.jpg"
    result = run("detect", cat, "--save", tmp_path / "out", "--device", "cpu")
    assert result.code == 0
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert {row[1] for row in rows} == {"cat"}
    assert (tmp_path / "out" / "cat.jpg").exists()


Row = tuple[str, str, float, float, float, float, float]  # path, label, score, x1, y1, x2, y2


FP32 = ("--device", "cpu", "--precision", "fp32")


SEEDS = range(20, 24)


@pytest.fixture
def detect(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`dlkit detect ARGS` with the tiny model, in a folder with four scenes in `in/`."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for seed in SEEDS:
        scene(seed)[0].save(f"in/{seed}.jpg", quality=95)

    def call(*args: object, stdin: str = "") -> Result:
        return run("detect", "-m", model, *FP32, *args, stdin=stdin)

    return call


def table(result: Result) -> list[Row]:
    """The rows of the format `text`."""
    assert result.code in {0, 1}, result.err
    cells = [line.split("\t") for line in result.out.splitlines()]
    return [(c[0], c[1], *map(float, c[2:])) for c in cells]  # type: ignore[misc]


def rows_of(objects_of_images: list[dict[str, Any]]) -> list[Row]:
    """The rows that records of `json` or `jsonl` hold."""
    return [
        (record["path"], *found.values())
        for record in objects_of_images
        for found in record["objects"]
    ]


def near(some: list[Row], others: list[Row], pixels: float, score: float = 1e-3) -> bool:
    """Whether both hold the same objects, in the same order for each label, up to these numbers."""
    ones, twos = (sorted(rows, key=lambda row: row[:2]) for rows in (some, others))
    assert [row[:2] for row in ones] == [row[:2] for row in twos]
    differences = np.abs(np.array([a[2:] for a in ones]) - np.array([b[2:] for b in twos]))
    return bool((differences <= np.array([score] + [pixels] * 4) + 1e-6).all())


def test_it_finds_what_is_there(detect: Any) -> None:
    truth: list[Row] = [
        (f"in/{seed}.jpg", label, 1.0, float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        for seed in SEEDS
        for label, box in scene(seed)[1]
    ]
    found = table(detect("in"))
    assert near(found, truth, pixels=10, score=0.5)
    assert [row[0] for row in found] == sorted(row[0] for row in found)
    for path in {row[0] for row in found}:
        scores = [row[2] for row in found if row[0] == path]
        assert scores == sorted(scores, reverse=True)


def test_json_jsonl_and_csv_hold_the_same(detect: Any) -> None:
    expected = table(detect("in"))
    assert rows_of(json.loads(detect("in", "-f", "json").out)) == expected
    lines = records(detect("in", "-f", "jsonl"))
    assert rows_of(lines) == expected
    assert lines[0].keys() == {"path", "width", "height", "objects"}
    assert lines[0]["objects"][0].keys() == {"label", "score", "x1", "y1", "x2", "y2"}
    assert (lines[0]["width"], lines[0]["height"]) == (SIDE, SIDE)
    rows = list(csv.DictReader(io.StringIO(detect("in", "-f", "csv").out)))
    assert [(r["path"], r["label"]) for r in rows] == [row[:2] for row in expected]
    numbers = [[float(r[k]) for k in ("score", "x1", "y1", "x2", "y2")] for r in rows]
    assert numbers == [[*row[2:]] for row in expected]


def test_nothing_found_is_a_result(detect: Any) -> None:
    Image.new("RGB", (64, 64)).save("black.png")
    assert detect("black.png") == Result(0, "", "")
    (record,) = records(detect("black.png", "-f", "jsonl"))
    assert record == {"path": "black.png", "width": 64, "height": 64, "objects": []}
    assert json.loads(detect("black.png", "-f", "json").out) == [record]
    assert json.loads(detect("black.png", "-f", "coco").out)["annotations"] == []


@pytest.mark.parametrize("count", [(), ("--count",)])
def test_nothing_found_names_the_best_candidate(count: tuple[str, ...], detect: Any) -> None:
    """On a terminal alone; a pipe gets what it got."""
    command = ("in/20.jpg", "in/21.jpg", "--threshold", 0.999, *count)
    assert detect(*command) == Result(0, "", "")
    done = detect(*command, "--color", "always")
    for number, line in zip((20, 21), done.err.splitlines(), strict=True):
        (found,) = records(detect(f"in/{number}.jpg", "--threshold", 0.01, "-f", "jsonl"))
        best = max(found["objects"], key=lambda own: own["score"])
        assert line.startswith(f"nothing above 0.999 in in/{number}.jpg; highest: {best['label']} ")
        assert float(line.split()[-1]) == pytest.approx(best["score"], abs=0.006)
    line = detect("in/20.jpg", "--threshold", "0.999,disc=0.9999", "--labels", "disc", "--color",
                  "always").err  # fmt: skip
    assert re.fullmatch(r"no disc above 0.9999 in in/20.jpg(; highest: disc 0\.\d+)?\n", line)


def test_coco_output_is_coco(detect: Any) -> None:
    expected = table(detect("in"))
    assert detect("in", "missing.jpg", "-f", "coco", "-o", "out.json").code == 1
    with mock.patch("builtins.print"):
        coco = COCO("out.json")
    labels = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    assert labels == {1: "disc", 2: "square"}
    found: list[Row] = []
    for image in coco.loadImgs(coco.getImgIds()):
        assert (image["width"], image["height"]) == (SIDE, SIDE)
        for a in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            x, y, w, h = a["bbox"]
            assert a["area"] == pytest.approx(w * h, abs=0.1)
            box = (x, y, x + w, y + h)
            found.append((image["file_name"], labels[a["category_id"]], a["score"], *box))
    assert near(found, expected, pixels=0)
    # Its file names lead back to the images.
    assert len(layouts.read_split(Path("out.json"), "test").samples) == len(SEEDS)


@pytest.mark.parametrize(("format", "pixels"), [("yolo", 0.05), ("voc", 0.5)])
def test_yolo_and_voc_output_read_back_as_data(format: str, pixels: float, detect: Any) -> None:
    """VOC's pixels are whole numbers."""
    expected = table(detect("in"))
    if format == "yolo":
        folder, labels, suffix = Path("set/images"), Path("set/labels"), "txt"
    else:
        folder, labels, suffix = Path("set/JPEGImages"), Path("set/Annotations"), "xml"
        Path("set/ImageSets/Main").mkdir(parents=True)
        Path("set/ImageSets/Main/train.txt").write_text("".join(f"{s}\n" for s in SEEDS))
    shutil.copytree("in", folder)
    done = detect("in", "-f", format, "-o", labels)
    assert done.out.split() == [str(labels / f"{seed}.{suffix}") for seed in SEEDS]
    read = layouts.read_split(Path("set"), "train", draw=Draw(share=0))
    assert read.labels == LABELS
    found: list[Row] = [
        (f"in/{s.path.name}", LABELS[label], 0.0, *map(float, box))
        for s in read.samples
        for box, label in zip(s.boxes, s.labels, strict=True)
    ]
    assert near(found, expected, pixels=pixels, score=1)


def test_boxes_are_in_pixels_of_the_image_as_shown(detect: Any) -> None:
    """Stored lying on its side: the same boxes as of the picture that stands."""
    picture = scene(20)[0].resize((192, 160))
    picture.save("standing.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save("lying.png", exif=exif)
    standing, lying = records(detect("standing.png", "lying.png", "-f", "jsonl"))
    assert (lying["width"], lying["height"]) == (192, 160)
    assert len(lying["objects"]) == 2
    assert near(
        rows_of([{**lying, "path": "standing.png"}]), rows_of([standing]), pixels=2, score=0.2
    )


BAD = ("missing.jpg", "text.jpg", "zero.png", "tiny.png", "truncated.jpg", "empty", "*.gif")


def make_bad_inputs() -> None:
    Path("text.jpg").write_text("hello, world")
    Path("zero.png").touch()
    Image.new("RGB", (1, 1)).save("tiny.png")
    Path("truncated.jpg").write_bytes(Path("in/20.jpg").read_bytes()[:1500])
    Path("empty").mkdir()


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_input_has_its_record_in_order(workers: int, batch_size: int, detect: Any) -> None:
    make_bad_inputs()
    inputs = ["in/20.jpg", *BAD[:3], "in/21.jpg", *BAD[3:], "in/22.jpg", "in/20.jpg"]
    options = ["--workers", workers, "--batch-size", batch_size, "-f", "jsonl"]
    done = detect(*inputs, *options)
    assert done.code == 1
    found = records(done)
    assert [record["path"] for record in found] == inputs
    for record in found:
        assert record.keys() == (
            {"path", "error"} if record["path"] in BAD else {"path", "width", "height", "objects"}
        )
    *lines, last = done.err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["dlkit", path] for path in BAD]
    assert last == f"dlkit: {len(BAD)} of {len(inputs)} inputs failed"


def test_the_rest_is_done_in_every_format(detect: Any) -> None:
    expected = table(detect("in/20.jpg", "in/21.jpg"))
    inputs = ("in/20.jpg", "missing.jpg", "in/21.jpg")
    for format in ("text", "csv", "coco", "json", "voc", "yolo"):
        done = detect(*inputs, "-f", format, "-o", f"out.{format}", "--save", f"drawn-{format}")
        assert done.code == 1
        assert "dlkit: missing.jpg: no such file" in done.err.splitlines()
    assert table(Result(0, Path("out.text").read_text(), "")) == expected
    array = json.loads(Path("out.json").read_text())
    assert array.pop(1) == {"path": "missing.jpg", "error": "no such file"}
    assert rows_of(array) == expected
    assert {path.name for path in Path("out.voc").iterdir()} == {"20.xml", "21.xml"}
    assert {path.name for path in Path("drawn-text").iterdir()} == {"20.jpg", "21.jpg"}


def test_an_unreachable_url_is_named_once(detect: Any) -> None:
    url = "http://127.0.0.1:9/x.jpg"
    done = detect(url, "in/20.jpg")
    assert done.code == 1
    assert len(table(done)) == 2
    line, _ = done.err.splitlines()
    assert line.count(url) == 1


def test_odd_metadata_goes_unsaid(detect: Any) -> None:
    """Pillow's own warnings are no use to the user."""
    scene(20)[0].save("odd.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    done = detect("odd.jpg", "odd.jpg", "odd.jpg", "-f", "jsonl")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("format", ["text", "csv", "jsonl", "coco", "voc", "yolo"])
def test_a_name_that_is_not_utf8_is_a_name(format: str, detect: Any) -> None:
    """Names are bytes on Linux; one that no encoding fits must not end the batch."""
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy("in/20.jpg", name)
    done = detect(name, "in/21.jpg", "-f", format, "-o", "out", "--save", "drawn")
    assert (done.code, done.err) == (0, "")
    assert Path("drawn", name).exists()


def test_inputs_from_stdin_folders_and_globs(detect: Any) -> None:
    expected = table(detect("in"))
    assert table(detect("-", stdin="in/20.jpg\nin/21.jpg\n\nin/2[23].jpg\n")) == expected
    assert table(detect("in/*.jpg")) == expected
    assert detect("-", stdin="") == Result(0, "", "")


@pytest.mark.parametrize(
    "args",
    [
        "",
        "--nope in",
        "in --batch-size 0",
        "in --image-size 8",
        "in --format nope",
        "in --max-detections 0",
        "in --workers -1",
        "in --precision fp7",
    ],
)
def test_wrong_usage(args: str, detect: Any) -> None:
    one_line(detect(*args.split()), "--" if args else "missing IMAGES")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("in --labels square,cat", "cat"),
        ("in --labels square,cat -f yolo -o out", "cat"),
        ("in -f voc", "-o"),
        ("in -o in/20.jpg", "an image's or video's name"),
        ("in -f yolo", "-o"),
        ("in --nms soft-gaussian --iou 0.4", "--iou"),
        ("in --nms weighted --sigma 0.4", "--sigma"),
        ("in --threshold 2", "0 to 1"),
        ("in --threshold square=", "0 to 1"),
        ("in --threshold 0.2,cat=0.3", "cat"),
        ("in --threshold 0.2,0.3", "each once"),
        ("in --threshold disc=0.2,disc=0.3", "each once"),
        ("in --threshold =0.3", "of labels"),
        ("in --labels square,", "no label ''"),
        ("in --device nonsense", "nonsense"),
        ("in --device cuda:99", "cuda:99"),
        ("in --precision fp16", "fp16"),
    ],
)
def test_what_cannot_be_done_is_one_line(args: str, said: str, detect: Any) -> None:
    one_line(detect(*args.split()), said)
    assert sorted(path.name for path in Path().iterdir()) == ["in"]


def test_a_wrong_model_name_offers_the_closest(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path))
    (tmp_path / "detect").mkdir()
    for name in ("shapes", "zebras"):
        shutil.copy(model, tmp_path / "detect" / f"{name}.safetensors")
    scene(20)[0].save(tmp_path / "a.jpg")
    done = run("detect", tmp_path / "a.jpg", "-m", "shaps", *FP32)
    one_line(done, "shaps", "shapes")
    assert "zebras" not in done.err
    assert len(table(run("detect", tmp_path / "a.jpg", "-m", "shapes", *FP32))) == 2


def changed(model: Path, old: bytes, new: bytes) -> bytes:
    content = model.read_bytes()
    assert old in content
    return content.replace(old, new, 1)


def flipped(model: Path, place: float) -> bytes:
    content = bytearray(model.read_bytes())
    content[int(place * len(content))] ^= 0x10
    return bytes(content)


DAMAGED = {
    "a bit in the weights": lambda model: flipped(model, 0.5),
    "the last byte": lambda model: flipped(model, 1 - 1e-9),
    "a bit in the length": lambda model: flipped(model, 0.0),
    "a bit in the table": lambda model: changed(model, b'"F32"', b'"F33"'),
    "a type in the table": lambda model: changed(model, b'"F32"', b'"I32"'),
    "a label": lambda model: changed(model, b"square", b"squire"),
    "a setting": lambda model: changed(model, b"nano", b"nana"),
    "half of it": lambda model: model.read_bytes()[: model.stat().st_size // 2],
    "its start": lambda model: model.read_bytes()[:100],
    "nothing": lambda model: b"",
    "text": lambda model: b"<html>not found</html>" * 100,
    "json": lambda model: (2).to_bytes(8, "little") + b"[]",
    "more": lambda model: model.read_bytes() + b"x",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_model_is_refused(damage: str, detect: Any, model: Path) -> None:
    Path("bad.safetensors").write_bytes(DAMAGED[damage](model))
    one_line(run("detect", "in", "-m", "bad.safetensors", *FP32), "bad.safetensors")


def test_models_that_do_not_fit(detect: Any, model: Path) -> None:
    header, weights = checkpoint.load(model)
    path = Path("other.safetensors")
    command = ("detect", "in", "-m", path, *FP32)
    one_line(run(*command), "other.safetensors", "no such")
    for wrong, said in [
        (Header("segment", "unet", {}, ["a"]), "dlkit segment"),
        (Header("detect", "detr", {}, ["a"]), "detr"),
        (Header("detect", "yolo", {"num_labels": 7}, LABELS, header.config), "needs the shape"),
        (Header("detect", "yolo", {"depth": 7}, LABELS, header.config), "'depth'"),
        (Header("detect", "yolo", header.settings, LABELS), "no setting 'image_size'"),
    ]:
        checkpoint.save(path, weights, wrong)
        one_line(run(*command), "other.safetensors", said)


def test_output_appears_whole_or_not_at_all(detect: Any) -> None:
    Path("out").mkdir()
    Path("out/x.json").write_text("before")
    one_line(
        detect("in", "-f", "json", "-o", "out/x.json"), "out/x.json: exists already", "--force"
    )
    write_over = ("in", "-f", "json", "-o", "out/x.json", "--force")
    assert detect(*write_over, "--labels", "cat").code == 2
    with mock.patch.object(predictor, "predict_batch", side_effect=RuntimeError("our bug")):
        done = detect(*write_over)
    assert done.code not in {0, 1, 2}
    assert "our bug" in done.err
    assert Path("out/x.json").read_text() == "before"
    assert [path.name for path in Path("out").iterdir()] == ["x.json"]
    done = detect(*write_over)
    assert (done, done.saved) == (Result(0, "", ""), ("out/x.json",))
    assert len(json.loads(Path("out/x.json").read_text())) == len(SEEDS)
    assert {path.name for path in Path("out").iterdir()} == {"x.json", "x.json.meta.json"}


@pytest.mark.parametrize("output", ["in", "in/20.jpg/x.json"])
def test_output_that_cannot_be_written_is_one_line(output: str, detect: Any) -> None:
    one_line(detect("in", "-o", output), output, "cannot be written")
    assert len(list(Path("in").iterdir())) == len(SEEDS)


def test_annotated_pictures(detect: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(20)[0].resize((192, 128)).save("lying.jpg", exif=exif)
    scene(20)[0].save("a.gif")
    Image.new("LA", (9, 700), (0, 0)).save("narrow.png")
    plain = detect("in", "lying.jpg", "a.gif", "narrow.png", "-f", "jsonl")
    drawn = detect("in", "lying.jpg", "a.gif", "narrow.png", "-f", "jsonl", "--save", "new/out")
    assert drawn == plain
    sizes = {path.name: images.size(path) for path in Path("new/out").iterdir()}
    expected = {f"{seed}.jpg": (SIDE, SIDE) for seed in SEEDS}
    assert sizes == {
        **expected,
        "lying.jpg": (128, 192),
        "a.png": (SIDE, SIDE),
        "narrow.png": (9, 700),
    }
    before = images.read("in/20.jpg").pixels.int()
    after = images.read("new/out/20.jpg").pixels.int()
    changed = (before - after).abs().amax(dim=0) > 60
    assert 0.01 < changed.float().mean() < 0.6


@pytest.mark.parametrize("options", [("--save", "out"), ("-f", "voc", "-o", "out")])
def test_existing_files_are_kept_unless_forced(options: tuple[str, ...], detect: Any) -> None:
    """One that exists is noticed before any is written."""
    suffix = "xml" if "voc" in options else "jpg"
    mine = Path(f"out/{SEEDS[-1]}.{suffix}")
    mine.parent.mkdir()
    mine.write_text("mine")
    one_line(detect("in", *options), f"{mine}: exists already; add --force")
    assert [*Path("out").iterdir()] == [mine]
    done = detect("in", *options, "--force")
    assert done.code == 0
    assert done.saved == (f"{len(SEEDS)} files in out",)
    assert mine.read_bytes() != b"mine"


def test_the_picture_of_a_url(detect: Any) -> None:
    """It has the URL's name; one that cannot be had again for drawing fails alone."""
    content = Path("in/20.jpg").read_bytes()
    url = "http://host/a.jpg?size=full"
    with mock.patch("dlkit.core.vision.images.fetch", side_effect=lambda *_, **__: iter([content])):
        assert len(table(detect(url, "--save", "out"))) == 2
    assert [path.name for path in Path("out").iterdir()] == ["a.jpg"]
    answers = [iter([content]), DlkitError("the server answered 503")]
    with mock.patch("dlkit.core.vision.images.fetch", side_effect=answers):
        done = detect(url, "in/21.jpg", "--save", "later", "-f", "jsonl")
    assert [record["path"] for record in records(done)] == [url, "in/21.jpg"]
    assert Path("later/21.jpg").exists()


def test_pictures_of_one_name_are_kept_apart(detect: Any) -> None:
    Path("b").mkdir()
    shutil.copy("in/21.jpg", "b/20.jpg")
    inputs = ("in/20.jpg", "b/20.jpg", "in/20.jpg")
    assert detect(*inputs, "--save", "out").code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["20-2.jpg", "20-3.jpg", "20.jpg"]
    done = detect(*inputs, "-f", "yolo", "-o", "txt")
    assert done.out.split() == ["txt/20.txt", "txt/20-2.txt", "txt/20-3.txt"]
    assert Path("txt/20.txt").read_text() == Path("txt/20-3.txt").read_text()
    assert Path("txt/20.txt").read_text() != Path("txt/20-2.txt").read_text()


@pytest.mark.parametrize(
    ("inputs", "folder"),
    [
        ("in", "in"),
        ("in/20.jpg", "./in/../in"),
        ("a/20.jpg in/20.jpg", "in"),
        ("in/20.jpg", "link"),
        (". a", "in"),
        ("*/*.jpg", "in"),
        ("**/*.jpg", "in"),
        ("-", "in"),
    ],
)
def test_no_input_is_ever_overwritten(inputs: str, folder: str, detect: Any) -> None:
    Path("a").mkdir()
    shutil.copy("in/21.jpg", "a/20.jpg")
    Path("link").symlink_to("in")
    before = {path: path.read_bytes() for path in Path("in").iterdir()}
    detect(*inputs.split(), "--save", folder, stdin="a/20.jpg\nin/20.jpg\n")
    assert {path: path.read_bytes() for path in before} == before


def test_nothing_is_made_that_was_not_asked_for(detect: Any, tmp_path: Path) -> None:
    detect("in", "missing.jpg")
    run("detect", "in", "-m", "missing.safetensors")
    run("detect", "models")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    detect("missing.jpg", "--save", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_threshold_labels_and_max_detections_leave_out(detect: Any) -> None:
    low = table(detect("in", "--threshold", 0.002))
    assert len(low) > 2 * len(SEEDS)
    assert {row[1] for row in low} == {*LABELS}
    assert table(detect("in", "--threshold", 0.3)) == [row for row in low if row[2] >= 0.3]
    discs = table(detect("in", "--threshold", 0.002, "--labels", " disc"))
    assert discs == [row for row in low if row[1] == "disc"]
    assert table(detect("in", "--threshold", 0.002, "--labels", "disc,square")) == low
    for most in (1, 2, 3):
        rows = table(detect("in", "--threshold", 0.002, "--max-detections", most))
        best = [[r for r in low if r[0] == f"in/{seed}.jpg"][:most] for seed in SEEDS]
        assert rows == [row for rows_of_image in best for row in rows_of_image]
    all_copies = table(detect("in", "--threshold", 0.002, "--iou", 1))
    assert len(all_copies) > len(low) >= len(table(detect("in", "--threshold", 0.002, "--iou", 0)))


@pytest.mark.parametrize("kind", ["soft-linear", "soft-gaussian", "weighted"])
def test_every_suppression_finds_the_same_things(kind: str, detect: Any) -> None:
    expected = table(detect("in"))
    assert near(table(detect("in", "--nms", kind, "--threshold", 0.5)), expected, 3, score=0.05)
    low = ["in", "--threshold", 0.002]
    assert table(detect(*low, "--nms", kind)) != table(detect(*low))


def test_suppression_across_labels(detect: Any) -> None:
    low = table(detect("in", "--threshold", 0.002))
    apart = table(detect("in", "--threshold", 0.002, "--class-agnostic"))
    assert 2 * len(SEEDS) <= len(apart) < len(low)
    assert apart[0] == low[0]


def test_batches_and_workers_change_nothing(detect: Any) -> None:
    """Images of several shapes, so that some are computed with a border and some alone."""
    for number, shape in enumerate([(96, 60), (50, 96), (96, 61), (200, 200), (31, 96), (96, 96)]):
        scene(number)[0].resize((192, 192)).crop((0, 0, *shape)).save(f"in/shape{number}.png")
    expected = table(detect("in", "--threshold", 0.3, "--batch-size", 1, "--workers", 0))
    assert len(expected) > 10
    for size, workers in [(1, 2), (2, 0), (3, 2), (16, 0), (16, 5)]:
        rows = table(detect("in", "--threshold", 0.3, "--batch-size", size, "--workers", workers))
        assert near(rows, expected, pixels=0.1), (size, workers)


def test_bf16_agrees_with_fp32(detect: Any) -> None:
    expected = table(detect("in"))
    assert near(table(detect("in", "--precision", "bf16")), expected, pixels=1.5, score=0.05)


def test_image_size(detect: Any) -> None:
    expected = table(detect("in"))
    assert table(detect("in", "--image-size", 64)) == expected  # as trained
    larger = table(detect("in", "--image-size", 96))
    assert larger != expected
    for row in [*larger, *table(detect("in", "--image-size", 45, "--threshold", 0))]:
        x1, y1, x2, y2 = row[3:]
        assert 0 <= x1 <= x2 <= SIDE
        assert 0 <= y1 <= y2 <= SIDE


def test_infer_is_the_default_command(detect: Any, model: Path) -> None:
    expected = detect("in/20.jpg")
    options = ("-m", model, *FP32)
    assert run("detect", "infer", "in/20.jpg", *options) == expected
    assert run("detect", "in/20.jpg", *options) == expected
    shutil.copy("in/20.jpg", "train")
    as_train = expected.out.replace("in/20.jpg", "train")
    assert run("detect", *options, "train").out == as_train
    assert run("detect", *options, "--", "train").out == as_train
    assert run("detect", "infer", "train", *options).out == as_train
    assert run("detect", "./train", *options).out == as_train.replace("train", "./train")
    # The arguments after -- are files, all of them.
    with mock.patch("dlkit.detect.infer.load", return_value=infer.load(str(model), "cpu", "fp32")):
        assert run("detect", "--", "train").out == as_train


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(model: Path) -> None:
    """Reads an endless list, too: nothing waits for its end."""
    options = shlex.join(["-m", str(model), *FP32, "-f", "jsonl"])
    command = f"yes missing.jpg | {sys.executable} -m dlkit detect - {options} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout) == {"path": "missing.jpg", "error": "no such file"}
    assert {*done.stderr.splitlines()} <= {"dlkit: missing.jpg: no such file"}


def test_a_failure_is_no_surprise_to_python_either(detect: Any, model: Path) -> None:
    detector = infer.load(str(model), "cpu", "fp32")
    results = list(infer.detect(["in/20.jpg", "missing.jpg"], detector))
    assert isinstance(results[0], Detections)
    assert vars(results[1]) == {"path": "missing.jpg", "error": "no such file"}
    with pytest.raises(DlkitError, match="cat"):
        list(infer.detect(["in/20.jpg"], detector, options.DetectOptions(labels=["cat"])))
