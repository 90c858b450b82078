"""Search by example over an index."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.classify import search as searching
from dlkit.classify.data import Preprocessing
from dlkit.classify.features import (
    Description,
    describe,
)
from dlkit.classify.infer import Classifier
from dlkit.classify.search import Hits, Index, nearest, open_index, save_sheet, scan_folder, search
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from tests.classify.helpers import FOLDER_COLORS, save_picture


def random_index(count: int, numbers: int, seed: int = 0) -> Index:
    rows = np.random.default_rng(seed).normal(size=(count, numbers)).astype(np.float32)
    paths = [f"{row:06}" for row in range(count)]
    stamps = np.zeros((count, 2), dtype=np.int64)
    return Index(rows, np.linalg.norm(rows, axis=1), paths, stamps, {})


def hits_of(result: object) -> list[str]:
    assert isinstance(result, Hits)
    return [Path(hit.path).parent.name + Path(hit.path).stem for hit in result.hits]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearest_is_brute_force(distance: searching.Distance) -> None:
    index = random_index(3000, 24)
    # Rows that differ by less than a product in fp32 can tell, and others that are the same.
    index.descriptors[100:200] = index.descriptors[100] * (
        1 + 1e-6 * np.random.default_rng(1).normal(size=(100, 24))
    )
    index.descriptors[300:310] = index.descriptors[300]
    index.norms[:] = np.linalg.norm(index.descriptors, axis=1)
    queries = np.concatenate(
        [random_index(5, 24, seed=2).descriptors, index.descriptors[[100, 300]]]
    )
    wide, goals = index.descriptors.astype(np.float64), queries.astype(np.float64)
    for query, (rows, distances) in zip(goals, nearest(index, queries, 20, distance), strict=True):
        if distance == "cosine":
            unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
            truth = 1 - unit @ (query / np.linalg.norm(query))
        else:
            truth = np.linalg.norm(wide - query, axis=1)
        order = np.lexsort((np.arange(len(truth)), truth))[:20]
        np.testing.assert_allclose(distances, truth[order], atol=1e-12)
        np.testing.assert_allclose(truth[rows], truth[order], atol=1e-12)
        assert len(set(rows.tolist())) == 20
    ties, _ = nearest(index, queries[-1:], 10, distance)[0]
    assert ties.tolist() == list(range(300, 310))


def test_few_rows_and_rows_of_zeros() -> None:
    index = random_index(3, 4)
    index.descriptors[1] = 0
    index.norms[1] = 0
    ((rows, distances),) = nearest(index, index.descriptors[:1], 10, "cosine")
    assert rows[0] == 0
    assert distances[list(rows).index(1)] == 1.0


def test_search_finds_the_color_and_skips_the_query(
    folder: Path, classifier: Classifier, tmp_path: Path
) -> None:
    outside = save_picture(tmp_path / "query.png", 9, FOLDER_COLORS["green"])
    queries = [str(folder / "red" / "2.png"), "missing.png", str(outside)]
    sheet = tmp_path / "sheet.png"
    results = list(save_sheet(search(queries, folder, classifier, top=4), sheet))
    assert sorted(hits_of(results[0])[:3]) == ["red0", "red1", "red3"]
    assert isinstance(results[1], Failure)
    assert sorted(hits_of(results[2])) == ["green0", "green1", "green2", "green3"]
    assert isinstance(results[2], Hits)
    distances = [hit.distance for hit in results[2].hits]
    assert distances == sorted(distances)
    assert list(results[2].rows()[0]) == Hits.columns
    with Image.open(sheet) as drawn:
        assert drawn.size == (6 * 200, 2 * 200)  # a row for each query
        pixel = drawn.getpixel((100, 80))
        assert isinstance(pixel, tuple)
        assert pixel[0] > 150 > pixel[1]  # the red query comes first
    assert not list(folder.rglob("*.safetensors"))
    assert len(list((Path(os.environ["DLKIT_CACHE"]) / "search").glob("all-*.safetensors"))) == 1


def test_the_answer_is_that_of_the_descriptors(folder: Path, classifier: Classifier) -> None:
    query = str(folder / "blue" / "0.png")
    described = {
        result.path: result.descriptor.double().numpy()
        for result in describe([str(folder)], classifier)
        if isinstance(result, Description)
    }
    truth = sorted(
        (float(np.linalg.norm(row - described[query])), path)
        for path, row in described.items()
        if path != query
    )
    (found,) = search([query], folder, classifier, top=5, distance="euclidean")
    assert isinstance(found, Hits)
    for hit, (distance, _) in zip(found.hits, truth, strict=False):
        assert hit.distance == pytest.approx(distance, abs=1e-3)


def test_the_index_follows_the_folder(
    folder: Path, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = Preprocessing.read

    def counted(self: Preprocessing, source: str) -> torch.Tensor:
        read.append(Path(source).parent.name + Path(source).stem)
        return original(self, source)

    monkeypatch.setattr(Preprocessing, "read", counted)
    file = tmp_path / "index.safetensors"
    query = str(save_picture(tmp_path / "query.png", 9, FOLDER_COLORS["red"]))

    def found(top: int = 20) -> list[str]:
        read.clear()
        (result,) = search([query], folder, classifier, file, top=top, workers=0)
        read.remove(f"{tmp_path.name}query")
        return sorted(hits_of(result))

    assert len(found()) == len(read) == 12
    written = file.stat().st_mtime_ns
    assert len(found()) == 12
    assert read == []
    assert file.stat().st_mtime_ns == written

    save_picture(folder / "red" / "9.png", 9, FOLDER_COLORS["red"])  # added
    (as_it_was,) = search([query], folder, classifier, file, top=20, update=False)
    assert len(hits_of(as_it_was)) == 12
    (folder / "green" / "1.png").unlink()  # removed
    save_picture(folder / "blue" / "3.png", 9, FOLDER_COLORS["red"])  # changed
    os.utime(folder / "blue" / "3.png", ns=(1, 1))
    bad = folder / "red" / "bad.png"
    bad.write_bytes(b"no image")
    names = found()
    assert sorted(read) == ["blue3", "red9", "redbad"]
    assert len(names) == 12
    assert "green1" not in names
    assert "red9" in found(top=3)
    assert read == []  # the damaged one is not tried again
    fresh = tmp_path / "fresh.safetensors"
    list(search([query], folder, classifier, fresh))
    one, other = open_index(file), open_index(fresh)
    assert one.paths == other.paths == sorted(set(scan_folder(folder)) - {"red/bad.png"})
    np.testing.assert_allclose(one.descriptors, other.descriptors, atol=1e-5)
    assert one.failed["red/bad.png"][1].startswith("not an image")

    save_picture(bad, 1, FOLDER_COLORS["red"])  # mended
    assert "redbad" in found()
    assert read == ["redbad"]


def test_corrupt_images_are_counted_and_named(
    folder: Path, classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"no image")
    for _ in range(2):
        list(search([str(folder / "red" / "0.png")], folder, classifier))
        said = capsys.readouterr().err
        assert ": 2 unreadable image; the first: " in said
        assert str(folder / "a.png") in said


def test_an_interrupted_index_keeps_what_is_done(
    folder: Path, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Preprocessing.read

    def interrupted(self: Preprocessing, source: str) -> torch.Tensor:
        if source.endswith("red/0.png"):
            raise KeyboardInterrupt
        return original(self, source)

    file = tmp_path / "index.safetensors"
    monkeypatch.setattr(Preprocessing, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(search(["query.png"], folder, classifier, file, batch_size=2, workers=0))
    assert open_index(file).paths == [f"{c}/{n}.png" for c in ("blue", "green") for n in range(4)]


def test_bad_indices_and_folders(folder: Path, classifier: Classifier, tmp_path: Path) -> None:
    query = str(folder / "red" / "0.png")
    file = tmp_path / "index.safetensors"
    list(search([query], folder, classifier, file))
    with pytest.raises(DlkitError, match="an index of another model"):
        list(search([query], folder, classifier, file, layer="features"))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DlkitError, match="damaged"):
        list(search([query], folder, classifier, file))
    with pytest.raises(DlkitError, match="no such index; remove --no-update"):
        list(search([query], folder, classifier, tmp_path / "other", update=False))
    with pytest.raises(DlkitError, match="no such folder"):
        search([query], tmp_path / "nowhere", classifier)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DlkitError, match="no images to search"):
        list(search([query], tmp_path / "empty", classifier))
    (tmp_path / "empty" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DlkitError, match=r"none of its images is readable \(bad.png: "):
        list(search([query], tmp_path / "empty", classifier))


def test_an_index_larger_than_memory_is_opened_and_read_in_places(tmp_path: Path) -> None:
    rows, numbers = 4_000_000, 16_384  # 262 GB, of which the file system stores almost nothing
    end = rows * numbers * 4
    table = {
        "__metadata__": {"made_by": "x", "failed": "{}"},
        "descriptors": {"dtype": "F32", "shape": [rows, numbers], "data_offsets": [0, end]},
        "norms": {"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]},
        "stamps": {"dtype": "I64", "shape": [0, 2], "data_offsets": [end + 4, end + 4]},
        "paths": {"dtype": "U8", "shape": [1], "data_offsets": [end + 4, end + 5]},
    }
    header = json.dumps(table).encode()
    file = tmp_path / "sparse.safetensors"
    with file.open("wb") as sparse:
        sparse.write(len(header).to_bytes(8, "little") + header)
        try:
            sparse.truncate(8 + len(header) + end + 5)
        except OSError:
            pytest.skip("the file system has no sparse files of this size")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = open_index(file, "x")
    assert index.descriptors.shape == (rows, numbers)
    assert float(index.descriptors[rows - 1].sum()) == 0.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.slow
def test_two_processes_answer_as_one(folder: Path, classifier: Classifier, tmp_path: Path) -> None:
    script = tmp_path / "both.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from dlkit.classify.search import search\n"
        "from dlkit.core.io.writers import write\n"
        "folder, index, saved = map(Path, sys.argv[1:])\n"
        "classifier = torch.load(saved, weights_only=False)\n"
        "queries = [str(folder / 'red' / '0.png'), str(folder / 'blue' / '1.png')]\n"
        "write(search(queries, folder, classifier, index, top=3, workers=0), 'jsonl')\n"
    )
    torch.save(classifier, tmp_path / "classifier.pt")
    arguments = [script, folder, tmp_path / "two.safetensors", tmp_path / "classifier.pt"]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29617",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    pair = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**environment, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    (printed, said), (silent, _) = [process.communicate() for process in pair]
    queries = [str(folder / "red" / "0.png"), str(folder / "blue" / "1.png")]
    alone = list(search(queries, folder, classifier, tmp_path / "one.safetensors", top=3))
    records = [json.loads(line) for line in printed.splitlines()]
    assert [r["path"] for r in records] == queries, said
    for record, result in zip(records, alone, strict=True):
        assert [Path(h["path"]).parent.name + Path(h["path"]).stem for h in record["hits"]] == (
            hits_of(result)
        )
    assert silent == ""
