"""The file of a frozen encoder's features."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from dlkit.caption import features
from dlkit.caption.model import build
from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from tests.caption.helpers import SINGLE_PROCESS, SMALL, classifier


def captioner(encoder: Path, image_size: int = SMALL) -> Any:
    trained, backbone = backbones.load(str(encoder))
    network = build(
        "nic", vocab_size=9, pad=0, bos=1, eos=2, unk=3, image_size=image_size, backbone=backbone,
        grid=2,
    )  # fmt: skip
    assert network.encoder is not None
    network.encoder.load_state_dict(trained.state_dict())
    return network.eval()


def test_features_are_the_encoders_maps_also_mirrored(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    network = captioner(encoder)
    paths = [str(photos / "Images" / f"{n}.png") for n in range(3)]
    file = tmp_path / "features.safetensors"
    kept = features.load_features(file, network, "mine", paths, SINGLE_PROCESS, 0)
    pixels = torch.stack([network.preprocessing.read(path) for path in reversed(paths)])
    with torch.inference_mode():
        images = network.preprocessing.normalize(pixels)
        expected = network.encode(torch.stack([images[0], images[1].flip(-1), images[2]]))
    found = kept.memories(paths[::-1], np.array([False, True, False]))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    # A second time it is read; with more images it is made again.
    with mock.patch("dlkit.caption.features.write_features") as write:
        again = features.load_features(file, network, "mine", paths[:2], SINGLE_PROCESS, 0)
    assert not write.called
    assert torch.equal(again.memories(paths[:2]), kept.memories(paths[:2]))
    more = [*paths, str(photos / "Images" / "3.png")]
    assert set(features.load_features(file, network, "mine", more, SINGLE_PROCESS, 0).rows) == set(
        more
    )


def test_features_of_another_encoder_are_refused_by_name(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    paths = [str(photos / "Images" / "0.png")]
    file = tmp_path / "features.safetensors"
    features.load_features(file, captioner(encoder), "mine", paths, SINGLE_PROCESS, 0)
    other = captioner(classifier(tmp_path / "other.safetensors", seed=1))
    with pytest.raises(DlkitError, match=r"made by the encoder mine \w{8} .* not by other \w{8}"):
        features.load_features(file, other, "other", paths, SINGLE_PROCESS, 0)
    with pytest.raises(
        DlkitError, match=r"\(32 pixels, squash, 2 x 2 locations\), not by .*64 pix"
    ):
        features.load_features(file, captioner(encoder, 64), "mine", paths, SINGLE_PROCESS, 0)
    header = Header("caption", "nic", {}, [])
    checkpoint.save(file, {"x": torch.zeros(1)}, header)
    with pytest.raises(DlkitError, match="a captioner, not a file of features"):
        features.load_features(file, captioner(encoder), "mine", paths, SINGLE_PROCESS, 0)


def test_unreadable_images_are_remembered_too(photos: Path, encoder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    paths = [str(bad), str(photos / "Images" / "0.png")]
    for _ in range(2):
        kept = features.load_features(
            tmp_path / "f.safetensors", captioner(encoder), "mine", paths, SINGLE_PROCESS, 0
        )
        assert set(kept.rows) == {paths[1]}
        assert list(kept.unreadable) == [str(bad)]
    assert "not an image" in kept.unreadable[str(bad)]
    with pytest.raises(DlkitError, match="none of the 1 images can be read"):
        features.load_features(
            tmp_path / "g", captioner(encoder), "mine", paths[:1], SINGLE_PROCESS, 0
        )
