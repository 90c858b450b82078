"""Painting in one pass."""

from pathlib import Path
from unittest import mock

import torch

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.style_transfer import apply, color, infer
from dlkit.style_transfer.model import build
from dlkit.style_transfer.models.features import load_features
from tests.conftest import one_line, records
from tests.style_transfer.helpers import CPU, paint_in_one_pass, smooth, values


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


def test_one_style_by_its_name_or_a_file_of_that_name(folder: Path) -> None:
    for style in ("night", "styles/night.png"):
        done = paint_in_one_pass("fast", "photos/a.png", "--style", style, "-o", "x.png", "--force")
        assert done.code == 0, done.err
        kept = values("x.png")
    done = paint_in_one_pass("fast", "photos/a.png", "--style", "1", "-o", "y.png")
    one_line(done, "--style 1: unknown to fast.safetensors", "wave, night")
    assert torch.equal(values("x.png"), kept)
    one_line(paint_in_one_pass("adain", "photos"), "give --style IMAGE")
    one_line(paint_in_one_pass("fast", "photos", "--style-size", 64), "--style-size")


def test_any_style_and_its_strength(folder: Path) -> None:
    common = ("photos/a.png", "--style", "styles/wave.png")
    model = apply.load("adain.safetensors", "cpu", "fp32")
    for strength in (0.0, 0.5, 1.0):
        done = paint_in_one_pass("adain", *common, "--strength", strength, "-o", "x.png",
                                 "--force")  # fmt: skip
        assert done.code == 0, done.err
        with torch.inference_mode():
            photo, style = values("photos/a.png")[None], values("styles/wave.png")[None]
            expected = model.network(photo, style, strength)[0]
        assert (values("x.png") - expected).abs().max() < 0.005
    assert paint_in_one_pass("fast", "photos/a.png", "--style", "wave", "--strength", 0, "-o",
                             "x.png", "--force").code == 0  # fmt: skip
    assert torch.equal(values("x.png"), values("photos/a.png"))


def test_paintings_that_exist_are_kept_unless_forced(folder: Path) -> None:
    """One that exists is noticed before any is made."""
    Path("out").mkdir()
    Path("out/b-wave.jpg").write_text("mine")
    command = ("fast", "photos", "--style", "wave", "-o", "out")
    one_line(paint_in_one_pass(*command), "out/b-wave.jpg: exists already; add --force")
    assert [path.name for path in Path("out").iterdir()] == ["b-wave.jpg"]
    done = paint_in_one_pass(*command, "--force", "--grid", "grid.png")
    assert done.code == 0
    number = len(list(Path("out").iterdir()))
    assert done.saved == (f"{number} files in out", "grid.png")
    again = ("fast", "photos", "--style", "night", "-o", "other", "--grid", "grid.png")
    one_line(paint_in_one_pass(*again), "grid.png: exists already")
    assert not Path("other").exists()


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
