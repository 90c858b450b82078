"""Painting of files by optimization."""

from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.parallel import device
from dlkit.core.vision import images
from dlkit.style_transfer import apply, color, infer, preview
from dlkit.style_transfer.models.features import load_features
from dlkit.style_transfer.optimize import Objective, Step
from tests.conftest import one_line, records, run
from tests.style_transfer.helpers import CPU, ON_CPU, paint, smooth, values


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((1000, 500), 512, (512, 256)),
        ((300, 200), 512, (300, 200)),  # nothing is enlarged
        ((3000, 100), 512, (1920, 64)),  # a panorama keeps a side that strokes fit in
        ((100, 3000), 512, (64, 1920)),
        ((1200, 40), 512, (1200, 40)),
        ((96, 64), 48, (48, 32)),
        ((300, 8), 512, (600, 16)),  # but for what the deepest maps need
    ],
)
def test_the_size_that_is_painted(
    size: tuple[int, int], longest: int, expected: tuple[int, int]
) -> None:
    assert infer.working_size(*size, longest) == expected


@pytest.mark.parametrize(
    ("size", "scales"), [((300, 200), 1), ((512, 300), 2), ((700, 1024), 3), ((1200, 40), 2)]
)
def test_large_pictures_are_painted_from_coarse_to_fine(size: tuple[int, int], scales: int) -> None:
    assert infer.count_scales(size) == scales
    assert infer.count_scales(size, 1) == 1
    with pytest.raises(DlkitError, match="--scales 7"):
        infer.count_scales(size, 7)


def test_a_painting_has_the_photographs_size_and_the_losses_fall(folder: Path) -> None:
    common = ("photos/a.png", "styles/wave.png", "--size", 48, "-f", "jsonl")
    (first,) = records(paint(*common, "-o", "one.png", "--steps", 1))
    result = paint(*common, "-o", "out.png", "--steps", 15)
    assert result.code == 0, result.err
    (record,) = records(result)
    assert record["output"] == "out.png"
    assert (record["width"], record["height"], record["steps"]) == (96, 64, 15)
    assert values("out.png").shape == (3, 64, 96)
    assert record["style_loss"] < 0.5 * first["style_loss"]
    assert paint(*common, "-o", "small.jpg", "--steps", 1, "--as-painted").code == 0
    assert values("small.jpg").shape == (3, 32, 48)


def test_without_style_the_photograph_stays(folder: Path) -> None:
    common = ("photos/a.png", "styles/wave.png", "-o", "x.png", "--steps", 5)
    done = paint(*common, "--style-weight", 0, "--tv-weight", 0)
    assert done.code == 0, done.err
    assert (values("x.png") - values("photos/a.png")).abs().max() < 0.01


