"""WebDataset's tar files as inputs: where their members lie, and what is used and trained on."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.caption import layouts as caption_layouts
from dlkit.classify import layouts as classify_layouts
from dlkit.core.errors import DlkitError
from dlkit.core.io import image_files, tars
from dlkit.core.vision import images
from tests.conftest import run, save_stub


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def write_tar(path: Path, parts: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in parts.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tar files of three images each, with other parts between, one in a folder within."""
    monkeypatch.chdir(tmp_path)
    for shard in range(2):
        parts: dict[str, bytes] = {}
        for number in range(3):
            key = f"sub/{shard}{number}" if number == 1 else f"{shard}{number}"
            parts |= {f"{key}.json": b"{}", f"{key}.png": png(10 * shard + number)}
            parts[f"{key}.cls"] = str(number % 2).encode()
            parts[f"{key}.txt"] = f"picture {number}\n  again {number} \n".encode()
        write_tar(tmp_path / f"s-{shard:03}.tar", parts)
    return tmp_path


MEMBERS = ["s-000.tar/00.png", "s-000.tar/sub/01.png", "s-000.tar/02.png",
           "s-001.tar/10.png", "s-001.tar/sub/11.png", "s-001.tar/12.png"]  # fmt: skip


@pytest.mark.parametrize(
    "sources",
    [["s-000.tar", "s-001.tar"], ["s-{000..001}.tar"], ["s-*.tar"], ["s-{000,001}.tar"], MEMBERS],
)
def test_a_tar_file_stands_for_its_images(shards: Path, sources: list[str]) -> None:
    found = list(image_files.files(sources))
    assert found == MEMBERS
    expected = [np.array(Image.open(io.BytesIO(png(s)))) for s in (0, 1, 2, 10, 11, 12)]
    for path, pixels in zip(found, expected, strict=True):
        assert np.array_equal(images.read(path).pixels.permute(1, 2, 0).numpy(), pixels)
        assert images.size(Path(path)) == (8, 8)


def test_a_folder_may_be_called_like_a_tar_file(tmp_path: Path) -> None:
    folder = tmp_path / "old.tar"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(0))
    assert list(image_files.files([str(folder)])) == [str(folder / "a.png")]
    assert images.read(str(folder / "a.png")).width == 8
    tar = write_tar(folder / "in.tar", {"b.png": png(1)})
    assert list(image_files.files([str(tar)])) == [f"{tar}/b.png"]
    assert images.read(f"{tar}/b.png").width == 8


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a-{8..11}", ["a-8", "a-9", "a-10", "a-11"]),
        ("{08..10}-{x,y}", ["08-x", "08-y", "09-x", "09-y", "10-x", "10-y"]),
        ("plain{}", ["plain{}"]),
        ("{a}", ["{a}"]),
    ],
)
def test_braces_are_expanded_as_by_a_shell(pattern: str, expected: list[str]) -> None:
    assert list(tars.expand_braces(pattern)) == expected


def test_only_a_few_tables_of_contents_are_kept(shards: Path) -> None:
    contents = tars.Contents(most=1)
    first, second = (str(shards / f"s-{n:03}.tar") for n in range(2))
    assert "00.png" in contents.table(first)
    assert "10.png" in contents.table(second)
    assert list(contents.tables) == [second]


def test_images_in_tar_files_are_dealt_out_merged_and_named(shards: Path) -> None:
    command = ["classify", "-", "-m", save_stub(shards / "stub.safetensors"), "--device", "cpu"]
    listed = "s-000.tar\ns-001.tar\n"
    one = run(*command, "-f", "jsonl", stdin=listed)
    assert (one.code, one.err) == (0, "")
    assert [json.loads(line)["path"] for line in one.out.splitlines()] == MEMBERS
    for index in range(4):
        shard = ["-o", "out.jsonl", "--shard", f"{index}/4"]
        assert run(*command, *shard, stdin=listed).code == 0
    merged = run("merge", *sorted(shards.glob("out.*")))
    assert merged.out == one.out, merged.err


def test_what_is_wrong_with_a_tar_file_is_said_in_its_place(shards: Path) -> None:
    whole = (shards / "s-000.tar").read_bytes()
    Path("cut.tar").write_bytes(whole[:600])
    Path("text.tar").write_text("no tar file" * 100)
    write_tar(Path("empty.tar"), {"a.txt": b"words"})
    command = ["classify", "-m", save_stub(shards / "stub.safetensors"), "--device", "cpu"]
    inputs = ["s-000.tar/none.png", "cut.tar", "text.tar", "empty.tar", "no.tar", "s-001.tar"]
    result = run(*command, *inputs, "-f", "jsonl")
    assert result.code == 1
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["path"] for record in records] == [*inputs[:5], *MEMBERS[3:]]
    said = [record.get("error", "") for record in records[:5]]
    assert said[0] == "no such file in s-000.tar"
    assert said[1].startswith("a damaged tar file")
    assert said[2].startswith("a damaged tar file")
    assert said[3:] == ["a tar file without images", "no such file"]


