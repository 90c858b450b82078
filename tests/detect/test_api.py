"""`detect` in Python: the numbers of the command, on files and on images in memory."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.detect import Config, Detections, detect, load, train
from tests.conftest import records, run, scene


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A square and a disc as a PNG file, which loses nothing."""
    path = tmp_path_factory.mktemp("api") / "scene.png"
    scene(9)[0].save(path)
    return path


def printed(model: Path, path: Path, *options: object) -> list[dict[str, Any]]:
    """The objects that the command prints."""
    done = run("detect", path, "-m", model, "-f", "jsonl", *options)
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = records(done)[0]["objects"]
    return found


def test_a_file_has_the_numbers_of_the_command(model: Path, picture: Path) -> None:
    found = detect(picture, model)
    assert isinstance(found, Detections)
    assert asdict(found)["objects"] == printed(model, picture)
    assert {one.label for one in found.objects} == {"disc", "square"}
    assert (
        json.loads(json.dumps(asdict(found)))
        == records(run("detect", picture, "-m", model, "-f", "jsonl"))[0]
    )


def test_options_have_the_meaning_of_the_command_line(model: Path, picture: Path) -> None:
    pairs: list[tuple[dict[str, Any], list[str]]] = [
        ({"threshold": 0.1}, ["--threshold", "0.1"]),
        ({"threshold": {"disc": 0.99}}, ["--threshold", "disc=0.99"]),
        ({"threshold": {"disc": 0.99, "": 0.1}}, ["--threshold", "0.1,disc=0.99"]),
        ({"labels": "disc"}, ["--labels", "disc"]),
        ({"labels": ["disc", "square"], "max_detections": 1}, ["--max-detections", "1"]),
        ({"image_size": 128, "nms": "weighted"}, ["--image-size", "128", "--nms", "weighted"]),
        ({"tile": 64, "tta": True}, ["--tile", "64", "--tta"]),
    ]
    for options, arguments in pairs:
        found = asdict(detect(picture, model, **options))["objects"]
        assert found == printed(model, picture, *arguments), options


def test_an_image_in_memory_has_the_numbers_of_its_file(model: Path, picture: Path) -> None:
    expected = detect(picture, model).objects
    pixels = np.array(Image.open(picture))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (Image.open(picture), pixels, pixels / 255, tensor, tensor / 255):
        assert detect(image, model).objects == expected
    batch: Any = detect(torch.stack([tensor, tensor.flip(2)]), model)
    assert batch[0].objects == expected
    assert len(batch) == 2


