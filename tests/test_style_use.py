"""`dlkit style-transfer` in use: colors, masks, tiles, and the commands as they are typed."""

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.parallel import device
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.style_transfer import apply, cli, color, evaluate, infer, masks, preview
from dlkit.style_transfer.lbfgs import LBFGS
from dlkit.style_transfer.model import build
from dlkit.style_transfer.models.features import load_features
from dlkit.style_transfer.optimize import ADAM_LR, Objective, Step, optimize
from dlkit.style_transfer.plan import Style, group_styles, plan_paintings
from dlkit.style_transfer.tile import TiledFeatures, paint_in_tiles
from tests.conftest import Result, run

CPU = torch.device("cpu")
QUICK = ("--features", "random:0", "--device", "cpu", "--precision", "fp32")
ON_CPU = ("--device", "cpu", "--precision", "fp32")
STAGES = {"stages": [1, 1, 1, 1], "widths": [4, 4, 4, 4]}


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """A picture (3, H, W) from 0 to 1 with soft forms and some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    forms = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0]
    return (forms + 0.05 * torch.randn(3, height, width, generator=generator)).clamp(0, 1)


def values(path: str | Path) -> Tensor:
    """The pixels (3, H, W) of an image from 0 to 1."""
    return images.read(str(path)).pixels.float() / 255


def records(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.out.splitlines()]


def one_line(result: Result, *parts: str) -> None:
    """The command was refused with a single line on stderr that holds these parts."""
    assert result.code == 2, result
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("dlkit: ")
    for part in parts:
        assert part in line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs, two styles, a painter of both styles and one of any."""
    monkeypatch.chdir(tmp_path)
    for name, height, width, seed in (
        ("photos/a.png", 64, 96, 1),
        ("photos/b.jpg", 80, 64, 2),
        ("styles/wave.png", 72, 72, 3),
        ("styles/night.png", 64, 80, 4),
    ):
        images.save(infer.to_pillow(smooth(height, width, seed)), Path(name))
    torch.manual_seed(0)
    for arch, settings, labels in (
        ("fast", {"styles": 2, "width": 4}, ["wave", "night"]),
        ("adain", {"features": STAGES}, []),
    ):
        network = build(arch, **settings)
        header = Header("style-transfer", arch, settings, labels)
        checkpoint.save(Path(f"{arch}.safetensors"), network.state_dict(), header)
    return tmp_path


def paint(*args: object) -> Result:
    return run("style-transfer", *args, *QUICK)


# ---- colors -------------------------------------------------------------------------------------


def test_matched_colors_have_the_photographs_mean_and_covariance() -> None:
    style, photo = smooth(40, 60, 1), smooth(30, 50, 2)
    found = color.match_colors(style, photo).flatten(1).numpy()
    wanted = photo.flatten(1).numpy()
    np.testing.assert_allclose(found.mean(axis=1), wanted.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(np.cov(found, ddof=0), np.cov(wanted, ddof=0), atol=1e-5)
    # The nearest such change of colors: none where they are those of the photograph.
    torch.testing.assert_close(color.match_colors(photo, photo), photo, atol=1e-4, rtol=0)


def test_the_colors_of_a_gray_style_do_not_blow_up() -> None:
    style = color.to_gray(smooth(40, 60, 1)) + 0.002 * torch.randn(3, 40, 60)
    found = color.match_colors(style, smooth(30, 50, 2))
    chroma = found - color.luminance(found)
    assert chroma.std() < 0.15


def test_a_gray_style_has_the_photographs_brightness_and_contrast() -> None:
    style, photo = smooth(40, 60, 1) * 0.4, smooth(30, 50, 2)
    found, wanted = color.match_luminance(style, photo), color.luminance(photo)
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found.mean(), wanted.mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0].std(), wanted.std(), atol=1e-4, rtol=0)


def test_the_photographs_chroma_under_the_paintings_brightness() -> None:
    photo, painting = smooth(40, 60, 1), smooth(40, 60, 2)
    found = color.keep_chroma(photo, painting)
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(color.luminance(found), color.luminance(painting))
    chroma, wanted = found - color.luminance(found), photo - color.luminance(photo)
    # Less of it where the color would not exist, but never another hue.
    share = (chroma * wanted).sum(dim=0) / wanted.square().sum(dim=0)
    torch.testing.assert_close(chroma, wanted * share, atol=1e-5, rtol=0)
    assert share.max() <= 1.0001
    assert (share > 0.999).float().mean() > 0.5
    torch.testing.assert_close(color.keep_chroma(photo, photo), photo)


