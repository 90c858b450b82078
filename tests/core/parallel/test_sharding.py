"""Many inputs, dealt out: shards and their merge, what a kill leaves, several processes' files."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from torch.distributed import TCPStore

from dlkit.classify.infer import classify, load
from dlkit.cli import main
from dlkit.core.io.writers import Format
from dlkit.core.parallel.sharding import ShardWriter
from dlkit.embed.model import save_embedding
from tests.conftest import Result, on_processes, run, save_stub
from tests.embed.helpers import RNG, embedding

COUNT = 11
LINES = ["a cat", "two dogs run", "qqxxqq", "snow", "the old man", "", "a boy in a hat", "go home"]


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stub(tmp_path_factory.mktemp("models") / "stub.safetensors")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of small images of noise; the fifth is none."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    names = [f"photos/{number:02}.png" for number in range(COUNT)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(name)
    Path(names[4]).write_text("no image")
    return names


def of(model: Path) -> list[str]:
    return f"classify - -m {model} --batch-size 1 --workers 1 --device cpu".split()


def listed(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def whole(*command: object, stdin: str, code: int = 0) -> bytes:
    """The file that one run makes."""
    result = run(*command, "-o", "one.jsonl", stdin=stdin)
    assert result.code == code, result.err
    return Path("one.jsonl").read_bytes()


COMMANDS = {
    "classify": "",
    "texts": "classify -m reviews --precision fp32",
    "words": "classify explain -m reviews --precision fp32",
    "translate": "translate --sample --max-length 4 --seed 3",
    "prompts": "lm-generate -m english-ngram -n 2 --max-tokens 4 --seed 3",
    "scores": "lm-generate score -m english-ngram",
    "vectors": "embed vector",
    "similar": "embed similar --top 2",
    "tokens": "tokenize -",
    "caption": "caption - --sample --max-length 3 --batch-size 2",
}


SLOW = {"caption", "translate"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in COMMANDS]
)
def test_the_shards_of_an_array_merge_into_what_one_run_makes(
    name: str, stub: Path, photos: list[str]
) -> None:
    of_images = name in {"classify", "caption"}
    command = COMMANDS[name].split() or of(stub)
    stdin = listed(photos[:8] if of_images else LINES)
    expected = whole(*command, stdin=stdin, code=int(of_images))
    assert expected.count(b"\n") >= 7
    for index in (2, 0, 1):
        result = run(*command, "-o", "out.jsonl", "--shard", f"{index}/3", stdin=stdin)
        assert result.code <= 1, result.err
    files = sorted(map(str, Path().glob("out.*.jsonl")))
    assert files == [f"out.0000{index}-of-00003.jsonl" for index in range(3)]
    merged = run("merge", *reversed(files), "-o", "all.jsonl")
    assert merged == Result(0, "", "")
    assert Path("all.jsonl").read_bytes() == expected
    assert run("merge", *files).out.encode() == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_killed_in_mid_file_goes_on_as_if_it_was_not(
    number: signal.Signals, stub: Path, photos: list[str]
) -> None:
    expected = whole(*of(stub), stdin=listed(photos), code=1)
    partial = Path("out.jsonl.partial")
    killed = subprocess.Popen(
        [sys.executable, "-m", "dlkit", *of(stub), "-o", "out.jsonl"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert killed.stdin is not None
    killed.stdin.write(listed(photos[:10]))
    killed.stdin.flush()  # and never closed: it waits for more
    until = time.monotonic() + 60
    while not (partial.exists() and partial.read_text().count("\n") > 4):
        assert time.monotonic() < until, "no results"
        time.sleep(0.05)
    killed.send_signal(number)
    err = killed.communicate()[1]
    if number == signal.SIGTERM:  # it can be handled
        assert killed.returncode == 128 + number
        assert "out.jsonl.partial holds the results so far; continue with --resume" in err
    done = partial.read_text().count("\n")
    assert not Path("out.jsonl").exists()
    with partial.open("a") as file:
        file.write('{"path": "photos/0')  # as if killed while it wrote

    again = run(*of(stub), "-o", "out.jsonl", stdin=listed(photos))
    assert again.code == 2
    assert "out.jsonl.partial: holds the results of an interrupted command" in again.err
    resumed = run(*of(stub), "-o", "out.jsonl", "--resume", stdin=listed(photos))
    assert resumed.code == 1  # of an input before the kill
    assert f"out.jsonl: {done} inputs are done" in resumed.err
    assert f"1 of {COUNT} inputs failed" in resumed.err
    assert Path("out.jsonl").read_bytes() == expected
    assert not partial.exists()


@pytest.mark.slow
@pytest.mark.parametrize("done", [0, 1, 3, 4])
@pytest.mark.parametrize("name", ["classify", "prompts", "translate"])
def test_a_shard_goes_on_from_any_record(
    name: str, done: int, stub: Path, photos: list[str]
) -> None:
    command = [*(COMMANDS[name].split() or of(stub)), "-o", "out.jsonl", "--shard", "1/2"]
    stdin = listed(photos if name == "classify" else LINES)
    assert run(*command, stdin=stdin).code == 0
    path = Path("out.00001-of-00002.jsonl")
    expected = path.read_text()
    path.with_name(f"{path.name}.partial").write_text(
        "".join(expected.splitlines(keepends=True)[:done])
    )
    path.unlink()
    assert run(*command, "--resume", stdin=stdin).code == 0
    assert path.read_text() == expected


def test_what_is_finished_is_left_as_it_is_and_what_is_new_is_added(
    stub: Path, photos: list[str]
) -> None:
    command = [*of(stub), "-o", "out.jsonl", "--resume"]
    assert run(*command, stdin=listed(photos[:3])).code == 0
    first = Path("out.jsonl").read_bytes()
    again = run(*command, stdin=listed(photos[:3]))
    assert (again.code, again.err) == (0, "out.jsonl: 3 inputs are done\n")
    assert Path("out.jsonl").read_bytes() == first
    assert run(*command, stdin=listed(photos)).code == 1
    assert Path("out.jsonl").read_bytes() == whole(*of(stub), stdin=listed(photos), code=1)


@pytest.mark.parametrize(
    ("wrong", "options", "said"),
    [
        ("inputs", ["--resume"], "number 2 was 'photos/02.png' and is 'photos/05.png'"),
        ("fewer", ["--resume"], "of more inputs than there are"),
        ("lines", ["--resume"], "line 2 is not a JSON record"),
        ("shard", ["--resume", "--shard", "1/2"], "record 1 is not of input 1"),
        ("none", ["--shard", "3/3"], "I/N with I from 0"),
        ("none", ["--shard", "half"], "I/N with I from 0"),
        ("stdout", ["--resume"], "--resume needs results in a file; give -o FILE.jsonl"),
        ("csv", ["--shard", "0/2"], "--shard needs results in a file; give -o FILE.jsonl"),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_line_and_stays(
    wrong: str, options: list[str], said: str, stub: Path, photos: list[str]
) -> None:
    names = photos[:4]
    assert run(*of(stub), "-o", "out.jsonl", stdin=listed(names[:3])).code == 0
    before = Path("out.jsonl").read_text()
    if wrong == "inputs":
        names = [*photos[:2], *photos[5:]]
    elif wrong == "fewer":
        names = photos[:2]
    elif wrong == "lines":
        before = before.replace("\n", "\n?\n", 1)
        Path("out.jsonl.partial").write_text(before)
    elif wrong == "shard":
        Path("out.00001-of-00002.jsonl.partial").write_text(before)
    output = {"stdout": [], "csv": ["-o", "out.csv"]}.get(wrong, ["-o", "out.jsonl"])
    result = run(*of(stub), *output, *options, stdin=listed(names))
    assert result.code == 2
    assert said in result.err
    left = [path for path in Path().glob("out*") if path.read_text() == before]
    assert left, "the results so far are lost"


def test_the_suffix_says_the_format_unless_the_option_does(stub: Path, photos: list[str]) -> None:
    command = [*of(stub)[1:], "-o"]
    formats = {}
    for name, options in {"a.jsonl": [], "a.json": [], "a.csv": [], "a.txt": [],
                          "b.csv": ["-f", "text"]}.items():  # fmt: skip
        assert run("classify", *command, name, *options, stdin=photos[0]).code == 0
        formats[name] = Path(name).read_text().splitlines()
    assert json.loads(formats["a.jsonl"][0])["path"] == photos[0]
    assert json.loads("".join(formats["a.json"]))[0]["path"] == photos[0]
    assert formats["a.csv"][0] == "path,label,score"
    assert formats["a.txt"] == formats["b.csv"]
    assert formats["a.txt"][0].startswith(f"{photos[0]}\t")


def test_pictures_of_shards_and_of_what_is_resumed_have_names_of_their_own(
    model: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for number in range(4):  # four images of one name
        Path(str(number)).mkdir()
        names.append(f"{number}/x.jpg")
        Path(names[-1]).write_bytes((shapes / "JPEGImages" / f"{number:03}.jpg").read_bytes())
    command = ["detect", "-", "-m", model, "--device", "cpu", "-o", "out.jsonl", "--save"]
    one = run(*command, "one", stdin=listed(names))
    assert one.code == 0, one.err
    for index in range(2):
        result = run(*command, "shards", "--shard", f"{index}/2", stdin=listed(names))
        assert result.code == 0, result.err
    pictures = [Path("one", name) for name in ("x.jpg", "x-2.jpg", "x-3.jpg", "x-4.jpg")]
    content = [path.read_bytes() for path in pictures]
    of_shards = [
        Path("shards", f"0000{index}-of-00002", name).read_bytes()
        for name in ("x.jpg", "x-2.jpg")
        for index in range(2)
    ]
    assert of_shards == content
    for path in pictures[2:]:
        path.unlink()
    lines = Path("out.jsonl").read_text().splitlines(keepends=True)
    Path("out.jsonl").unlink()
    Path("out.jsonl.partial").write_text("".join(lines[:2]))
    assert run(*command, "one", "--resume", stdin=listed(names)).code == 0
    assert [path.read_bytes() for path in pictures] == content


def write_shards(records: list[list[dict[str, Any]]]) -> list[str]:
    names = [f"out.{index:05}-of-{len(records):05}.jsonl" for index in range(len(records))]
    for name, of_shard in zip(names, records, strict=True):
        Path(name).write_text("".join(json.dumps(record) + "\n" for record in of_shard))
    return names


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three shards of ten inputs."""
    monkeypatch.chdir(tmp_path)
    return write_shards([[{"index": i, "path": f"{i}"} for i in range(n, 10, 3)] for n in range(3)])


