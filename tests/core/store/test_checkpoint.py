"""A model file builds itself, keeps its weights, and a damaged one is refused in one line."""

import json
from pathlib import Path

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header

HEADER = Header("detect", "yolo", {"num_labels": 2}, ["cat", "Hündin"], metrics={"ap": 0.5})


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "kernel": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "bias": torch.randn(4) * 1e-6,
        "count": torch.tensor(7),
    }


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "model.safetensors"
    checkpoint.save(path, weights(), HEADER)
    header, loaded = checkpoint.load(path, "detect")
    assert header == HEADER
    assert checkpoint.read_header(path) == HEADER
    for name, tensor in weights().items():
        assert torch.equal(loaded[name], tensor)
    assert path.stat().st_mode & 0o044  # others may read it, too
    assert list(path.parent.iterdir()) == [path]


def test_half_precision_keeps_vectors_exact(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(), HEADER, bits=16)
    _, loaded = checkpoint.load(path)
    assert loaded["kernel"].dtype == torch.float32
    assert torch.equal(loaded["kernel"], weights()["kernel"].half().float())
    assert torch.equal(loaded["bias"], weights()["bias"])
    assert torch.equal(loaded["count"], weights()["count"])


def test_eight_bits_are_off_by_half_a_step_of_their_row_at_most(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    before = {**weights(), "matrix": torch.tensor([[254.0, -1.2, 0.9], [0.0, 0.0, 0.0]])}
    checkpoint.save(path, before, HEADER, bits=8)
    header, loaded = checkpoint.load(path)
    assert (header, loaded.keys()) == (HEADER, before.keys())
    assert loaded["matrix"].tolist() == [[254.0, -2.0, 0.0], [0.0, 0.0, 0.0]]  # steps of 2
    off = (loaded["kernel"] - before["kernel"]).abs().flatten(1).amax(1)
    largest = before["kernel"].abs().flatten(1).amax(1)
    assert (off <= largest / 254 * 1.001).all()
    assert (off > 0).all()
    for name in ("bias", "count"):
        assert torch.equal(loaded[name], before[name])


def test_another_library_reads_the_file(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(), HEADER)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["dlkit"])["labels"] == ["cat", "Hündin"]
        assert torch.equal(file.get_tensor("kernel"), weights()["kernel"])


def test_a_model_of_another_task_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(), HEADER)
    with pytest.raises(DlkitError, match="model for `dlkit detect`, not for `dlkit segment`"):
        checkpoint.load(path, "segment")


@pytest.mark.parametrize(
    "damage", ["cut", "longer", "flipped", "text", "empty", "header", "foreign"]
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(), HEADER)
    content = bytearray(path.read_bytes())
    if damage == "foreign":
        import safetensors.torch

        content = bytearray(safetensors.torch.save({"x": torch.zeros(3)}))
    elif damage == "flipped":
        content[-3] ^= 1
    else:
        content = {
            "cut": content[:-10],
            "longer": content + b"x",
            "text": bytearray(b"no model at all, only words " * 10),
            "empty": bytearray(),
            "header": content[:8] + b"!" + content[9:],
        }[damage]
    path.write_bytes(content)
    with pytest.raises(DlkitError, match="model.safetensors") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, weights(), HEADER)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(DlkitError, match="No space left"):
        checkpoint.save(path, {"kernel": torch.zeros(2)}, HEADER)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
