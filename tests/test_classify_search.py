"""Descriptors, their principal components, and search by example over an index."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dlkit.classify import search as searching
from dlkit.classify.data import Preprocessing
from dlkit.classify.features import (
    Description,
    StoredFeatures,
    as_rows,
    describe,
    list_layers,
    make_describer,
    principal_components,
    reduce_descriptors,
    save_features,
)
from dlkit.classify.infer import Classifier
from dlkit.classify.model import build
from dlkit.classify.search import Hits, Index, nearest, open_index, save_sheet, scan_folder, search
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.store.checkpoint import Header, save
from tests.conftest import on_processes, run
from tests.test_cluster import dlkit as on_rank

COLORS = {"red": (220, 30, 20), "green": (20, 200, 40), "blue": (30, 40, 230)}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = build("resnet9", 4, 32, width_multiplier=0.1).eval()
    inputs = Preprocessing(32, "squash", 3, [0.5] * 3, [0.25] * 3)
    return Classifier(network, list("abcd"), inputs, torch.device("cpu"))


def picture(path: Path, seed: int, color: tuple[int, int, int]) -> Path:
    noise = np.random.default_rng(seed).integers(-20, 20, (32, 32, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + color).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of each color, in folders of their own."""
    for name, color in COLORS.items():
        for number in range(4):
            picture(tmp_path / "all" / name / f"{number}.png", number, color)
    return tmp_path / "all"


def random_index(count: int, numbers: int, seed: int = 0) -> Index:
    rows = np.random.default_rng(seed).normal(size=(count, numbers)).astype(np.float32)
    paths = [f"{row:06}" for row in range(count)]
    stamps = np.zeros((count, 2), dtype=np.int64)
    return Index(rows, np.linalg.norm(rows, axis=1), paths, stamps, {})


def hits_of(result: object) -> list[str]:
    assert isinstance(result, Hits)
    return [Path(hit.path).parent.name + Path(hit.path).stem for hit in result.hits]


# Features


def test_the_default_descriptor_is_the_input_of_the_last_linear_layer(
    classifier: Classifier,
) -> None:
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    found = make_describer(classifier).outputs(pixels)
    head = classifier.network.get_submodule("head.fc")
    assert isinstance(head, nn.Linear)
    assert found.shape == (3, head.in_features)
    with torch.inference_mode():
        torch.testing.assert_close(head(found), classifier.outputs(pixels))


def test_any_layer_and_places_averaged(classifier: Classifier) -> None:
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    inputs = classifier.preprocessing.normalize(pixels)
    first = classifier.network.get_submodule("features.0")
    with torch.no_grad():
        before_relu = nn.Sequential(*list(first.children())[:-1])(inputs)
    # The ReLU after it works in place, which must not show.
    norm = [name for name, m in first.named_children() if isinstance(m, nn.BatchNorm2d)][0]
    found = make_describer(classifier, f"features.0.{norm}").outputs(pixels)
    torch.testing.assert_close(found, before_relu.mean(dim=(2, 3)))
    assert (found != before_relu.relu().mean(dim=(2, 3))).any()

    listed = {layer.name: layer for layer in list_layers(classifier)}
    assert listed["head.fc"].numbers == 4
    assert listed["features"].numbers == listed["head.flat"].numbers
    for name, layer in listed.items():
        assert make_describer(classifier, name).outputs(pixels).shape == (2, layer.numbers)
    with pytest.raises(DlkitError, match=r"unknown layer 'head.f'; choose from head.fc, "):
        make_describer(classifier, "head.f")


def test_a_model_for_metric_learning_describes_by_its_output(classifier: Classifier) -> None:
    trained = replace(classifier, descriptor=True)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(make_describer(trained).outputs(pixels), classifier.outputs(pixels))


@pytest.mark.parametrize(("samples", "numbers"), [(50, 7), (6, 20)])
def test_principal_components_are_numpys(samples: int, numbers: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(samples, numbers)) @ rng.normal(size=(numbers, numbers)) + 3
    projection = principal_components(torch.tensor(data, dtype=torch.float32), 4)
    centered = data - data.mean(axis=0)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    signs = np.sign((components[:4] * projection.components.numpy()).sum(axis=1))
    np.testing.assert_allclose(projection.components, signs[:, None] * components[:4], atol=1e-4)
    np.testing.assert_allclose(projection.variance, singular[:4] ** 2 / (samples - 1), rtol=1e-4)
    np.testing.assert_allclose(
        projection(torch.tensor(data, dtype=torch.float32)),
        centered @ components[:4].T * signs,
        atol=1e-3,
    )
    largest = projection.components.gather(
        1, projection.components.abs().argmax(dim=1, keepdim=True)
    )
    assert (largest > 0).all()