def paths_in(result: Result) -> list[int]:
    return [int(json.loads(line)["path"]) for line in result.out.splitlines()]


def test_merge_says_what_is_missing(files: list[str]) -> None:
    shard = run("merge", files[0], files[2])
    assert shard.code == 1
    assert paths_in(shard) == [0, 2, 3, 5, 6, 8, 9]
    assert shard.err == (
        "dlkit: out.00001-of-00003.jsonl: no such file\n"
        "dlkit: results are missing of 3 inputs (1, 4, 7), counted from 0\n"
    )
    lines = Path(files[2]).read_text().splitlines(keepends=True)
    Path(files[2]).write_text(lines[0] + lines[2])
    gap = run("merge", *files, "-o", "all.jsonl")
    assert (gap.code, gap.out) == (1, "")
    assert gap.err == "dlkit: results are missing of 1 input (5), counted from 0\n"
    assert len(Path("all.jsonl").read_text().splitlines()) == 9


def test_merge_takes_an_input_once(files: list[str]) -> None:
    Path("again.jsonl").write_text(
        Path(files[1]).read_text().replace('"path": "4"', '"path": "44"')
    )
    result = run("merge", *files, "again.jsonl")
    assert result.code == 1
    assert paths_in(result) == list(range(10))
    assert result.err == (
        "dlkit: several results of 3 inputs (1, 4, 7); those of the first file are written\n"
    )


