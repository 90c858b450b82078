"""`dlkit classify` from training to answers, on small generated images."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.classify.config import OWN, Arch
from dlkit.classify.models.text import TEXT_ARCHITECTURES
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.train.run import Run
from tests.conftest import Result, run

SIDE = 28
COLORS = {"amber": (230, 160, 20), "blue": (20, 60, 230), "cyan": (20, 210, 210)}
QUICK = "--epochs 3 --batch-size 8 --lr 5e-3 --warmup 0.2 --workers 0 --device cpu --precision fp32"
TINY = ["--arch", "resnet9", "--width-multiplier", "0.125"]


def striped(label: str, seed: int) -> Image.Image:
    """Stripes of the label's color on dark noise: lying for blue, standing for the others."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 50, (SIDE, SIDE, 3))
    start, width = int(rng.integers(0, 4)), int(rng.integers(2, 5))
    for at in range(start, SIDE, 2 * width):
        where = np.s_[at : at + width] if label == "blue" else np.s_[:, at : at + width]
        pixels[where] = np.array(COLORS[label]) + rng.integers(-20, 20, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_folders(root: Path, counts: dict[str, int]) -> Path:
    """ROOT/SPLIT/LABEL/N.png, so many images a label in each split."""
    for split, count in counts.items():
        for label in COLORS:
            (root / split / label).mkdir(parents=True)
            for seed in range(count):
                place = root / split / label / f"{seed}.png"
                striped(label, 1000 * len(split) + seed).save(place)
    return root


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 16, "val": 4, "test": 4}
    return write_folders(tmp_path_factory.mktemp("data") / "stripes", counts)


def train(data: Path, out: Path, *options: Any) -> Result:
    return run("classify", "train", data, "--out", out, *QUICK.split(), *options)


def trained(data: Path, out: Path, *options: Any) -> Path:
    result = train(data, out, *options)
    assert result.code == 0, result.err
    return Path(result.out.strip())


@pytest.fixture(scope="module")
def model(stripes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(stripes, tmp_path_factory.mktemp("run") / "tiny", *TINY, "--epochs", 6)


def scores(result: Result) -> dict[tuple[str, str], float]:
    assert result.code == 0, result.err
    return {(s["metric"], s["label"]): s["value"] for s in json.loads(result.out)}


def evaluated(data: Path, *options: Any) -> dict[tuple[str, str], float]:
    return scores(run("classify", "evaluate", data, "-f", "json", *options))


def test_the_model_learns_and_says_what_it_is(stripes: Path, model: Path, tmp_path: Path) -> None:
    header = checkpoint.read_header(model)
    assert header.labels == ["amber", "blue", "cyan"]
    assert header.settings["preprocessing"]["image_size"] == SIDE
    found = evaluated(stripes, "-m", model, "--save", tmp_path)
    assert found["top1", "all"] == 1.0
    assert found["samples", "blue"] == 4
    assert (tmp_path / "confusion.png").exists()
    log = (model.parent / "log.jsonl").read_text().splitlines()
    assert len(log) == 6


def test_answers_have_the_shapes_of_the_formats(stripes: Path, model: Path) -> None:
    folder = stripes / "test" / "blue"
    text = run("classify", folder, "-m", model).out.splitlines()
    assert [line.split("\t")[1] for line in text] == ["blue"] * 4
    records = json.loads(run("classify", folder, "-m", model, "--top", 3, "-f", "json").out)
    assert [len(record["labels"]) for record in records] == [3] * 4
    for record in records:
        assert sum(prediction["score"] for prediction in record["labels"]) == pytest.approx(
            1, abs=1e-3
        )
        values = [prediction["score"] for prediction in record["labels"]]
        assert values == sorted(values, reverse=True)
    rows = list(csv.DictReader(run("classify", folder, "-m", model, "-f", "csv").out.splitlines()))
    assert rows[0].keys() == {"path", "label", "score"}
    few = run("classify", folder, "-m", model, "--top", 3, "--threshold", 0.9, "-f", "json")
    assert all(g["score"] >= 0.9 for r in json.loads(few.out) for g in r["labels"])


def test_a_bad_image_does_not_stop_the_rest(stripes: Path, model: Path, tmp_path: Path) -> None:
    good = sorted((stripes / "test" / "cyan").iterdir())[:2]
    bad = tmp_path / "bad.png"
    bad.write_bytes(good[0].read_bytes()[:60])
    result = run(
        "classify", good[0], bad, good[1], tmp_path / "none.png", "-m", model, "-f", "jsonl"
    )
    assert result.code == 1
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [("error" in record) for record in records] == [False, True, False, True]
    assert "2 of 4 inputs failed" in result.err
    assert str(bad) in result.err


def test_answers_do_not_depend_on_the_batch(stripes: Path, model: Path) -> None:
    options = ["-m", model, "--top", 3, "--device", "cpu", "--precision", "fp32", "-f", "json"]
    one = json.loads(run("classify", stripes / "test", *options, "--batch-size", 1).out)
    many = json.loads(run("classify", stripes / "test", *options, "--batch-size", 7).out)
    for left, right in zip(one, many, strict=True):
        assert left["path"] == right["path"]
        for a, b in zip(left["labels"], right["labels"], strict=True):
            assert a["label"] == b["label"]
            assert a["score"] == pytest.approx(b["score"], abs=2e-4)


@pytest.mark.parametrize("arch", sorted(set(get_args(Arch)) - set(TEXT_ARCHITECTURES)))
def test_every_image_architecture_trains_and_answers(few: Path, tmp_path: Path, arch: str) -> None:
    options = ["--arch", arch, "--epochs", 1, "--batch-size", 6, "--optimizer", "sgd"]
    if "resnet" in arch:
        options += ["--width-multiplier", 0.125]
    best = trained(few, tmp_path / "run", *options, "--val-share", 0)
    records = json.loads(run("classify", few / "train", "-m", best, "-f", "json").out)
    assert [len(record["labels"]) for record in records] == [1] * 6
    header = checkpoint.read_header(best)
    assert header.arch == arch
    if arch != "knn":
        assert math.isfinite(json.loads((best.parent / "log.jsonl").read_text())["loss"])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("data") / "few", {"train": 2})