def test_more_components_than_there_are() -> None:
    with pytest.raises(DlkitError, match="--pca 4: 3 descriptors of 8 numbers have at most 3"):
        principal_components(torch.randn(3, 8), 4)


def test_descriptors_are_stored_with_their_paths_and_projection(
    folder: Path, classifier: Classifier, tmp_path: Path
) -> None:
    (folder / "red" / "bad.png").write_bytes(b"no image")
    results = list(describe([str(folder)], classifier, batch_size=5))
    assert [type(result) for result in results].count(Failure) == 1
    described = [result for result in results if isinstance(result, Description)]
    output = tmp_path / "out" / "features.npy"
    projection, short = reduce_descriptors(results, 3)
    failure, stored = save_features(short, output, projection)
    assert isinstance(failure, Failure)
    assert stored == StoredFeatures(str(output), 12, 3)
    names = (tmp_path / "out" / "features.paths.txt").read_text().splitlines()
    assert names == [result.path for result in described]
    whole = torch.stack([result.descriptor for result in described]).numpy()
    with np.load(tmp_path / "out" / "features.pca.npz") as saved:
        expected = (whole - saved["mean"]) @ saved["components"].T
        assert saved["variance"].shape == (3,)
    np.testing.assert_allclose(np.load(output), expected, atol=1e-5)
    assert len(list((tmp_path / "out").iterdir())) == 3

    printed = next(iter(as_rows(described)))
    np.testing.assert_allclose(printed.descriptor, whole[0], rtol=1e-6)  # type: ignore[union-attr]
    with pytest.raises(DlkitError, match=r"none\.npy: not written"):
        list(save_features([Failure("a", "damaged")], tmp_path / "none.npy"))
    assert not (tmp_path / "none.npy").exists()


# Search


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


def test_search_finds_the_color_and_leaves_out_the_query(
    folder: Path, classifier: Classifier, tmp_path: Path
) -> None:
    outside = picture(tmp_path / "query.png", 9, COLORS["green"])
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
    query = str(picture(tmp_path / "query.png", 9, COLORS["red"]))

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

    picture(folder / "red" / "9.png", 9, COLORS["red"])  # added
    (as_it_was,) = search([query], folder, classifier, file, top=20, update=False)
    assert len(hits_of(as_it_was)) == 12
    (folder / "green" / "1.png").unlink()  # removed
    picture(folder / "blue" / "3.png", 9, COLORS["red"])  # changed
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

    picture(bad, 1, COLORS["red"])  # mended
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
        assert "skipped 2 x unreadable image: " in said
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


# The commands


@pytest.fixture
def model(classifier: Classifier, tmp_path: Path) -> Path:
    network = {"num_labels": 4, "image_size": 32, "width_multiplier": 0.1}
    described = {
        "network": network,
        "preprocessing": asdict(classifier.preprocessing),
        "loss": "cross-entropy",
    }
    path = tmp_path / "model.safetensors"
    header = Header("classify", "resnet9", described, classifier.labels)
    save(path, classifier.network.state_dict(), header)
    return path


def test_explain_features_and_search_as_commands(folder: Path, model: Path, tmp_path: Path) -> None:
    query, maps = folder / "red" / "0.png", tmp_path / "maps"
    options = ["-m", model, "--device", "cpu", "--precision", "fp32"]
    explained = run(
        "classify", "explain", query, "missing.png", "--boxes", "--save", maps, *options
    )
    assert explained.code == 1
    assert len(explained.out.strip().split("\t")) in {3, 7}
    assert "missing.png: no such file" in explained.err
    assert (maps / "0.png").is_file()
    assert run("classify", "explain", query, *options).code == 2
    assert run("classify", "explain", query, "--save", folder / "red", *options).code == 2

    output = tmp_path / "all.npy"
    stored = run("classify", "features", folder, "--pca", 2, "-o", output, *options)
    assert stored.out == f"{output}\t12\t2\n"
    assert np.load(output).shape == (12, 2)
    assert "head.fc\tLinear\t4\n" in run("classify", "features", "--layer", "list", *options).out
    assert run("classify", "features", *options).code == 2

    described = ["classify", "features", folder, *options, "-o"]
    lines, shards = tmp_path / "all.jsonl", tmp_path / "of.jsonl"
    assert run(*described, lines).code == 0
    for index in (1, 0):
        assert run(*described, shards, "--shard", f"{index}/2").code == 0
    merged = run("merge", *sorted(tmp_path.glob("of.*.jsonl")))
    assert merged.out == lines.read_text()
    assert len(merged.out.splitlines()) == 12
    assert run(*described, shards, "--shard", "0/3", "--pca", 2).code == 2

    found = run("classify", "search", query, "--in", folder, "--top", 3, "-f", "json", *options)
    assert found.code == 0, found.err
    assert len(json.loads(found.out)[0]["hits"]) == 3
    into = run("classify", "search", query, "--in", folder, "--save", folder / "a.png", *options)
    assert into.code == 2