def test_noise_depends_on_the_seed_alone(folder: Path) -> None:
    common = ("photos/a.png", "styles/wave.png", "--init", "noise", "--steps", 2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert paint(*common, "-o", f"{name}.png", "--seed", seed).code == 0
    assert torch.equal(values("a.png"), values("b.png"))
    assert (values("a.png") - values("c.png")).abs().mean() > 0.05


def test_starting_from_an_image(folder: Path) -> None:
    common = ("photos/a.png", "styles/wave.png", "--steps", 1, "--optimizer", "adam", "--lr", 0)
    assert paint(*common, "-o", "x.png", "--init", "styles/wave.png").code == 0
    wanted = infer.resize(values("styles/wave.png"), (96, 64))
    assert (values("x.png") - wanted).abs().max() < 0.05
    failed = paint(*common, "--init", "nothing.png")
    assert failed.code == 1
    assert "--init nothing.png: no such file" in failed.err


def test_an_exif_orientation_is_honored(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    infer.to_pillow(smooth(64, 96, 1)).save("turned.jpg", exif=exif)
    assert paint("turned.jpg", "styles/wave.png", "-o", "x.png", "--steps", 1).code == 0
    assert values("x.png").shape == (3, 96, 64)


def test_many_photographs_many_styles_and_a_grid(folder: Path) -> None:
    result = paint(
        "photos", "no.png", "styles", "--steps", 1, "-o", "out", "--grid", "grid.png", "-f", "jsonl"
    )
    assert result.code == 1
    found = records(result)
    assert [record.get("output") for record in found] == [
        "out/a-night.png", "out/a-wave.png", "out/b-night.jpg", "out/b-wave.jpg", None, None,
    ]  # fmt: skip
    assert found[4]["error"] == "no such file"
    grid = values("grid.png")
    cell = grid.shape[2] // 3
    assert grid.shape[2] == 3 * 256
    assert grid[:, :250, : cell - 4].min() == 1  # the corner is white
    assert grid[:, 300:500, cell + 60 : cell + 180].std() > 0.05  # a painting is not


def test_two_styles_in_one_painting(folder: Path) -> None:
    common = ("photos/a.png", "styles/wave.png", "--style", "styles/night.png", "--steps", 8)
    (one, two) = (
        records(paint(*common, "-f", "jsonl", "--blend", blend, "--force"))[0]
        for blend in ("1,1", "1,0")
    )
    assert one["style"] == "styles/wave.png+styles/night.png"
    assert one["output"] == "painted/a-wave-night.png"
    assert paint("photos/a.png", "styles/wave.png", "--steps", 8, "-o", "x.png").code == 0
    # A share of nothing is as if the style were not there.
    assert (values(two["output"]) - values("x.png")).abs().max() < 0.01


def test_only_the_white_of_a_mask_is_painted(folder: Path) -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:] = 255
    Image.fromarray(mask).save("mask.png")
    common = ("photos/a.png", "styles/wave.png", "--steps", 8)
    assert paint(*common, "-o", "x.png", "--mask", "mask.png").code == 0
    change = (values("x.png") - values("photos/a.png")).abs()
    assert change[:, :, :48].max() == 0
    assert change[:, :, 50:].mean() > 0.01
    one_line(paint("photos", "styles/wave.png", "--mask", "mask.png"), "one photograph")
    one_line(paint(*common, "--mask", "mask.png", "--mask", "mask.png"), "1 times")


def test_the_photographs_colors_can_stay(folder: Path) -> None:
    photo = values("photos/a.png")
    for how in ("luminance", "histogram"):
        common = ("photos/a.png", "styles/night.png", "--steps", 10, "-o", f"{how}.png")
        assert paint(*common, "--preserve-color", how).code == 0
    painting = values("luminance.png")
    chroma, wanted = painting - color.luminance(painting), photo - color.luminance(photo)
    agreement = F.cosine_similarity(chroma.flatten(1), wanted.flatten(1), dim=0)
    assert agreement[wanted.flatten(1).norm(dim=0) > 0.1].min() > 0.95
    assert (color.luminance(painting) - color.luminance(photo)).abs().mean() > 0.004
    assert (values("histogram.png").mean(dim=(1, 2)) - photo.mean(dim=(1, 2))).abs().max() < 0.1


def test_pictures_on_the_way_and_an_animation(folder: Path) -> None:
    done = paint(
        "photos/a.png", "styles/wave.png", "-o", "x.png", "--steps", 6, "--every", 2, "--preview"
    )
    assert done.code == 0, done.err
    assert sorted(path.name for path in folder.glob("x*")) == [
        "x-0002.png", "x-0004.png", "x-0006.png", "x.gif", "x.png",
    ]  # fmt: skip
    assert torch.equal(values("x-0006.png"), values("x.png"))
    with Image.open("x.gif") as animation:
        assert animation.size == (96, 64)
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(animation)]
    # Equal frames are one; so may the first two be.
    assert len(times) >= 5
    assert sum(times) == 7 * preview.FRAME_TIME + preview.LAST_TIME


def differing(first: str, second: str) -> float:
    """The share of values that differ; a seam would be 150 to 300 of 45,000 pixels.

    Adam goes by the gradient's sign at first, which rounding turns where it is almost zero.
    """
    return float(((values(first) - values(second)).abs() > 0.02).float().mean())


def test_in_tiles_the_painting_is_the_same(folder: Path) -> None:
    images.save(infer.to_pillow(smooth(150, 300, 5)), Path("large.png"))
    common = ("large.png", "styles/wave.png", "--steps", 3, "--optimizer", "adam")
    assert paint(*common, "-o", "whole.png").code == 0
    assert paint(*common, "-o", "tiled.png", "--tile", 128).code == 0
    assert differing("whole.png", "tiled.png") < 1e-3
    with mock.patch.object(device, "free_memory", return_value=1_000_000):
        short = paint(*common, "-o", "short.png")
    assert short.code == 0
    assert "0.0 GB are free: painting in tiles of 512 pixels" in short.err
    assert differing("whole.png", "short.png") < 1e-3


def test_what_is_needed_is_about_what_is_taken() -> None:
    network = load_features("random:0", CPU)
    objective = Objective(content_weight=0, style_layers={"relu1_1": 1.0})
    canvas = mock.Mock(content=torch.zeros(1, 3, 100, 100), device=CPU)
    method = infer.PaintOptions(precision="fp32")
    # Two maps, before and after the ReLU, and L-BFGS' pairs and some pictures.
    maps, optimizer = 2 * 8 * 4, 3 * 4 * (2 * infer.HISTORY + 6)
    assert infer.bytes_needed(network, objective, method, canvas) == 10_000 * (maps + optimizer)
    deeper = infer.bytes_needed(network, Objective(), method, canvas)
    assert deeper > infer.bytes_needed(network, objective, method, canvas)


