"""Results that can be trusted: their origin beside them, retries of failures, verification."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dlkit.core.parallel.verify import differing, repeated
from tests.conftest import run, save_stub


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stub(tmp_path_factory.mktemp("models") / "stub.safetensors")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        Image.new("RGB", (32, 32), (40 * number, 0, 90)).save(name)
    return names


def lines(path: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_the_origin_of_results_is_beside_them(photos: list[str], stub: Path) -> None:
    assert run("classify", *photos, "-m", stub, "-o", "out.jsonl", "--top", 2).code == 0
    meta = json.loads(Path("out.jsonl.meta.json").read_text())
    assert meta["command"] == "dlkit classify infer"
    assert meta["arguments"][:2] == ["classify", "0.png"]
    assert meta["options"]["top"] == 2
    assert len(meta["models"][str(stub)]) == 64
    assert run("classify", *photos, "-m", stub, "-o", "out.csv").code == 0
    assert Path("out.csv.meta.json").exists()


def test_another_model_or_option_is_refused_by_resume_and_merge(
    photos: list[str],
    stub: Path,
    tmp_path: Path,
) -> None:
    run("classify", *photos[:3], "-m", stub, "-o", "out.jsonl")
    other = tmp_path / "other.safetensors"
    other.write_bytes(stub.read_bytes())
    same = run("classify", *photos, "-m", other, "-o", "out.jsonl", "--resume")
    assert (same.code, len(lines("out.jsonl"))) == (0, 6)  # the same file under another name
    refused = run("classify", *photos, "-m", "digits", "-o", "out.jsonl", "--resume")
    assert refused.code == 2
    assert "made with other settings: model " in refused.err
    refused = run("classify", *photos, "-m", stub, "-o", "out.jsonl", "--resume", "--top", 3)
    assert "--top 1 and 3" in refused.err

    for shard, top in (("0/2", 1), ("1/2", 2)):
        run("classify", *photos, "-m", stub, "-o", "s.jsonl", "--shard", shard, "--top", top)
    merged = run("merge", "s.00000-of-00002.jsonl", "s.00001-of-00002.jsonl", "-o", "m.jsonl")
    assert merged.code == 2
    assert "differs from s.00000-of-00002.jsonl: --top 1 and 2" in merged.err
    assert not Path("m.jsonl").exists()


@pytest.mark.parametrize("shard", [None, "1/2"])
def test_failed_inputs_are_computed_again_in_their_places(
    photos: list[str],
    stub: Path,
    shard: str | None,
) -> None:
    good = Path("1.png").read_bytes()
    Path("1.png").write_text("no image")
    Path("3.png").unlink()
    command = ["classify", *photos, "-m", stub, "-o", "out.jsonl"]
    command += ["--shard", shard] if shard else []
    name = "out.00001-of-00002.jsonl" if shard else "out.jsonl"
    assert run(*command).code == 1
    before = lines(name)
    Path("1.png").write_bytes(good)
    again = run(*command, "--retry-failed")
    assert again.code == 1
    assert "2 of " in again.err
    assert "3.png" in again.err
    after = lines(name)
    assert [record.get("path") for record in after] == [record.get("path") for record in before]
    changed = [new["path"] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["1.png"]
    shutil.copy("2.png", "3.png")
    assert run(*command, "--retry-failed").code == 0
    assert not any("error" in record for record in lines(name))


def test_an_unfinished_file_is_resumed_first(photos: list[str], stub: Path) -> None:
    Path("out.jsonl.partial").write_text('{"path": "0.png", "predictions": []}\n')
    refused = run("classify", *photos, "-m", stub, "-o", "out.jsonl", "--retry-failed")
    assert refused.code == 2
    assert "continue it with --resume first" in refused.err


def test_the_same_results_are_verified_and_changed_ones_are_found(
    photos: list[str],
    stub: Path,
) -> None:
    run("classify", *photos, "-m", stub, "-o", "out.jsonl", "--shard", "1/2")
    name = "out.00001-of-00002.jsonl"
    good = run("verify", name, "--share", 1)
    assert (good.code, good.out) == (0, "1\tTrue\n3\tTrue\n5\tTrue\n")
    assert "3 of 3 results are equal" in good.err
    records = lines(name)
    records[1]["path"] = "9.png"
    Path(name).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    bad = run("verify", name, "--share", 1)
    assert bad.code == 1
    assert "3\tFalse\tpath 9.png and 3.png" in bad.out


def test_verification_needs_the_command(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    refused = run("verify", tmp_path / "a.jsonl")
    assert (refused.code, refused.out) == (2, "")
    assert "no a.jsonl.meta.json beside it" in refused.err
    (tmp_path / "a.jsonl.meta.json").write_text('{"command": 3}')
    assert "not the record of a command" in run("verify", tmp_path / "a.jsonl").err


def test_a_command_is_repeated_without_its_output_and_shard() -> None:
    arguments = ["detect", "a", "-o", "x.jsonl", "--shard=1/2", "--resume", "--threshold", "0.3"]
    assert repeated(arguments) == ["detect", "a", "--threshold", "0.3"]


def test_differences_have_their_places() -> None:
    one = {"path": "a", "objects": [{"score": 0.5}, {"score": float("nan")}]}
    other = {"path": "a", "objects": [{"score": 0.25}, {"score": float("nan")}]}
    assert differing(one, other) == ["objects[0].score 0.5 and 0.25"]
    assert differing(one, {"path": "a", "objects": []}) == [
        f"objects {one['objects']} and []",
    ]