def test_shards_explain_and_search_what_one_run_does(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    options = ["-m", model, "--device", "cpu", "--precision", "fp32"]
    one, shards = tmp_path / "one.jsonl", tmp_path / "of.jsonl"

    def merged() -> str:
        return run("merge", *sorted(tmp_path.glob("of.*.jsonl"))).out

    explaining = ["classify", "explain", folder, "--boxes", *options, "--save"]
    assert run(*explaining, tmp_path / "maps", "-o", one).code == 0
    for index in range(2):
        done = run(*explaining, tmp_path / "of", "-o", shards, "--shard", f"{index}/2")
        assert done.code == 0, done.err
    assert merged() == one.read_text()
    assert one.read_text().count("regions") == 12
    drawn = sorted(path.read_bytes() for path in (tmp_path / "maps").iterdir())
    assert sorted(path.read_bytes() for path in (tmp_path / "of").rglob("*.png")) == drawn
    first = tmp_path / "of.00000-of-00002.jsonl"
    lines = first.read_text().splitlines(keepends=True)
    first.with_name(f"{first.name}.partial").write_text("".join(lines[:4]))
    first.unlink()
    last = tmp_path / "of" / "00000-of-00002"
    pictures = {path.name: path.read_bytes() for path in last.iterdir()}
    for path in last.iterdir():
        path.unlink()
    done = run(*explaining, tmp_path / "of", "-o", shards, "--shard", "0/2", "--resume")
    assert "4 inputs are done" in done.err
    assert first.read_text() == "".join(lines)
    drawn_now = {path.name: path.read_bytes() for path in last.iterdir()}
    assert len(drawn_now) == 2
    assert drawn_now.items() <= pictures.items()

    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    search_in = ["classify", "search", folder / "red", "--in", folder, "--top", 2, *options]
    assert run(*search_in, "-o", one).code == 0
    refused = run(*search_in, "-o", shards, "--shard", "0/2")
    assert refused.code == 2
    assert f"each of 2 parts would index {folder}" in refused.err
    for index in range(2):
        done = run(*search_in, "-o", shards, "--shard", f"{index}/2", "--no-update")
        assert done.code == 0, done.err
    assert merged() == one.read_text()
    assert one.read_text().count("hits") > 2
    sheet = ["--no-update", "--save", tmp_path / "sheet.png"]
    refused = run(*search_in, "-o", shards, "--shard", "0/2", *sheet)
    assert refused.code == 2
    assert "--save: shows all queries" in refused.err


def test_processes_explain_and_search_what_one_does(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    options = ["-m", model, "--device", "cpu", "--precision", "fp32"]
    notices, texts = tmp_path / "notices", tmp_path / "texts"
    texts.write_text("never boring\na dull film\nit was fun <b>\n")
    commands = {
        "explain": ["explain", folder, "--boxes", *options],
        "search": ["search", folder / "red", "--in", folder, "--top", 2, *options],
        "words": ["explain", texts, "-m", "reviews", "--save", tmp_path / "page"],
    }
    pages = []
    for name, command in commands.items():
        found = {}
        for count in (1, 2):
            out = tmp_path / f"{name}-{count}.csv"
            if name == "search":
                command = [*command, "--index", tmp_path / f"{count}.safetensors"]
            codes = on_processes(count, on_rank, notices, "classify", *command, "-o", out)
            assert codes == [0] * count, notices.read_text()
            found[count] = out.read_text()
            if name == "words":
                pages.append((tmp_path / "page" / "words.html").read_text())
        assert found[1] == found[2]
        assert found[1].count("\n") > 8
    assert pages[0] == pages[1]
    assert pages[0].count("<p>") == 3


def test_a_page_of_texts_holds_those_that_were_done_before(tmp_path: Path) -> None:
    command = ["classify", "explain", "-m", "reviews", "--device", "cpu", "--save", tmp_path]
    command += ["-o", tmp_path / "out.jsonl"]
    texts = "never boring\na dull film\nit was fun\n"
    assert run(*command, stdin=texts).code == 0
    page, out = tmp_path / "words.html", tmp_path / "out.jsonl"
    whole, lines = page.read_text(), out.read_text().splitlines(keepends=True)
    page.unlink()
    out.write_text("".join(lines[:2]))
    assert run(*command, "--resume", stdin=texts).code == 0
    assert page.read_text() == whole


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
    environment = {**os.environ, "MASTER_PORT": "29617", "PYTHONPATH": os.pathsep.join(sys.path)}
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
