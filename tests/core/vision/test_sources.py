"""Images of Python functions: paths, PIL images, arrays and tensors as sources of `images.read`."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.io.image_files import ImageSource, files
from dlkit.core.vision import images
from dlkit.core.vision.sources import as_sources

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def read(image: Any, **options: Any) -> np.ndarray:
    """The pixels (H, W, 3) of one image."""
    sources, many = as_sources(image)
    (source,) = sources
    assert not many
    pixels: np.ndarray = images.read(source, **options).pixels.permute(1, 2, 0).numpy()
    return pixels


FORMS: dict[str, Callable[[Path], Any]] = {
    "path": str,
    "Path": Path,
    "PIL": Image.open,
    "array": lambda path: PIXELS,
    "floats": lambda path: PIXELS / 255,
    "float32": lambda path: (PIXELS / 255).astype(np.float32),
    "turned array": lambda path: PIXELS[::-1][::-1],
    "with alpha": lambda path: np.dstack([PIXELS, np.full((20, 30), 255, np.uint8)]),
    "tensor": lambda path: torch.from_numpy(PIXELS).permute(2, 0, 1),
    "float tensor": lambda path: torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_an_image_have_the_same_pixels(form: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert np.array_equal(read(FORMS[form](tmp_path / "a.png")), PIXELS)


def test_gray_forms_have_the_same_pixels(tmp_path: Path) -> None:
    gray = PIXELS[:, :, 0]
    for form in (gray, gray[:, :, None], torch.from_numpy(gray)[None], Image.fromarray(gray)):
        assert np.array_equal(read(form), np.dstack([gray] * 3))


def test_half_precision_floats_are_pixels() -> None:
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
    assert np.abs(read(tensor.bfloat16()).astype(int) - PIXELS).max() <= 1
    assert np.array_equal(read(tensor.half()), PIXELS)


def test_a_side_is_resized_as_that_of_a_file(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for options in ({"side": 15}, {"side": 12, "fit": "crop"}, {"side": 40, "fit": "squash"}):
        assert np.array_equal(read(PIXELS, **options), read(tmp_path / "a.png", **options))


def test_an_image_of_pillow_is_upright_and_unchanged(tmp_path: Path) -> None:
    """Its EXIF orientation counts, as that of a file; an array is taken as it is."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(read(image), read(tmp_path / "a.jpg"))
        assert image.size == (30, 20)
        assert read(image).shape == (30, 20, 3)
        assert read(np.array(image)).shape == (20, 30, 3)
        assert read(image, side=8).shape == (8, 5, 3)
        assert image.size == (30, 20)


def test_transparent_pixels_are_white() -> None:
    clear = np.zeros((9, 9, 4), np.uint8)
    assert (read(clear) == 255).all()
    assert (read(torch.zeros(4, 9, 9)) == 255).all()


def test_many_images_keep_their_order_and_names() -> None:
    one = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for many in ([PIXELS, "a.png"], (PIXELS, Path("a.png")), iter([PIXELS, "a.png"])):
        sources, several = as_sources(many)
        assert several
        assert [*sources] == ["image 0", "a.png"]
    sources, several = as_sources(torch.stack([one, one, one]))
    assert several
    assert len([*sources]) == 3
    assert as_sources([])[1]


NOT_IMAGES = {
    "3 x 20 x 30, where H x W or H x W x C is needed; use array.transpose": PIXELS.transpose(
        2, 0, 1
    ),
    "1 x 20 x 30 x 3, .* use list": PIXELS[None],
    "20 x 30 x 2, .* give a path": PIXELS[:, :, :2],
    "4 x 30 x 3, whose channels may be first or last": PIXELS[:4],
    "floats from .* use uint8": PIXELS.astype(np.float32),
    "pixels of type int64": PIXELS.astype(np.int64),
    "pixels of type bool": PIXELS > 3,
    "floats from nan": np.full((20, 30), np.nan),
    "tensor 20 x 30 x 3, .* use tensor.permute": torch.from_numpy(PIXELS),
    "tensor 20 x 30, .* give a path": torch.zeros(20, 30),
    "int: not an image": 3,
    "NoneType: not an image": None,
    "0 x 30 x 3, which is empty": PIXELS[:0],
    "30 x 5 pixels: too small": PIXELS[:5],
}


@pytest.mark.parametrize("message", NOT_IMAGES)
def test_an_array_of_another_layout_is_refused(message: str) -> None:
    with pytest.raises(DlkitError, match=message):
        read(NOT_IMAGES[message])


def test_a_path_is_one_image(tmp_path: Path) -> None:
    """Neither a folder, nor a pattern, nor a list on stdin, as on the command line."""
    with pytest.raises(DlkitError, match="a folder; give its images"):
        read(tmp_path)
    for name in ("*.png", "-"):
        assert [*files(as_sources([name])[0])] == [name]
        with pytest.raises(DlkitError, match="no file matches|no such file"):
            read(name)


def test_a_url_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    fetched: list[str] = []

    def fetch(url: str, label: str, **limits: int) -> list[bytes]:
        fetched.append(url)
        return [(tmp_path / "a.png").read_bytes()]

    monkeypatch.setattr(images, "fetch", fetch)
    (source,) = as_sources("http://localhost/a.png")[0]
    for _ in range(2):
        assert np.array_equal(images.read(source).pixels.permute(1, 2, 0).numpy(), PIXELS)
    assert fetched == ["http://localhost/a.png"]


def test_the_record_of_a_result_has_the_name_only() -> None:
    @dataclass
    class Found:
        path: str

    (source,) = as_sources(PIXELS)[0]
    assert asdict(Found(source)) == {"path": "image"}
    assert copy.deepcopy(source) is source
    assert isinstance(source, ImageSource)