def test_merge_keeps_several_records_of_an_input_and_empty_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = write_shards([[{"index": 0, "path": "0"}, {"index": 0, "path": "0"}],
                          [{"index": 1, "path": "1"}, {"index": 1, "path": "1"}], []])  # fmt: skip
    result = run("merge", *names)
    assert (result.code, paths_in(result)) == (0, [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("out.00002-of-00003.jsonl", '{"index": 2, "path": "2"}\n{"index": 5, "pa', "cut short"),
        ("out.00002-of-00003.jsonl", "PK\x03\x04\n", "line 1 is not a JSON record"),
        ("out.00002-of-00003.jsonl", '{"index": 3}\n', "line 1 is of input 3"),
        ("plain.jsonl", '{"path": "2"}\n', "line 1 has no index"),
        ("mixed.jsonl", '{"index": 5}\n{"index": 2}\n', "line 2 is out of order"),
        ("out.00002-of-00004.jsonl", '{"index": 2}\n', "are of 3 and of 4 shards"),
        ("missing.jsonl", None, "no such file"),
    ],
)
def test_merge_refuses_what_is_no_shard(
    files: list[str], name: str, content: str | None, said: str
) -> None:
    if content is not None:
        Path(name).write_text(content)
    result = run("merge", *files[:2], name, "-o", "all.jsonl")
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert said in result.err
    assert not Path("all.jsonl").exists()