def test_labels_and_captions_come_from_the_same_sample(shards: Path) -> None:
    labeled = classify_layouts.read_split(shards, "all")
    assert [(str(s.path.relative_to(shards)), s.labels) for s in labeled.samples] == [
        (path, (number % 2,)) for path, number in zip(MEMBERS, [0, 1, 2] * 2, strict=True)
    ]
    assert labeled.labels == ["0", "1"]
    Path("classes.txt").write_text("cat\ndog\n")
    assert classify_layouts.read_split(shards, "all").labels == ["cat", "dog"]
    captioned = caption_layouts.read_split(shards, "all")
    assert [str(sample.path.relative_to(shards)) for sample in captioned.samples] == MEMBERS
    assert captioned.samples[1].captions == ["picture 1", "again 1"]


def test_splits_are_in_the_names_and_what_is_incomplete_is_skipped(tmp_path: Path) -> None:
    parts = {"1.png": png(1), "1.cls": b"x", "2.cls": b"y", "3.png": png(3), "4.PNG": png(4),
             "4.cls": b" y\n"}  # fmt: skip
    hidden = {"._1.png": b"x", "__MACOSX/._1.cls": b"x"}
    write_tar(tmp_path / "train-00.tar", {**parts, **hidden})
    write_tar(tmp_path / "training" / "7.tar", {"5.jpg": png(5), "5.cls": b"x"})
    write_tar(tmp_path / "val-00.tar", {"6.png": png(6), "6.cls": b"y"})
    found = classify_layouts.read_split(tmp_path, "train")
    assert [s.path.name for s in found.samples] == ["1.png", "4.PNG", "5.jpg"]
    assert [s.labels for s in found.samples] == [(0,), (1,), (0,)]
    assert found.ledger.places["images"] == {
        "sample without an image": [f"{tmp_path}/train-00.tar/2"],
        "image without a label": [f"{tmp_path}/train-00.tar/3.png"],
    }
    assert len(classify_layouts.read_split(tmp_path, "val").samples) == 1
    write_tar(tmp_path / "none" / "a.tar", {"a.txt": b"words"})
    found = classify_layouts.read_split(tmp_path / "none", "all")
    assert found.ledger.places["images"] == {
        "sample without an image": [f"{tmp_path}/none/a.tar/a"]
    }
    write_tar(tmp_path / "more.tar", parts)
    with pytest.raises(DlkitError, match="more.tar names no split, but train-00.tar does"):
        classify_layouts.read_split(tmp_path, "train")


def test_training_reads_tar_files(tmp_path: Path) -> None:
    """Dark images are of one class, bright ones of the other."""
    parts: dict[str, bytes] = {}
    for number in range(24):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (200 * (number % 2) + number,) * 3).save(file, "png")
        parts |= {f"{number}.png": file.getvalue(), f"{number}.cls": f"{number % 2}".encode()}
    write_tar(tmp_path / "data" / "train.tar", parts)
    write_tar(tmp_path / "data" / "test.tar", parts)
    options = "--arch linear --epochs 20 --batch-size 8 --lr 0.1 --workers 0 --device cpu"
    options += " --precision fp32"
    done = run("classify", "train", tmp_path / "data", "--out", tmp_path / "run", *options.split())
    assert done.code == 0, done.err
    model = done.out.strip()
    scores = run("classify", "evaluate", tmp_path / "data", "-m", model, "-f", "json")
    values = {s["metric"]: s["value"] for s in json.loads(scores.out)}
    assert values["top1"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ((124, 136), b"77777777777\0"),  # a size of 8 GB
        ((124, 136), b"\x80\0\0\0" + (1 << 62).to_bytes(8, "big")),
        ((124, 136), b"\xff" * 12),  # a negative size
        ((156, 157), b"S"),  # sparse
        ((0, 8), b"\x1b[31m\0\0\0"),
    ],
)
def test_a_tar_file_whose_headers_lie_is_damaged_and_not_endless(
    field: tuple[int, int], value: bytes, tmp_path: Path
) -> None:
    tar = write_tar(tmp_path / "a.tar", {"one.png": png(1), "two.png": png(2)})
    content = bytearray(tar.read_bytes())
    content[slice(*field)] = value
    unsigned = sum(content[:148]) + sum(content[156:512]) + 8 * ord(" ")
    content[148:156] = b"%06o\0 " % unsigned
    tar.write_bytes(content)
    if field == (0, 8):
        assert [name for name, _ in tars.members(str(tar))] == ["\x1b[31m", "two.png"]
        return
    with pytest.raises(DlkitError, match="a damaged tar file"):
        list(tars.members(str(tar)))


def test_a_member_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "MAX_MEMBER", 10)
    tar = write_tar(tmp_path / "a.tar", {"one.png": png(1)})
    with pytest.raises(DlkitError, match="has more than 0 MB in .*; unpack it"):
        tars.read(str(tar), "one.png")