# ---- masks and tiles -----------------------------------------------------------------------------


def test_masks_share_the_places_where_several_are_white(tmp_path: Path) -> None:
    halves = np.zeros((20, 30), np.uint8)
    halves[:, :20] = 255
    Image.fromarray(halves).save(tmp_path / "left.png")
    Image.fromarray(np.ascontiguousarray(halves[:, ::-1])).save(tmp_path / "right.png")
    found = masks.read_masks([str(tmp_path / "left.png"), str(tmp_path / "right.png")], 30, 20)
    assert found[:, 5, 3].tolist() == [1, 0]
    assert found[:, 5, 15].tolist() == [0.5, 0.5]
    assert found[:, 5, 28].tolist() == [0, 1]
    assert masks.read_masks([str(tmp_path / "left.png")], 60, 40).shape == (1, 40, 60)


@pytest.mark.parametrize(
    ("width", "height", "value", "said"),
    [(30, 20, 0, "black everywhere"), (20, 30, 255, "30 x 20"), (0, 0, 0, "no such file")],
)
def test_a_mask_that_does_not_fit(
    width: int, height: int, value: int, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.png"
    if width:
        Image.new("L", (width, height), value).save(path)
    with pytest.raises(DlkitError, match=said):
        masks.read_masks([str(path)], 30, 20)


@pytest.mark.parametrize("size", [(100, 130), (47, 96), (33, 100), (20, 30)])
def test_maps_and_gradients_in_tiles_are_those_of_the_whole(size: tuple[int, int]) -> None:
    whole = load_features("random:1", CPU)
    tiled = TiledFeatures(whole, 40)
    picture = smooth(*size)[None].requires_grad_()
    layers = ["relu1_1", "relu4_2", "relu5_1"]
    expected, found = whole(picture, layers), tiled(picture, layers)
    for name in layers:
        torch.testing.assert_close(found[name], expected[name], atol=1e-3, rtol=1e-4)
    gradients = [
        torch.autograd.grad(sum(m.square().mean() for m in maps.values()), picture)[0]
        for maps in (expected, found)
    ]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(tiled(picture, layers)["relu4_2"], found["relu4_2"])


@pytest.mark.parametrize(
    ("arch", "settings"),
    [("fast", {"styles": 1, "width": 4}), ("adain", {"features": STAGES})],
)
@torch.inference_mode()
def test_paintings_in_tiles_show_no_seams(arch: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build(arch, **settings).eval()
    photo = smooth(200, 700)
    code = network.code(smooth(64, 64, 1)[None] if network.any_style else 0)
    whole = network.paint(photo[None], code)[0]
    tiled = paint_in_tiles(network, photo, code, 1.0, 512)
    # With the statistics of the whole, which is small enough here, a tile is a part of it.
    torch.testing.assert_close(tiled, whole, atol=0.01, rtol=0)
    # With its own, a tile would be of another brightness than the next.
    apart = network.paint(photo[None, :, :, :350], code)[0] - whole[:, :, :350]
    assert apart.abs().max() > 0.03
    # And afterwards the network is as before.
    assert torch.equal(network.paint(photo[None], code)[0], whole)


@torch.inference_mode()
def test_statistics_of_a_smaller_photograph_leave_no_steps_at_tiles_borders() -> None:
    torch.manual_seed(0)
    network = build("fast", styles=1, width=4).eval()
    photo = F.interpolate(smooth(60, 400)[None], scale_factor=4, mode="bilinear")[0]
    tiled = paint_in_tiles(network, photo, network.code(0), 1.0, 512)
    columns = tiled.diff(dim=2).abs().mean(dim=(0, 1))
    borders = range(384 - 4, len(columns), 384)
    for border in borders:
        near = columns[border : border + 140].mean()
        assert near < 1.5 * columns.mean()


# ---- what is painted, and where it goes ----------------------------------------------------------


def test_every_photograph_gets_every_style(tmp_path: Path) -> None:
    groups = group_styles(["x/s.png", "t.jpg"], None)
    planned = plan_paintings(["a/p.JPG", "b/p.jpg", "q.tif"], groups, tmp_path)
    assert [job.target.name for job in planned] == [
        "p-s.jpg", "p-t.jpg", "p-s-2.jpg", "p-t-2.jpg", "q-s.png", "q-t.png",
    ]  # fmt: skip
    (blend,) = group_styles(["s", "t"], "1,3")
    assert [style.share for style in blend] == [0.25, 0.75]
    assert plan_paintings(["p.jpg"], [blend], tmp_path)[0].target.name == "p-s-t.jpg"


def test_paintings_never_replace_inputs(tmp_path: Path) -> None:
    photo = tmp_path / "p.png"
    for output in (photo, tmp_path / "s.png"):
        with pytest.raises(DlkitError, match="would overwrite an input"):
            plan_paintings([str(photo)], [(Style(str(tmp_path / "s.png")),)], output)
    with pytest.raises(DlkitError, match="one file for 2 paintings; give a folder"):
        plan_paintings(["p.png", "q.png"], [(Style("s.png"),)], tmp_path / "out.png")


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


def test_layers_and_their_weights() -> None:
    assert cli.layer_weights("--x", "a, b") == {"a": 0.5, "b": 0.5}
    assert cli.layer_weights("--x", "a=2,b=0.5") == {"a": 2, "b": 0.5}
    for wrong in ("a=x", "", "a=-1"):
        with pytest.raises(DlkitError, match="--x"):
            cli.layer_weights("--x", wrong)


def test_the_commands_defaults_are_the_objectives(folder: Path) -> None:
    with mock.patch.object(infer, "paint", return_value=iter([])) as called:
        assert paint("photos/a.png", "styles/wave.png").code == 0
    _, _, objective, method = called.call_args.args
    assert objective == Objective()
    assert method == infer.PaintOptions(precision="fp32")
    assert str(ADAM_LR) in " ".join(run("style-transfer", "--help").out.split())


# ---- painting by optimization --------------------------------------------------------------------


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
        records(paint(*common, "-f", "jsonl", "--blend", blend))[0] for blend in ("1,1", "1,0")
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


def test_a_long_way_has_few_frames(tmp_path: Path) -> None:
    recorder = preview.ProgressRecorder(tmp_path / "x.png", 0, True, 1000)
    picture = infer.to_pillow(smooth(40, 800))
    for number in range(1001):
        recorder.record(number, lambda: picture)
    assert len(recorder.frames) <= preview.FRAMES + 1
    assert recorder.frames[0].size == (320, 16)


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


# ---- what goes wrong -----------------------------------------------------------------------------


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


def test_without_memory_it_says_what_may_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_step_that_goes_astray_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network, photo, style = load_features("random:0", CPU), smooth(32, 48, 1), smooth(32, 32, 3)
    steps = iter(range(100))
    step = LBFGS.step

    def wild(self: LBFGS, x: Tensor, loss: float, gradient: Tensor) -> None:
        step(self, x, loss, gradient)
        if next(steps) in {6, 14}:
            x.copy_(torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).round())

    monkeypatch.setattr(LBFGS, "step", wild)
    style_alone = Objective(content_weight=0)
    start = photo[None]
    found = list(optimize(start, [(style[None], 1.0)], start, network, style_alone, 15))
    totals = [step.losses["total"] for step in found]
    assert [step.number for step in found] == list(range(16))
    assert max(totals[1:]) <= totals[0] * 1.01
    # The pictures yielded are those of the losses.
    assert torch.equal(found[7].picture, found[totals[:7].index(min(totals[:7]))].picture)
    assert totals[10] < 0.9 * totals[7]
    assert totals[15] == min(totals[:15])


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos/a.png", "styles/wave.png", "--blend", "1,2"], "2 shares for 1 styles"),
        (["photos/a.png", "styles", "--blend", "a,b"], "not numbers; give numbers"),
        (["photos/a.png", "styles", "--blend", "0,0"], "negative or all 0"),
        (["photos", "styles", "-o", "x.png"], "one file for 4 paintings"),
        (
            ["photos/a.png", "styles/wave.png", "--style-layers", "relu9_1"],
            "unknown layer 'relu9_1'",
        ),
        (["photos/a.png", "styles/wave.png", "--seed", "1"], "--init noise"),
        (["photos/a.png", "styles/wave.png", "--caffe"], "--caffe is for"),
        (
            [
                *("photos/a.png", "styles/wave.png", "--style-weight", "0"),
                *("--content-weight", "0", "--tv-weight", "0"),
            ],
            "nothing to paint",
        ),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], said: str, folder: Path) -> None:
    one_line(paint(*arguments), said)


