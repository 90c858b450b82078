"""Trainings that must reach a score, and captions learned by heart."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlkit.caption.train import train
from dlkit.core.store.checkpoint import read_header
from tests.caption.helpers import LEARNERS, configure, pictures, sentences, write_csv
from tests.conftest import run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "changed"),
    [
        ("nic", {}),
        ("attend", {"penalty": 0.1}),
        ("attend", {"hard_attention": True}),
        ("transformer", {"layers": 1, "encoder_layers": 1}),
        ("transformer", {"patch": 16, "image_size": 32, "layers": 1, "encoder_layers": 1}),
    ],
)
def test_every_architecture_learns(
    photos: Path, encoder: Path, tmp_path: Path, arch: str, changed: dict[str, Any]
) -> None:
    """Six pictures with a caption each, which are also those to validate on."""
    rows = [[str(photos / "Images" / f"{n}.png"), sentences(n)[0]] for n in range(6)]
    for split in ("train", "val"):
        write_csv(tmp_path / f"{split}.csv", ["path", "caption"], rows)
    config = configure(
        tmp_path / "run", tmp_path, encoder, arch=arch, epochs=20, batch_size=2, lr=0.01,
        label_smoothing=0.0, flip=0.0,
    )  # fmt: skip
    if "patch" in changed:
        config = replace(config, backbone="caltech101", grid=7)  # the defaults: it has none
    best = train(replace(config, **changed))
    header = read_header(best, "caption")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    assert log[-1]["val_loss"] < 0.6 * log[0]["val_loss"]
    assert max(entry["bleu_1"] for entry in log) > 0.7
    assert header.metrics["cider_d"] == max(entry["cider_d"] for entry in log)
    assert (header.arch, header.settings["longest"]) == (arch, 7)
    samples = (tmp_path / "run" / "samples.txt").read_text()
    assert samples.count("\n> ") == 3 * len(log)


@pytest.mark.parametrize("arch", LEARNERS)
def test_learned_captions_are_generated_word_for_word(
    arch: str, shapes: Path, learned: Callable[[str], Path]
) -> None:
    done = run("caption", shapes / "Images", "-m", learned(arch), "--device", "cpu")
    assert done.code == 0, done.err
    paths = sorted(shapes.glob("Images/*.png"))
    expected = [f"{path}\t{pictures()[int(path.stem)][1]}" for path in paths]
    assert done.out.splitlines() == expected
