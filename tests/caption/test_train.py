"""The training loop: fine-tuning, resuming, starting from a model."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from dlkit.caption.config import CaptionTrainConfig
from dlkit.caption.train import augment, train
from dlkit.caption.validation import validation_scores
from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import read_header
from tests.caption.helpers import configure, sentences, weights_of, write_csv


def test_the_encoder_is_frozen_then_learns_more_slowly(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    shares = []
    real = torch.optim.AdamW.step

    def step(optimizer: Any, *arguments: Any) -> Any:
        shares.append(sorted({group["lr"] for group in optimizer.param_groups}))
        return real(optimizer, *arguments)

    with mock.patch.object(torch.optim.AdamW, "step", step):
        train(configure(tmp_path / "a", photos, encoder, finetune_encoder_after=1, encoder_lr=0.5))
    assert all(low == pytest.approx(high / 2) for low, high in shares)
    before = backbones.load(str(encoder))[0].state_dict()
    train(configure(tmp_path / "b", photos, encoder))
    tuned, frozen = (
        weights_of(tmp_path / "a/last.safetensors"),
        weights_of(tmp_path / "b/last.safetensors"),
    )
    assert all(torch.equal(frozen[f"encoder.{name}"], t) for name, t in before.items())
    kernel = next(name for name, tensor in before.items() if tensor.dim() == 4)
    assert not torch.equal(tuned[f"encoder.{kernel}"], before[kernel])
    means = [name for name in before if name.endswith("running_mean")]
    assert all(torch.equal(tuned[f"encoder.{name}"], before[name]) for name in means)


class Stop(Exception):
    """Ends a run in its middle."""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2], ids=lambda after: f"tuned-from-{after}")
def test_a_resumed_run_is_the_uninterrupted_one(
    photos: Path, encoder: Path, tmp_path: Path, after: int
) -> None:
    """Interrupted in the second epoch, with the encoder already learning, or not yet."""
    changed: dict[str, Any] = {"hard_attention": True, "epochs": 3, "dropout": 0.3, "ema": 0.9,
                               "finetune_encoder_after": after}  # fmt: skip
    whole = train(configure(tmp_path / "whole", photos, encoder, **changed))
    calls = 0

    def scores(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Stop
        return validation_scores(*arguments)

    target = "dlkit.caption.train.validation_scores"
    with mock.patch(target, scores), pytest.raises(Stop):
        train(configure(tmp_path / "parts", photos, encoder, **changed))
    parts = train(configure(tmp_path / "parts", photos, encoder, **changed, resume=True))
    for name in ("best.safetensors", "last.safetensors"):
        both = [weights_of(path.with_name(name)) for path in (whole, parts)]
        assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())


def test_training_starts_from_a_model_with_its_vocabulary(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    first = train(configure(tmp_path / "first", photos, encoder, arch="nic", vocab_size=10))
    start = CaptionTrainConfig(
        data=photos, out=tmp_path / "second", init_from=str(first), epochs=1, lr=0.0, workers=0,
        dropout=0.0, device="cpu", precision="fp32",
    )  # fmt: skip
    second = train(start)
    headers = [read_header(path) for path in (first, second)]
    assert headers[0].settings == headers[1].settings
    both = [weights_of(path) for path in (first, second)]
    assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())
    with pytest.raises(DlkitError, match="--width comes from the model"):
        train(replace(start, width=32))
    with pytest.raises(DlkitError, match="has --arch nic; do not give --arch transformer"):
        train(replace(start, arch="transformer"))


def test_unreadable_images_are_skipped_and_listed(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    rows = [[str(photos / "Images" / f"{n}.png"), sentences(n)[0]] for n in range(8)]
    rows.append([str(tmp_path / "bad.png"), "a red sky"])
    write_csv(tmp_path / "all.csv", ["path", "caption", "split"], [[*row, "train"] for row in rows])
    for after in (None, 0):
        out = tmp_path / f"run-{after}"
        train(
            configure(
                out,
                tmp_path / "all.csv",
                encoder,
                epochs=1,
                val_share=0.3,
                allow_skipped=0.4,
                finetune_encoder_after=after,
            )  # fmt: skip
        )
        lines = (out / "skipped.csv").read_text().splitlines()
        assert lines[1].startswith(f'val,images,unreadable image,"{tmp_path / "bad.png"} (')
        assert lines[2] == f"val,captions,caption of an unreadable image,{tmp_path / 'bad.png'}"


def test_zoom_and_recolor_change_images_within_their_limits() -> None:
    config = CaptionTrainConfig(data=Path(), zoom=1.5, finetune_encoder_after=0)
    flat = torch.full((4, 3, 16, 16), 100.0)
    left = torch.zeros(4, 3, 16, 16)
    left[..., :8] = 200.0
    torch.manual_seed(0)
    torch.testing.assert_close(augment(flat, config), flat)  # any part of it is alike
    zoomed = augment(left, config)
    assert not torch.allclose(zoomed, left)
    torch.testing.assert_close(zoomed.mean((1, 2, 3)), left.mean((1, 2, 3)), rtol=0.05, atol=0)
    jitter_color = augment(flat, replace(config, zoom=1.0, color_jitter=0.2))
    assert jitter_color.std() > 1
    assert ((jitter_color >= 64) & (jitter_color <= 144)).all()
    plain = replace(config, zoom=1.0)
    assert torch.equal(augment(left, plain), left)
