"""Options of `dlkit caption train` that have no effect."""

from pathlib import Path
from typing import Any

import pytest

from dlkit.caption.config import CaptionTrainConfig
from dlkit.caption.train import train
from dlkit.core.errors import DlkitError


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": 2}, "--layers is for nic, transformer, not attend"),
        ({"arch": "nic", "hard_attention": True}, "--hard-attention is for attend, not nic"),
        ({"arch": "transformer", "patch": 8, "grid": 4}, "--grid: no encoder is used with --patch"),
        ({"encoder_lr": 0.5}, "--encoder-lr: the encoder is frozen; give --finetune-encoder-after"),
        ({"zoom": 1.3}, "--zoom: the encoder is frozen; give --finetune-encoder-after"),
        ({"tokenizer": "byte", "vocab_size": 100}, "--vocab-size: bytes always have 256 tokens"),
        (
            {"tokenizer": "english-8k", "vocab_size": 100},
            "--vocab-size: the tokenizer english-8k is not learned",
        ),
        ({"val_limit": 0}, "--best-metric cider-d: needs .* give a --val-limit"),
        (
            {"features": Path("f"), "finetune_encoder_after": 0},
            "--features: needs a frozen encoder",
        ),
    ],
)
def test_an_option_without_effect_is_refused(
    photos: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(DlkitError, match=message):
        train(CaptionTrainConfig(data=photos, out=tmp_path / "run", **changed))
    assert not (tmp_path / "run").exists()