def test_several_models_vote(stripes: Path, model: Path, tmp_path: Path) -> None:
    other = trained(stripes, tmp_path / "other", *TINY, "--seed", 5, "--epochs", 1)
    path = stripes / "test" / "amber" / "0.png"
    options = [path, "--top", 3, "-f", "json", "--device", "cpu", "--precision", "fp32"]

    def answer(*models: Path) -> dict[str, float]:
        chosen = [word for m in models for word in ("-m", m)]
        record = json.loads(run("classify", *options, *chosen).out)[0]
        return {prediction["label"]: prediction["score"] for prediction in record["labels"]}

    first, second, both = answer(model), answer(other), answer(model, other)
    for label in COLORS:
        assert both[label] == pytest.approx((first[label] + second[label]) / 2, abs=2e-4)


def test_a_resumed_run_ends_with_the_same_weights(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*TINY, "--cutout", 0.3, "--mixup", 0.4, "--randaugment", 5]
    whole = trained(stripes, tmp_path / "whole", *options)
    finish = Run.finish_epoch

    def killed_in_the_last(self: Run, *args: Any, **metrics: Any) -> bool:
        if self.epoch == 2:
            raise DlkitError("killed")
        return finish(self, *args, **metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish_epoch", killed_in_the_last)
        assert train(stripes, tmp_path / "cut", *options).code == 2
    trained(stripes, tmp_path / "cut", *options, "--resume")
    ours = checkpoint.load(whole.with_name("last.safetensors"))[1]
    theirs = checkpoint.load(tmp_path / "cut" / "last.safetensors")[1]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("arch", ["perceptron", "adaline", "linear", "mlp", "knn"])
def test_the_beginnings_learn_colors(stripes: Path, tmp_path: Path, arch: str) -> None:
    result = run(
        "classify", "train", stripes, "--arch", arch, "--epochs", 4, "--out", tmp_path / arch,
        "--workers", 0, "--device", "cpu",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert evaluated(stripes, "-m", result.out.strip())["top1", "all"] >= 0.9


def test_linear_shows_its_templates(stripes: Path, tmp_path: Path) -> None:
    trained(stripes, tmp_path / "run", "--arch", "linear")
    with Image.open(tmp_path / "run" / "templates.png") as picture:
        assert picture.width > 3 * SIDE


def test_knn_on_a_networks_features(stripes: Path, model: Path, tmp_path: Path) -> None:
    options = ["--arch", "knn", "--features-from", model, "--neighbors", 3]
    neighbors = trained(stripes, tmp_path / "run", *options)
    assert evaluated(stripes, "-m", neighbors)["top1", "all"] == 1.0


def test_images_with_several_labels(tmp_path: Path) -> None:
    """Label `wide` for lying stripes, `warm` for amber; an image may have none or both."""
    rows = []
    (tmp_path / "images").mkdir()
    for seed in range(60):
        color = ["amber", "cyan"][seed % 2]
        picture = striped(color, seed)
        wide = seed % 4 < 2
        if wide:
            picture = picture.rotate(90)
        path = f"images/{seed}.png"
        picture.save(tmp_path / path)
        labels = ["warm"] * (color == "amber") + ["wide"] * wide
        split = "test" if seed >= 48 else "train"
        rows.append(f"{path},{';'.join(labels)},{split}")
    data = tmp_path / "all.csv"
    data.write_text("path,label,split\n" + "\n".join(rows) + "\n")
    best = trained(data, tmp_path / "run", *TINY, "--epochs", 8)
    last = best.with_name("last.safetensors")
    found = evaluated(data, "-m", last)
    assert found["map", "all"] > 0.95
    records = json.loads(run("classify", tmp_path / "images", "-m", last, "-f", "json").out)
    given = {Path(r["path"]).stem: {g["label"] for g in r["labels"]} for r in records}
    assert len({frozenset(labels) for labels in given.values()}) == 4
    assert "several labels" in train(data, tmp_path / "no", "--loss", "cross-entropy").err


def test_metric_learning_describes_images(stripes: Path, tmp_path: Path) -> None:
    options = ["--loss", "triplet", "--embedding", 8, "--epochs", 8, "--batch-size", 24]
    best = trained(stripes, tmp_path / "run", *TINY, *options)
    assert checkpoint.load(best)[1]["head.fc.weight"].shape[0] == 8
    assert evaluated(stripes, "-m", best)["recall_at_1", "all"] == 1.0
    refused = run("classify", stripes / "test", "-m", best)
    assert refused.code == 2
    assert "search" in refused.err


def test_transfer_starts_from_weights_and_freezes(
    stripes: Path, model: Path, tmp_path: Path
) -> None:
    options = [*TINY, "--init-from", model, "--freeze", "features", "--epochs", 1]
    moved = checkpoint.load(trained(stripes, tmp_path / "run", *options))[1]
    before = checkpoint.load(model)[1]
    for name, tensor in before.items():
        same = torch.equal(tensor, moved[name])
        assert same == name.startswith("features"), name
    other = ["--image-size", 36, "--fit", "squash"]
    larger = trained(stripes, tmp_path / "larger", *options, *other)
    inputs = checkpoint.read_header(larger).settings["preprocessing"]
    assert (inputs["image_size"], inputs["fit"]) == (36, "squash")
    options[options.index("features")] = "2"
    moved = checkpoint.load(trained(stripes, tmp_path / "two", *options))[1]
    convolutions = [name for name, tensor in before.items() if tensor.dim() == 4]
    kept = [torch.equal(before[name], moved[name]) for name in convolutions]
    assert kept == [True, True, *[False] * (len(kept) - 2)]


def test_frozen_layers_must_have_the_weights_they_start_from(
    stripes: Path, model: Path, tmp_path: Path
) -> None:
    freeze = ["--freeze", "features", "--epochs", 1]
    wider = ["--arch", "resnet9", "--width-multiplier", "0.25", "--init-from", model, *freeze]
    refused = train(stripes, tmp_path / "wider", *wider)
    assert refused.code == 2
    assert f"--freeze features: the weights of {model} do not fit: features.0.0.weight" in (
        refused.err
    )
    assert "needs the shape (16, 3, 3, 3) and has (8, 3, 3, 3)" in refused.err
    assert not list((tmp_path / "wider").rglob("*.safetensors"))
    refused = train(stripes, tmp_path / "random", *TINY, *freeze)
    assert refused.code == 2
    assert "--freeze features: the frozen layers have no trained weights" in refused.err
    # A part that fits may be frozen, and a run is resumed without its source.
    trained(stripes, tmp_path / "run", *TINY, *freeze, "--init-from", model)
    trained(stripes, tmp_path / "run", *TINY, *freeze, "--resume")


def test_rare_labels_weigh_as_much(tmp_path: Path) -> None:
    from dlkit.classify.train import balanced_weights

    weights = balanced_weights(torch.tensor([0] * 6 + [1] * 2), 2)
    assert weights.tolist() == pytest.approx([8 / 12, 8 / 4])
    assert float((weights * torch.tensor([6.0, 2.0])).sum()) == pytest.approx(8)
    multi_label = balanced_weights(torch.tensor([[1.0, 0], [0, 0], [0, 1], [0, 1]]), 2)
    assert multi_label.tolist() == pytest.approx([3, 1])


def test_weights_that_start_from_zeros_do_not_learn(stripes: Path, tmp_path: Path) -> None:
    options = ["--arch", "mlp", "--hidden", "16", "--norm", "none", "--init", "zeros"]
    best = trained(stripes, tmp_path / "run", *options)
    assert evaluated(stripes, "-m", best)["top1", "all"] == pytest.approx(1 / 3, abs=1e-5)


def test_l1_makes_weights_small(stripes: Path, tmp_path: Path) -> None:
    def size(name: str, *options: Any) -> float:
        best = trained(stripes, tmp_path / name, "--arch", "linear", *options)
        return float(
            checkpoint.load(best.with_name("last.safetensors"))[1]["head.fc.weight"].abs().sum()
        )

    assert size("l1", "--l1", 1.0) < 0.7 * size("none")


def test_cross_validation_trains_once_a_fold(stripes: Path, model: Path) -> None:
    found = scores(
        run(
            "classify",
            "evaluate",
            stripes,
            "-m",
            model,
            "--folds",
            3,
            "-f",
            "json",
            "--device",
            "cpu",
        )
    )
    folds = [found["top1", f"fold {n}"] for n in (1, 2, 3)]
    assert found["top1", "mean"] == pytest.approx(np.mean(folds), abs=1e-4)
    assert found["top1", "deviation"] == pytest.approx(np.std(folds, ddof=1), abs=1e-4)
    assert found["top1", "mean"] > 0.8


def test_a_folder_without_splits_is_dealt_out(tmp_path: Path) -> None:
    from dlkit.classify.layouts import read_split

    data = write_folders(tmp_path, {"x": 20}) / "x"
    parts = {s: read_split(data, s, share=0.2, seed=3).samples for s in ("train", "val", "test")}
    paths = {name: {sample.path for sample in part} for name, part in parts.items()}
    assert {name: len(part) for name, part in paths.items()} == {"test": 12, "val": 9, "train": 39}
    assert len(set.union(*paths.values())) == 60
    assert read_split(data, "test", share=0.2, seed=3).samples == parts["test"]
    assert read_split(data, "test", share=0.2, seed=4).samples != parts["test"]
    counts = np.bincount([sample.labels[0] for sample in parts["test"]])
    assert counts.tolist() == [4, 4, 4]
    assert len(read_split(data, "all").samples) == 60


def with_one_label(data: Path) -> None:
    for label in ("blue", "cyan"):
        shutil.rmtree(data / "train" / label)


def with_an_empty_folder(data: Path) -> None:
    for path in (data / "train" / "blue").iterdir():
        path.unlink()


def without_training(data: Path) -> None:
    shutil.rmtree(data / "train")


@pytest.mark.parametrize(
    ("break_it", "options", "code", "message"),
    [
        (with_one_label, [], 2, "only one label"),
        (with_an_empty_folder, [], 0, "without images"),
        (lambda d: (d / "train" / "blue" / "0.png").write_bytes(b"x"), [], 0, "unreadable image"),
        (lambda d: (d / "train" / "blue" / "0.png").write_bytes(b"x"), ["--strict"], 2, "--strict"),
        (lambda d: None, ["--freeze", "most"], 2, "give a number of layers"),
        (lambda d: None, ["--init-from", "nothing"], 2, "unknown model 'nothing'"),
        (lambda d: None, ["--pretrained"], 2, "no ImageNet weights of resnet9"),
        (lambda d: None, ["--hidden", "7"], 2, "hidden"),
        (lambda d: None, ["--ngrams", "3"], 2, "--ngrams is for fasttext, not resnet9"),
        (
            lambda d: None,
            ["--arch", "bilstm"],
            2,
            f"--width-multiplier is for {', '.join(OWN['width_multiplier'])}, not bilstm",
        ),
        (lambda d: None, ["--margin", "0.5"], 2, "--margin goes with --loss triplet"),
        (lambda d: None, ["--loss", "triplet", "--mixup", "1"], 2, "--mixup goes with"),
        (without_training, [], 2, "no images in the split 'train'"),
        (shutil.rmtree, [], 2, "no such folder"),
    ],
)
def test_bad_data_and_settings_get_one_line(
    tmp_path: Path, break_it: Callable[[Path], Any], options: list[str], code: int, message: str
) -> None:
    data = write_folders(tmp_path / "data", {"train": 3, "test": 1})
    break_it(data)
    result = train(data, tmp_path / "run", *TINY, "--epochs", 1, *options)
    assert result.code == code, result.err
    assert message in result.err
    assert "Traceback" not in result.err


def test_bad_csv_gets_one_line(tmp_path: Path) -> None:
    data = tmp_path / "list.csv"
    data.write_text("path,label\nnone.png,a\n")
    assert "none of the listed images exists" in train(data, tmp_path / "run").err
    data.write_text("picture,label\nnone.png,a\n")
    assert "no column named path" in train(data, tmp_path / "run").err


def test_gray_and_16_bit_images_and_labels_unknown_to_the_model(
    stripes: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "test" / "blue"
    folder.mkdir(parents=True)
    picture = striped("blue", 7)
    picture.convert("LA").save(folder / "alpha.png")
    wide = np.asarray(picture.convert("L"), dtype=np.uint16) * 257
    Image.fromarray(wide).save(folder / "deep.png")
    (tmp_path / "test" / "violet").mkdir()
    picture.save(tmp_path / "test" / "violet" / "0.png")
    result = run("classify", "evaluate", tmp_path, "-m", model, "-f", "json")
    assert scores(result)["samples", "blue"] == 2
    assert "unknown label" in result.err
    assert "2 of the model's 3 labels are not in" in result.err


def test_gray_data_trains_a_gray_network(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data", {"train": 4, "val": 2})
    for path in data.rglob("*.png"):
        with Image.open(path) as image:
            gray = image.convert("L")
        gray.save(path)
    best = trained(data, tmp_path / "run", *TINY, "--epochs", 1)
    header = checkpoint.read_header(best)
    assert header.settings["preprocessing"]["channels"] == 1
    assert header.config["flip"] == 0.0
    assert run("classify", data / "val", "-m", best).code == 0


def test_a_class_map_of_a_larger_image(model: Path, tmp_path: Path) -> None:
    """Blue on the left, cyan on the right: so say the map's first and last columns."""
    wide = Image.new("RGB", (4 * SIDE, 2 * SIDE))
    for row in range(2):
        for column in range(4):
            tile = striped("blue" if column < 2 else "cyan", 3)
            wide.paste(tile, (column * SIDE, row * SIDE))
    path = tmp_path / "wide.png"
    wide.save(path)
    record = json.loads(run("classify", path, "-m", model, "--dense", "-f", "json").out)[0]
    assert {row[0] for row in record["labels"]} == {"blue"}
    assert {row[-1] for row in record["labels"]} == {"cyan"}
    assert record["x"][0] == SIDE / 2
    assert record["x"][-1] == 3.5 * SIDE
    assert record["y"] == sorted(record["y"])
    text = run("classify", path, "-m", model, "--dense").out.splitlines()
    assert len(text) == len(record["x"]) * len(record["y"])
    small = run("classify", path, "-m", model, "--dense", "--image-size", 40)
    assert small.code == 1
    assert "--dense needs 28 a side" in small.err


TEXTS = {
    "cold": ["snow and ice", "a frozen lake", "ice in the wind", "frost, snow, frost"],
    "warm": ["sun and sand", "a hot beach", "sand in the sun", "heat, sun, heat"],
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for short texts, trained on files with a text a line."""
    root = tmp_path_factory.mktemp("texts")
    for label, texts in TEXTS.items():
        (root / f"{label}.txt").write_text(
            "\n".join(f"{text} {n}" for n in range(8) for text in texts)
        )
    options = "--arch fasttext --epochs 12 --batch-size 8 --lr 0.05 --ngrams 1 --device cpu"
    done = run("classify", "train", root, "--out", root / "run", *options.split())
    assert done.code == 0, done.err
    return Path(done.out.strip())


def test_texts_are_classified_line_by_line(words: Path, tmp_path: Path) -> None:
    lines = "snow and frost\nheat on the sand\n"
    answer_queries = run("classify", "-m", words, stdin=lines).out.splitlines()
    assert [answer.split("\t")[0] for answer in answer_queries] == ["cold", "warm"]
    (tmp_path / "notes.txt").write_text(lines)
    record = json.loads(run("classify", tmp_path / "notes.txt", "-m", words, "-f", "json").out)[1]
    assert record["text"] == "heat on the sand"
    assert run("classify", "-m", words, "--text", "ice").out.startswith("cold\t")
    found = evaluated(words.parent.parent, "-m", words)
    assert found["top1", "all"] == 1.0


@pytest.mark.parametrize("arch", [*TEXT_ARCHITECTURES, "hierarchical"])
def test_every_text_architecture_trains_and_answers(words: Path, tmp_path: Path, arch: str) -> None:
    options = ["--arch", "attention", "--sentences"] if arch == "hierarchical" else ["--arch", arch]
    data = words.parent.parent
    options += ["--epochs", "10", "--batch-size", "8", "--embedding-size", "16", "--lr", "0.02"]
    done = run("classify", "train", data, "--out", tmp_path / "run", "--device", "cpu", *options)
    assert done.code == 0, done.err
    last = tmp_path / "run" / "last.safetensors"
    assert run("classify", "-m", last, "--text", "snow").out.startswith("cold")
    assert evaluated(data, "-m", last)["top1", "all"] == 1.0


def test_texts_are_cross_validated(words: Path) -> None:
    options = ["-m", words, "--folds", 2, "--device", "cpu"]
    found = evaluated(words.parent.parent, *options)
    assert found["top1", "mean"] == pytest.approx(
        (found["top1", "fold 1"] + found["top1", "fold 2"]) / 2, abs=1e-4
    )
    assert found["top1", "mean"] > 0.9


def test_the_words_that_count_are_shown(words: Path, tmp_path: Path) -> None:
    result = run(
        "classify", "explain", "-m", words, "--text", "snow on the beach", "--save", tmp_path
    )
    weights = {row.split("\t")[1]: float(row.split("\t")[2]) for row in result.out.splitlines()}
    assert list(weights) == ["snow", "on", "the", "beach"]
    label = result.out.split("\t")[0]
    strong, weak = ("snow", "beach") if label == "cold" else ("beach", "snow")
    assert weights[strong] > 0 > weights[weak]
    assert "<span" in (tmp_path / "words.html").read_text()


def test_images_and_texts_are_not_mixed_up(model: Path, words: Path) -> None:
    assert "classifies images" in run("classify", "-m", model, "--text", "ice").err
    assert "no images" in run("classify", "-m", model).err
    assert run("classify", "features", "x.png", "-m", words).code == 2
    assert (
        "--text and files are both given"
        in run("classify", "a.txt", "--text", "ice", "-m", words).err
    )
