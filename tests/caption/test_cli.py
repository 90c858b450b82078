"""The command line of `dlkit caption`."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.caption.infer import ImageCaptions
from tests.caption.helpers import SIDE, pictures
from tests.conftest import run


def test_formats_hold_the_same_captions(shapes: Path, learned: Callable[[str], Path]) -> None:
    image = shapes / "Images" / "3.png"
    command = ("caption", image, "-m", learned("patches"), "-n", 2, "--device", "cpu")
    text = run(*command, "--scores")
    assert text.code == 0, text.err
    rows = [line.split("\t") for line in text.out.splitlines()]
    assert [path for path, _, _ in rows] == 2 * [str(image)]
    assert rows[0][1] == pictures()[3][1]
    (record,) = json.loads(run(*command, "-f", "json").out)
    assert (record["width"], record["height"]) == (SIDE, SIDE)
    assert [f"{s['score']}" for s in record["captions"]] == [score for _, _, score in rows]
    assert json.loads(run(*command, "-f", "jsonl").out) == record
    table = list(csv.DictReader(io.StringIO(run(*command, "-f", "csv").out)))
    assert list(table[0]) == ImageCaptions.columns
    assert [row["caption"] for row in table] == [sentence for _, sentence, _ in rows]
    data = json.loads(run(*command, "-f", "coco").out)
    assert data["images"] == [{"id": 1, "file_name": str(image), "width": SIDE, "height": SIDE}]
    assert [(a["id"], a["image_id"], a["caption"]) for a in data["annotations"]] == [
        (rank, 1, sentence) for rank, (_, sentence, _) in enumerate(rows, start=1)
    ]


def test_bad_images_do_not_stop_the_others(
    shapes: Path, tmp_path: Path, learned: Callable[[str], Path]
) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no image")
    good = shapes / "Images" / "1.png"
    command = ("caption", damaged, good, tmp_path / "none.png", "-m", learned("patches"))
    done = run(*command, "--device", "cpu")
    assert done.code == 1
    assert done.out == f"{good}\t{pictures()[1][1]}\n"
    assert len(done.err.splitlines()) == 3
    records = [json.loads(line) for line in run(*command, "-f", "jsonl").out.splitlines()]
    assert ["error" in record for record in records] == [True, False, True]


def test_annotated_pictures_have_their_captions_below(
    shapes: Path, tmp_path: Path, learned: Callable[[str], Path]
) -> None:
    image, out = shapes / "Images" / "2.png", tmp_path / "out"
    command = ("caption", image, "-m", learned("patches"), "--annotate", out, "--device", "cpu")
    done = run(*command)
    assert done.code == 0, done.err
    drawn = np.array(Image.open(out / "2.png").convert("RGB"))
    left = (drawn.shape[1] - SIDE) // 2
    shown = drawn[:SIDE, left : left + SIDE]
    assert np.array_equal(shown, np.array(pictures()[2][0]))
    assert drawn.shape[0] > SIDE
    assert (drawn[SIDE:] < 128).any()
    refused = run("caption", image, "-m", learned("patches"), "--annotate", image.parent)
    assert refused.code == 2
    assert "choose another" in refused.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "--beam", "2"], "--beam: has no effect with --sample"),
        (["--sample", "--length-penalty", "1"], "--length-penalty: has no effect with --sample"),
        (["--sample", "--no-repeat", "2"], "--no-repeat: has no effect with --sample"),
        (["--temperature", "2"], "--temperature: has no effect without --sample"),
        (["--seed", "1"], "--seed: has no effect without --sample"),
        (["--sample", "--top-p", "0"], "--top-p 0 is not above 0"),
        (["--scores", "-f", "json"], "--scores: -f json always has the scores"),
        (["-n", "3", "--beam", "2"], "--captions 3: more than --beam 2; give --beam 3"),
        (["-o", "out.png"], "-o out.png: an image's name"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], message: str) -> None:
    done = run("caption", "photo.jpg", *options)
    assert done.code == 2
    assert message in done.err
    assert not done.out


@pytest.mark.slow
def test_the_attention_command_draws_a_panel_for_each_word(
    shapes: Path, tmp_path: Path, learned: Callable[[str], Path]
) -> None:
    image, saved = shapes / "Images" / "5.png", tmp_path / "panels.png"
    done = run("caption", "attention", image, "-m", learned("attend"), "--save", saved)
    assert done.code == 0, done.err
    assert [line.split("\t")[0] for line in done.out.splitlines()] == pictures()[5][1].split()
    with Image.open(saved) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors() or []) > 20
    records = json.loads(
        run("caption", "attention", image, "-m", learned("attend"), "-f", "json").out
    )
    assert len(records[0]["weights"]) == len(records[0]["words"])


@pytest.mark.slow
def test_models_without_attention_are_refused(shapes: Path, learned: Callable[[str], Path]) -> None:
    done = run("caption", "attention", shapes / "Images" / "0.png", "-m", learned("nic"))
    assert done.code == 2
    assert "a model without attention" in done.err
    assert len(done.err.splitlines()) == 1
    missing = run("caption", "attention", shapes / "none.png", "-m", learned("attend"))
    assert missing.code == 2
    assert "none.png: no such file" in missing.err