def test_a_photograph_alone_is_too_few(folder: Path) -> None:
    result = paint("photos/a.png")
    assert result.code == 2
    assert "Missing argument 'photos'" in result.err


# ---- painting in one pass ------------------------------------------------------------------------


def paint_in_one_pass(model: str, *args: object) -> Result:
    return run("style-transfer", "apply", f"{model}.safetensors", *args, *ON_CPU)


def test_a_painter_of_few_styles_paints_all_of_them(folder: Path) -> None:
    result = paint_in_one_pass("fast", "photos", "no.png", "-o", "out", "-f", "jsonl")
    assert result.code == 1
    found = records(result)
    assert [record.get("output") for record in found] == [
        "out/a-wave.png", "out/a-night.png", "out/b-wave.jpg", "out/b-night.jpg", None,
    ]  # fmt: skip
    assert found[0] == {
        "path": "photos/a.png",
        "style": "wave",
        "output": "out/a-wave.png",
        "width": 96,
        "height": 64,
    }
    model = apply.load("fast.safetensors", "cpu", "fp32")
    with torch.inference_mode():
        expected = model.network(values("photos/a.png")[None], 1)[0]
    assert (values("out/a-night.png") - expected).abs().max() < 0.005


def test_shards_paint_what_one_run_paints_and_resume_what_is_missing(folder: Path) -> None:
    painted = records(paint_in_one_pass("fast", "photos", "-o", "one", "-f", "jsonl"))
    of_shards = []
    for index in range(2):
        shard = ["--shard", f"{index}/2", "-o", "two", "-f", "jsonl"]
        of_shards.append(records(paint_in_one_pass("fast", "photos", *shard)))
    names = [Path(record["output"]).name for record in painted]
    found = [[Path(record["output"]).name for record in of_shard] for of_shard in of_shards]
    assert found == [names[:2], names[2:]]
    for name in names:
        assert Path("two", name).read_bytes() == Path("one", name).read_bytes()
    content = Path("two", names[2]).read_bytes()
    Path("two", names[2]).unlink()
    again = paint_in_one_pass("fast", "photos", "--resume", "-o", "two", "-f", "jsonl")
    assert [Path(record["output"]).name for record in records(again)] == names[2:]
    assert Path("two", names[2]).read_bytes() == content
    refused = paint_in_one_pass("fast", "photos", "--resume", "-o", "two", "--grid", "grid.png")
    assert refused.code == 2
    assert "--grid shows all paintings" in refused.err