def broken(error: BaseException, after: int) -> Callable[..., Iterator[Step]]:
    def steps(content: Tensor, *_: object) -> Iterator[Step]:
        for number in range(after):
            yield Step(number, {"content": 1.0, "style": 2.0, "total": 3.0}, content * 0.5)
        raise error

    return steps


def test_an_interrupt_keeps_the_picture_reached(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infer, "optimize", broken(KeyboardInterrupt(), 4))
    result = paint("photos", "styles/wave.png", "-o", "out", "--preview", "-f", "jsonl")
    assert result.code == 130
    (record,) = records(result)  # the second photograph is not begun
    assert record["steps"] == 3
    assert (values("out/a-wave.png") - 0.5 * values("photos/a.png")).abs().max() < 0.01
    assert Path("out/a-wave.gif").exists()
    monkeypatch.setattr(infer, "optimize", broken(KeyboardInterrupt(), 0))
    assert paint("photos/a.png", "styles/wave.png", "-o", "none.png").code == 130
    assert not Path("none.png").exists()


def test_a_loss_that_is_no_number_keeps_the_last_picture(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = paint("photos/a.png", "styles/wave.png", "--style-weight", 1e38, "-o", "x.png")
    assert result.code == 1
    assert "lower --style-weight (now 1e+38)" in result.err
    assert not Path("x.png").exists()
    monkeypatch.setattr(infer, "optimize", broken(DlkitError("the loss is nan"), 4))
    result = paint("photos/a.png", "styles/wave.png", "-o", "x.png")
    assert result.code == 1
    assert "photos/a.png: the loss is nan; x.png keeps the last picture" in result.err
    assert (values("x.png") - 0.5 * values("photos/a.png")).abs().max() < 0.01


def test_running_out_of_memory_suggests_a_size(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 GB")
    monkeypatch.setattr(infer, "optimize", broken(error, 1))
    for options, said in (((), "try --tile 512, or --size 256"), (("--tile", 512), "--tile 256")):
        result = paint("photos/a.png", "styles/wave.png", *options)
        assert result.code == 1
        assert said in result.err
    monkeypatch.setattr(apply, "paint_batch", mock.Mock(side_effect=error))
    result = run("style-transfer", "apply", "fast.safetensors", "photos", *ON_CPU)
    assert result.code == 1
    assert result.err.count("out of memory; try --tile 512") == 4
    # Any other error is a bug, and not hidden.
    monkeypatch.setattr(infer, "optimize", broken(RuntimeError("shape"), 1))
    assert paint("photos/a.png", "styles/wave.png").code == 70


def test_a_style_without_strokes(folder: Path) -> None:
    Image.new("RGB", (10, 10)).save("tiny.png")
    result = paint("photos/a.png", "tiny.png", "--style", "styles/wave.png", "--steps", 1)
    assert result.code == 1
    assert "the style tiny.png: 10 x 10 pixels show no strokes" in result.err
    assert Path("painted/a-wave.png").exists()
    failed = run("style-transfer", "apply", "adain.safetensors", "photos", "--style", "tiny.png")
    one_line(failed, "10 x 10")


def test_a_panorama(folder: Path) -> None:
    images.save(infer.to_pillow(smooth(70, 2100, 5)), Path("wide.png"))
    result = paint("wide.png", "styles/wave.png", "--steps", 1, "--size", 128, "-o", "x.png")
    assert result.code == 0, result.err
    assert "wide.png: painted at 480 x 16" in result.err
    assert values("x.png").shape == (3, 70, 2100)
    for model, style in (("fast", "wave"), ("adain", "styles/wave.png")):
        done = run(
            *("style-transfer", "apply", f"{model}.safetensors", "wide.png", "--style", style),
            *("-o", f"{model}.png", *ON_CPU),
        )
        assert done.code == 0, done.err
        assert values(f"{model}.png").shape == (3, 70, 2100)


def test_shards_paint_by_optimization_what_one_run_paints(folder: Path) -> None:
    sources = ["photos", "styles/wave.png", "--steps", 5, "-f", "jsonl"]
    painted = records(paint(*sources, "-o", "one"))
    for index in (0, 1):
        assert len(records(paint(*sources, "-o", "two", "--shard", f"{index}/2"))) == 1
    names = [Path(record["output"]).name for record in painted]
    for name in names:
        assert Path("two", name).read_bytes() == Path("one", name).read_bytes()
    Path("two", names[1]).unlink()
    again = records(paint(*sources, "-o", "two", "--resume"))
    assert [Path(record["output"]).name for record in again] == [names[1]]
    refused = paint(*sources, "-o", "two", "--shard", "0/2", "--grid", "grid.png")
    one_line(refused, "--grid shows all paintings")