def test_a_photograph_on_its_side_is_upright(model: Path, picture: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.open(picture).resize((64, 48)).save(tmp_path / "side.png", exif=exif)
    with Image.open(tmp_path / "side.png") as image:
        upright = np.array(ImageOps.exif_transpose(image))
        assert detect(image, model).objects == detect(upright, model).objects
    found = detect(tmp_path / "side.png", model)
    assert found.objects == detect(upright, model).objects
    assert (found.width, found.height) == found.picture().size == (48, 64)


def test_many_images_are_a_list_in_order(model: Path, picture: Path) -> None:
    one = detect(picture, model)
    for many in ([picture, str(picture)], (picture, picture), iter([picture] * 2)):
        assert [found.objects for found in detect(many, model)] == [one.objects] * 2
    assert detect([], model) == []


def test_one_bad_image_of_many(model: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    many = [picture, tmp_path / "broken.jpg", "none.jpg", np.zeros((3, 20, 30)), picture]
    with pytest.raises(DlkitError, match=r"broken.jpg: not an image"):
        detect(many, model)
    found = detect(many, model, errors="return")
    assert [isinstance(one, Failure) for one in found] == [False, True, True, True, False]
    assert [one.path for one in found[2:4]] == ["none.jpg", "image 3"]
    with pytest.raises(DlkitError, match=r"none.jpg: no such file"):
        detect("none.jpg", model)


def test_a_loaded_model_is_called_and_given(model: Path, picture: Path) -> None:
    detector = load(model)
    assert detector.labels == ["disc", "square"]
    assert repr(detector) == f"<detect model '{model}'>"
    assert load(model).loaded is detector.loaded
    expected = detect(picture, model, threshold=0.1).objects
    assert detector(picture, threshold=0.1).objects == expected
    assert detect(picture, detector, threshold=0.1).objects == expected
    assert detect(picture, detector.loaded, threshold=0.1).objects == expected
    with pytest.raises(DlkitError, match="device and precision are arguments of load"):
        detect(picture, detector, device="cpu")


def test_a_file_that_was_written_again_is_loaded_again(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    first = load(copy)
    (tmp_path / "new").write_bytes(model.read_bytes())
    (tmp_path / "new").replace(copy)
    assert load(copy).loaded is not first.loaded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 30}, "threshold=30: not in the range; give from 0 to 1"),
        ({"threshold": {"cat": 2}}, "threshold cat=2"),
        ({"batch_size": 0}, "batch_size=0: not in the range; give 1 or more"),
        ({"labels": "cow"}, "the model has no label 'cow'"),
        ({"sigma": 0.3}, "--sigma: not used by --nms hard"),
        ({"errors": "ignore"}, "errors='ignore': choose from raise, return"),
        ({"model": "nothing"}, "unknown model 'nothing'"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(
    options: dict[str, Any], message: str, model: Path, picture: Path
) -> None:
    with pytest.raises(DlkitError) as caught:
        detect(picture, **{"model": model, **options})
    assert message in str(caught.value)


def test_a_result_is_drawn_and_shown(model: Path, picture: Path, tmp_path: Path) -> None:
    """The picture of a file and of an array is the one that --save writes."""
    run("detect", picture, "-m", model, "--save", tmp_path / "drawn")
    expected = np.array(Image.open(tmp_path / "drawn" / "scene.png"))
    found = detect(picture, model)
    assert np.array_equal(np.array(found.picture()), expected)
    assert np.array_equal(
        np.array(detect(np.array(Image.open(picture)), model).picture()), expected
    )
    assert found._repr_html_().startswith('<img src="data:image/jpeg;base64,')
    assert found._repr_html_().count("<tr>") == 3
    assert detect([picture] * 2, model)._repr_html_().count("<img") == 2


def test_a_result_is_saved_by_suffix(model: Path, picture: Path, tmp_path: Path) -> None:
    """Numbers are written as the command writes them with -o."""
    found = detect(picture, model)
    for suffix in ("json", "jsonl", "csv"):
        run("detect", picture, "-m", model, "-o", tmp_path / f"command.{suffix}")
        saved = found.save(tmp_path / f"python.{suffix}")
        assert saved.read_text() == (tmp_path / f"command.{suffix}").read_text()
    assert found.save(tmp_path / "a.txt").read_text() == run("detect", picture, "-m", model).out
    drawn = Image.open(found.save(tmp_path / "new" / "a.png"))
    assert np.array_equal(np.array(drawn), np.array(found.picture()))
    assert detect([picture] * 2, model).save(tmp_path / "b.jsonl").read_text().count("\n") == 2
    with pytest.raises(DlkitError, match=r"no format has the suffix '.pdf'; choose from .json"):
        found.save(tmp_path / "a.pdf")


def test_settings_are_checked_as_on_the_command_line(shapes: Path, tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"arch": "yolo9"}, "arch='yolo9': choose from yolo, "),
        ({"size": "huge"}, "size='huge': choose from nano"),
        ({"epochs": 0}, "epochs=0: not in the range; give 1 or more"),
        ({"data": "nofolder"}, "nofolder: no such folder or file"),
    ]
    for settings, message in wrong:
        with pytest.raises(DlkitError, match=message):
            train(Config(**{"data": str(shapes), **settings}))