def torchrun(*args: object, stdin: str) -> subprocess.CompletedProcess[str]:
    """`dlkit ARGS < stdin` in two processes."""
    Path("list.txt").write_text(stdin)
    many = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    with Path("list.txt").open() as file:
        return subprocess.run(
            [sys.executable, *many, "-m", "dlkit", *map(str, args)],
            stdin=file,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )


@pytest.mark.slow
def test_each_process_under_torchrun_writes_its_file_to_the_end(
    stub: Path, photos: list[str]
) -> None:
    """The first process has only inputs that fail at once; its end must not be the other's."""
    stdin = listed(["photos/none.png", "photos/00.png"] * 300)
    done = torchrun(*of(stub), "-o", "out.jsonl", stdin=stdin)
    assert done.returncode != 0
    files = sorted(map(str, Path().glob("out.*.jsonl")))
    assert files == ["out.00000-of-00002.jsonl", "out.00001-of-00002.jsonl"]
    assert run("merge", *files, "-o", "all.jsonl") == Result(0, "", "")
    found = [json.loads(line)["path"] for line in Path("all.jsonl").read_text().splitlines()]
    assert found == stdin.splitlines()


def started_again(notices: Path, appended: Path, *args: object) -> None:
    """A process under a torchrun that started it again, and counts that on each node for itself.

    The first keeps torchrun's store; the second takes longer.
    """
    sys.stderr = notices.open("a", buffering=1)
    rank, port = int(os.environ["RANK"]), int(os.environ["MASTER_PORT"])
    os.environ["TORCHELASTIC_RESTART_COUNT"] = "0" if rank else "2"
    store = TCPStore("127.0.0.1", port, is_master=rank == 0, wait_for_workers=False)
    append = ShardWriter.append

    def late(writer: ShardWriter, results: Any) -> None:
        time.sleep(1)
        append(writer, results)
        appended.touch()

    try:
        with mock.patch.object(ShardWriter, "append", late if rank else append):
            main([*map(str, args)])
    finally:
        if rank == 0 and not appended.exists():
            os._exit(3)
        del store


@pytest.mark.slow
def test_a_process_with_failures_ends_last_also_where_torchrun_started_all_again(
    stub: Path, tmp_path: Path
) -> None:
    notices, out, photo = (tmp_path / name for name in ("notices", "out.jsonl", "a.png"))
    Image.new("RGB", (8, 8), "red").save(photo)
    command = ["classify", tmp_path / "none.png", photo, "-m", stub, "--device", "cpu", "-o", out]
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    codes = on_processes(2, started_again, notices, tmp_path / "done", *command, **agent)
    assert codes == [1, 0], notices.read_text()
    assert len(list(tmp_path.glob("out.*.jsonl"))) == 2


@pytest.mark.slow
def test_two_processes_print_texts_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["cat", "house", "walks", "qqxx", "green", "music", "seven"]
    known = [word for word in words if word != "qqxx"]
    save_embedding(tmp_path / "few.safetensors", embedding(known, RNG.normal(size=(6, 4))))
    one = run("embed", "vector", "-m", "few.safetensors", stdin=listed(words))
    two = torchrun("embed", "vector", "-m", "few.safetensors", stdin=listed(words))
    assert one.code == 1
    assert one.out == two.stdout
    assert two.stderr.count("qqxx: not in the vocabulary") == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_inputs(stub: Path, photos: list[str]) -> None:
    """A list of 300 and of 3000 paths: at the peak less than an object a path more.

    Without the collector, whose moments differ from run to run; the least of three runs, since
    torch sometimes reads source files, for its record of a seed.
    """
    classifier = load(str(stub), "cpu")

    def peak(count: int) -> int:
        Path("out.jsonl").unlink(missing_ok=True)
        paths: Iterator[str] = repeat(photos[0], count)
        writer = ShardWriter(Format.jsonl, Path("out.jsonl"))
        tracemalloc.start()
        writer.write(classify(paths, [classifier], batch_size=16, workers=0, shard=writer.shard))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(Path("out.jsonl").read_text().splitlines()) == count
        return most

    peak(100)
    gc.collect()
    gc.disable()
    try:
        few, many = (min(peak(count) for _ in range(3)) for count in (300, 3000))
    finally:
        gc.enable()
    assert many - few < sys.getsizeof(object()) * 2700