def test_shards_paint_by_optimization_what_one_run_paints(folder: Path) -> None:
    sources = ["photos", "styles/wave.png", "-f", "jsonl"]
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


def test_one_style_by_its_name_or_a_file_of_that_name(folder: Path) -> None:
    for style in ("night", "styles/night.png"):
        done = paint_in_one_pass("fast", "photos/a.png", "--style", style, "-o", "x.png")
        assert done.code == 0, done.err
        kept = values("x.png")
    done = paint_in_one_pass("fast", "photos/a.png", "--style", "1", "-o", "x.png")
    one_line(done, "--style 1: unknown to fast.safetensors", "wave, night")
    assert torch.equal(values("x.png"), kept)
    one_line(paint_in_one_pass("adain", "photos"), "give --style IMAGE")
    one_line(paint_in_one_pass("fast", "photos", "--style-size", 64), "--style-size")


def test_any_style_and_its_strength(folder: Path) -> None:
    common = ("photos/a.png", "--style", "styles/wave.png")
    model = apply.load("adain.safetensors", "cpu", "fp32")
    for strength in (0.0, 0.5, 1.0):
        done = paint_in_one_pass("adain", *common, "--strength", strength, "-o", "x.png")
        assert done.code == 0, done.err
        with torch.inference_mode():
            photo, style = values("photos/a.png")[None], values("styles/wave.png")[None]
            expected = model.network(photo, style, strength)[0]
        assert (values("x.png") - expected).abs().max() < 0.005
    assert paint_in_one_pass("fast", "photos/a.png", "--style", "wave", "--strength", 0, "-o",
                             "x.png").code == 0  # fmt: skip
    assert torch.equal(values("x.png"), values("photos/a.png"))


