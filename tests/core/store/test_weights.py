"""What `--model` means: name, file, URL. Downloads come from a server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import detection

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint, torchvision, weights
from dlkit.core.store.checkpoint import Header
from dlkit.detect.config import PUBLISHED
from dlkit.detect.infer import load
from dlkit.detect.options import Suppression


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder in silence; `short` files break off in the middle."""

    requests: list[str] = []

    def log_message(self, format: str, *args: object) -> None:
        self.requests.append(self.path)

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "short" in self.path else content)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server for the folder `tmp_path / "served"`."""
    folder = tmp_path / "served"
    folder.mkdir()
    Handler.requests.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_url_is_downloaded_once_and_verified(
    server: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = b"weights" * 100_000
    (tmp_path / "served" / "m.safetensors").write_bytes(content)
    address = f"{server}/m.safetensors#sha256={hashlib.sha256(content).hexdigest()}"
    assert not cache.exists()
    assert weights.find("detect", address).read_bytes() == content
    assert "downloading" in capsys.readouterr().err
    assert weights.find("detect", address).read_bytes() == content
    assert len(Handler.requests) == 1


def test_a_wrong_checksum_keeps_nothing(server: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "served" / "m.safetensors").write_bytes(b"something else")
    with pytest.raises(DlkitError, match="sha256"):
        weights.find("detect", f"{server}/m.safetensors#sha256={'0' * 64}")
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("{server}/none.safetensors", "404"),
        ("{server}/short.safetensors", "ended after|IncompleteRead"),
        ("http://127.0.0.1:9/m.safetensors", "cannot be reached"),
        ("ftp://127.0.0.1/m.safetensors", "only http"),
    ],
)
def test_a_failed_download_is_one_line_and_keeps_nothing(
    server: str, tmp_path: Path, cache: Path, address: str, says: str
) -> None:
    (tmp_path / "served" / "short.safetensors").write_bytes(b"x" * 1_000_000)
    with pytest.raises(DlkitError, match=says):
        weights.find("detect", address.format(server=server))
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_name_is_never_taken_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="no such model file"):
        weights.find("detect", str(tmp_path / "animals.safetensors"))
    with pytest.raises(DlkitError, match="unknown model 'animal' for detect; did you mean animals"):
        weights.find("detect", "animal")


def test_an_unknown_model_lists_all_models_or_the_tasks_that_have_it() -> None:
    with pytest.raises(DlkitError, match="'nosuch' for detect; it has animals, cells; or give"):
        weights.find("detect", "nosuch")
    with pytest.raises(
        DlkitError, match="cifar10 is a model of classify and gan-sample; detect has animals"
    ):
        weights.find("detect", "cifar10")
    for name in ("x" * 5000, "x" * 5000 + ".safetensors", "a\0b"):  # no path of this system
        with pytest.raises(DlkitError, match=r"unknown model|no such model file"):
            weights.find("detect", name)


THEIRS = {
    "fasterrcnn-mobilenet-coco": (detection.fasterrcnn_mobilenet_v3_large_fpn, 0.5),
    "retinanet-coco": (detection.retinanet_resnet50_fpn, 0.5),
    "fcos-coco": (detection.fcos_resnet50_fpn, 0.6),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_torchvisions_published_detectors_load_by_name(
    name: str, server: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    make, iou = THEIRS[name]
    theirs: Any = make(
        weights=None, weights_backbone=None, num_classes=91, min_size=128, max_size=128
    ).eval()
    build_one_stage = not hasattr(theirs, "roi_heads")
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
            nn.init.uniform_(norm.get_buffer("running_mean"), -0.1, 0.1)
    if build_one_stage:
        logits = theirs.head.classification_head.cls_logits
        nn.init.normal_(logits.weight, std=0.1)
        with torch.no_grad():
            logits.bias.view(-1, 91)[:, 0] = -50.0  # the background's, which is never said
    # Frozen norms, as in the published file, count no batches; those of RetinaNet have no epsilon.
    state = {k: v.clone() for k, v in theirs.state_dict().items() if "num_batches" not in k}
    if name == "retinanet-coco":
        for key, value in state.items():
            if key.endswith("running_var"):
                value += torchvision.NORM_EPS
    torch.save(state, tmp_path / "served" / "model.pth")
    monkeypatch.setitem(PUBLISHED, name, f"{server}/model.pth")

    detector = load(name, "cpu", "fp32")
    assert detector.labels[0] == "person"
    assert len(detector.labels) == len(set(detector.labels)) == 90
    image = torch.randint(0, 255, (1, 3, 128, 128), dtype=torch.uint8)
    (ours,) = detector.network.predict(image, 0.0, Suppression(iou=iou), 10)
    box_selector = theirs if build_one_stage else theirs.roi_heads
    box_selector.score_thresh, box_selector.detections_per_img = 0.0, 10
    with torch.inference_mode():
        (expected,) = theirs([image[0] / 255])
    assert torch.allclose(ours.scores, expected["scores"], atol=1e-4)
    assert torch.allclose(ours.boxes, expected["boxes"], atol=0.5)
    assert torch.equal(ours.labels + 1, expected["labels"])

    load(name, "cpu", "fp32")
    assert len(Handler.requests) == 1, "the second time it comes from the cache"
    assert [path.name for path in weights.cached("detect")] == [f"{name}.safetensors"]


def test_frozen_norms_without_epsilon_give_the_same_numbers() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4).eval()
    nn.init.uniform_(norm.get_buffer("running_var"), 0.1, 2)
    norm.eps = 0.0
    x = torch.randn(2, 4, 3, 3)
    converted = torchvision.weights_of(norm.state_dict(), frozen_eps=True)
    ours = nn.BatchNorm2d(4, eps=torchvision.NORM_EPS).eval()
    ours.load_state_dict({k.removeprefix("network."): v for k, v in converted.items()})
    assert torch.allclose(norm(x), ours(x), atol=1e-6)


def test_bundled_models_hold_a_model_card() -> None:
    for path in weights.bundled("detect"):
        header: Header
        header, _ = checkpoint.load(path, "detect")
        assert path.stat().st_size <= 8_000_000
        assert {"data", "terms", "score", "command", "measure"} <= header.card.keys()
        assert "seed" in header.config