def test_styles_between(folder: Path) -> None:
    common = ("photos/a.png", "--style", "wave", "--style", "night", "-o", "x.png")
    assert paint_in_one_pass("fast", *common, "--blend", "1,3").code == 0
    network = apply.load("fast.safetensors", "cpu", "fp32").network
    with torch.inference_mode():
        expected = network.paint(values("photos/a.png")[None], torch.tensor([[0.25, 0.75]]))[0]
    assert (values("x.png") - expected).abs().max() < 0.005


def test_batches_are_as_one_by_one(folder: Path) -> None:
    for number in range(7):
        shape = (64, 96) if number % 3 else (48, 40)
        images.save(infer.to_pillow(smooth(*shape, number)), Path(f"many/{number}.png"))
    for batch, workers, out in ((1, 0, "single"), (3, 2, "batched")):
        options = ("--style", "wave", "--batch-size", batch, "--workers", workers, "-o", out)
        done = paint_in_one_pass("fast", "many", *options, "-f", "jsonl")
        assert done.code == 0, done.err
        assert [record["path"] for record in records(done)] == [f"many/{n}.png" for n in range(7)]
    for number in range(7):
        one, other = (values(f"{out}/{number}-wave.png") for out in ("single", "batched"))
        assert (one - other).abs().max() < 0.005


def test_size_tiles_and_colors_in_one_pass(folder: Path) -> None:
    images.save(infer.to_pillow(smooth(200, 300, 5)), Path("large.png"))
    common = ("large.png", "--style", "wave")
    assert paint_in_one_pass("fast", *common, "--size", 60, "-o", "small.png").code == 0
    assert values("small.png").shape == (3, 40, 60)
    assert paint_in_one_pass("fast", *common, "-o", "whole.png").code == 0
    assert paint_in_one_pass("fast", *common, "--tile", 256, "-o", "tiled.png").code == 0
    assert (values("whole.png") - values("tiled.png")).abs().max() < 0.03
    with mock.patch.object(apply, "BATCH_PIXELS", 10_000), mock.patch.object(apply, "TILE", 256):
        assert paint_in_one_pass("fast", *common, "-o", "large-tiled.png").code == 0
    assert torch.equal(values("large-tiled.png"), values("tiled.png"))
    photo = values("large.png")
    for how in ("luminance", "histogram"):
        done = paint_in_one_pass("fast", *common, "--preserve-color", how, "-o", f"{how}.png")
        assert done.code == 0, done.err
    expected = color.keep_chroma(photo, values("whole.png"))
    assert (values("luminance.png") - expected).abs().max() < 0.02
    expected = color.match_colors(values("whole.png"), photo).clamp(0, 1)
    assert (values("histogram.png") - expected).abs().max() < 0.05


def test_a_file_that_is_no_painter(folder: Path) -> None:
    network = load_features("random:0", CPU)
    header = Header("style-transfer", "features", network.settings, [])
    checkpoint.save(Path("net.safetensors"), network.state_dict(), header)
    one_line(paint_in_one_pass("net", "photos"), "which does not paint", "--features")
    header = Header("style-transfer", "fast", {"styles": 1, "width": 8}, ["wave"])
    checkpoint.save(Path("odd.safetensors"), build("fast", width=4).state_dict(), header)
    one_line(
        paint_in_one_pass("odd", "photos"),
        "the architecture fast: down.0.conv.weight needs",
    )


# ---- evaluate ------------------------------------------------------------------------------------


def scores(result: Result) -> dict[tuple[str, str], float]:
    return {(r["label"], r["metric"]): r["value"] for r in json.loads(result.out)}


def by_hand(photo: str, style: str, painting: str, side: int) -> tuple[float, float]:
    """The distances with einsum and loops, at the size the tool says it measures at."""
    network, aim = load_features("random:0", CPU), Objective()

    def maps(path: str, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        pixels = values(path)
        size = size or infer.working_size(pixels.shape[2], pixels.shape[1], side)
        with torch.no_grad():
            return network(infer.resize(pixels, size)[None], network.layers)

    content, strokes, own = maps(photo), maps(style), maps(painting)
    contents = [
        weight * (own[name] - content[name]).square().mean()
        for name, weight in aim.content_layers.items()
    ]
    grams = []
    for name, weight in aim.style_layers.items():
        first, second = (
            torch.einsum("chw,dhw->cd", m[name][0], m[name][0]) / m[name][0, 0].numel()
            for m in (own, strokes)
        )
        grams.append(weight * (first - second).square().mean())
    return float(sum(contents)), float(sum(grams))


def test_distances_of_finished_paintings(folder: Path) -> None:
    assert paint("photos/a.png", "styles/wave.png", "-o", "x.png", "--steps", 5).code == 0
    result = run(
        *("style-transfer", "evaluate", "photos/a.png", "styles/wave.png", "--size", 64),
        *("--picture", "x.png", "--features", "random:0", "-f", "json"),
    )
    assert result.code == 0, result.err
    found = scores(result)
    content, style = by_hand("photos/a.png", "styles/wave.png", "x.png", 64)
    assert math.isclose(found["x.png", "content_distance"], content, rel_tol=1e-2)
    assert math.isclose(found["x.png", "style_distance"], style, rel_tol=1e-2)
    assert found["photo", "content_distance"] == 0
    assert found["photo", "style_distance"] > found["x.png", "style_distance"]
    definition = json.loads(result.out)[1]["definition"]
    assert "relu5_1" in definition
    assert "64 pixels" in definition


def test_methods_are_compared_with_a_sheet_and_a_table(folder: Path) -> None:
    common = ("style-transfer", "evaluate", "photos", "styles", "--size", 64)
    options = ("-m", "gatys", "-m", "fast.safetensors", "-m", "adain.safetensors", "--steps", 10)
    result = run(*common, *options, *QUICK, "--save", "scores", "-f", "json")
    assert result.code == 0, result.err
    found = scores(result)
    labels = ["photo", "gatys", "fast.safetensors", "adain.safetensors"]
    assert list(dict.fromkeys(label for label, _ in found)) == labels
    assert found["gatys", "style_distance"] < 0.5 * found["photo", "style_distance"]
    with Path("scores/distances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4
    own = [float(row["style_distance"]) for row in rows if row["method"] == "gatys"]
    assert math.isclose(sum(own) / 4, found["gatys", "style_distance"], abs_tol=1e-4)
    sheet = values("scores/sheet.jpg")
    assert sheet.shape[2] == 3 * 256
    assert len(list(Path("scores").glob("*/*"))) == 12


def test_feature_networks_are_compared(folder: Path) -> None:
    common = ("style-transfer", "evaluate", "photos/a.png", "styles/wave.png", "--size", 64)
    options = ("-m", "gatys:random:0", "-m", "gatys:random:1", "--steps", 10)
    result = run(*common, *options, "--features", "random:0", "--save", "scores", "-f", "json")
    assert result.code == 0, result.err
    found = scores(result)
    own, other = (found[f"gatys:random:{n}", "style_distance"] for n in (0, 1))
    # Measured in the first network, a painting made with it is nearer to the style.
    assert own < min(other, found["photo", "style_distance"])
    assert {path.parent.name for path in Path("scores").glob("*/*")} == {
        "gatys-random-0",
        "gatys-random-1",
    }


def test_a_painter_is_measured_on_the_styles_that_it_knows(folder: Path) -> None:
    images.save(infer.to_pillow(smooth(64, 64, 9)), Path("styles/other.png"))
    files = ["photos", "styles"]
    network = load_features("random:0", CPU)
    with mock.patch.object(evaluate.infer, "load", return_value=network):
        (content, style) = evaluate.evaluate_checkpoint(files, "", "fast.safetensors")
    assert (content.label, content.metric) == ("all", "content_distance")
    assert style.value is not None
    assert style.value > 0
    result = run("style-transfer", "evaluate", "photos", "styles/other.png", *QUICK, "-m",
                 "fast.safetensors")  # fmt: skip
    assert result.code == 2
    assert "supports none of these styles; choose from wave, night" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-m", "gatys", "-m", "gatys"], "a method is repeated"),
        (["-m", "a/x.safetensors", "-m", "b/x.safetensors"], "two methods share a name"),
        (["-m", "fast.safetensors", "--steps", "3"], "--steps is for gatys"),
        (["--picture", "photos/a.png", "-m", "gatys"], "--model is for painting"),
        (["--picture", "photos/a.png", "--style", "styles/night.png"], "one photograph and one"),
        (["-m", "no-such"], "unknown model 'no-such'"),
    ],
)
def test_what_cannot_be_evaluated(options: list[str], said: str, folder: Path) -> None:
    common = ("style-transfer", "evaluate", "photos/a.png", "styles/wave.png")
    one_line(run(*common, *options, "--features", "random:0"), said)
