"""Captioners in training: their data, the features they start from, and what they learn."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dlkit.caption import data, features
from dlkit.caption.config import CaptionTrainConfig, by_arch
from dlkit.caption.data import EncodedCaptions, ImageBatches, normalize_caption
from dlkit.caption.layouts import CaptionedImage, read_split
from dlkit.caption.model import build
from dlkit.caption.train import augment, train
from dlkit.caption.validation import validation_scores
from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.core.parallel.distributed import Process
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header, read_header

SIDE = 32
SINGLE_PROCESS = Process(0, 1, torch.device("cpu"))
COLORS = {"red": (220, 40, 30), "blue": (40, 60, 230), "green": (30, 160, 60)}
NAMES = list(COLORS)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a run's many scores takes several times as long as these runs."""
    monkeypatch.setattr("dlkit.core.train.run.curves", lambda *_: None)


def picture(number: int) -> Image.Image:
    """A color above another one."""
    image = Image.new("RGB", (SIDE, SIDE), COLORS[NAMES[number % 3]])
    image.paste(COLORS[NAMES[(number + 1 + number // 3) % 3]], (0, SIDE // 2, SIDE, SIDE))
    return image


def sentences(number: int) -> list[str]:
    upper, lower = NAMES[number % 3], NAMES[(number + 1 + number // 3) % 3]
    return [f"A {upper} sky , above {lower} ground .", f"{upper} over {lower}"]


def save_images(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        picture(number).save(folder / name)
    return names


def write_csv(file: Path, header: list[str], rows: list[list[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([header, *rows])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in Flickr8k's layout, eight of them to train on."""
    root = tmp_path_factory.mktemp("captions") / "photos"
    names = save_images(root / "Images", 12)
    rows = [[name, text] for number, name in enumerate(names) for text in sentences(number)]
    write_csv(root / "captions.txt", ["image", "caption"], rows)
    for split, part in (("train", names[:8]), ("dev", names[8:10]), ("test", names[10:])):
        (root / f"Flickr_8k.{split}Images.txt").write_text("".join(f"{n}\n" for n in part))
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained classifier, whose maps tell colors apart well enough."""
    return classifier(tmp_path_factory.mktemp("encoder") / "encoder.safetensors", seed=0)


def classifier(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    inputs = {
        "image_size": SIDE, "fit": "crop", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
    }  # fmt: skip
    network: dict[str, Any] = {"num_labels": 2, "image_size": SIDE, "width_multiplier": 0.1}
    settings = {"arch": "resnet18", "network": network, "preprocessing": inputs}
    from dlkit.classify.model import build as classifier_of

    built = classifier_of("resnet18", **network)
    described = {"network": network, "preprocessing": inputs, "loss": "cross-entropy"}
    header = Header("classify", "resnet18", described, ["a", "b"])
    checkpoint.save(path, built.state_dict(), header)
    assert backbones.load(str(path))[1] == settings
    return path


def settings(out: Path, photos: Path, encoder: Path, **changed: Any) -> CaptionTrainConfig:
    known: dict[str, Any] = {
        "data": photos, "out": out, "backbone": str(encoder), "grid": 2, "width": 16, "epochs": 2,
        "batch_size": 4, "dropout": 0.0, "workers": 0, "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return CaptionTrainConfig(**{**known, **changed})


def weights(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path, "caption")[1]


# ---- layouts -------------------------------------------------------------------------------------


def test_flickrs_folder_with_its_splits(photos: Path) -> None:
    found = read_split(photos, "train")
    assert [sample.path.name for sample in found.samples] == [f"{n}.png" for n in range(8)]
    assert found.samples[1].captions == [
        "A blue sky , above green ground .",
        "blue over green",
    ]
    assert [s.path.name for s in read_split(photos, "val").samples] == ["8.png", "9.png"]
    assert len(read_split(photos, "test").samples) == 2
    assert len(read_split(photos, "all").samples) == 12
    assert not found.skipped.places


def test_flickrs_token_file_without_splits(tmp_path: Path) -> None:
    """Parts are dealt by image, the same ones in each call, and nothing is in two of them."""
    names = save_images(tmp_path / "Flicker8k_Dataset", 10)
    lines = [f"{name}#{k}\tsentence {k} of {name}\n" for name in names for k in range(3)]
    tokens = tmp_path / "Flickr8k.token.txt"
    tokens.write_text("".join(lines) + "no tab\n")
    (tmp_path / "Flickr8k.lemma.token.txt").write_text("0.png#0\tlemma\n")
    for source in (tmp_path, tokens):
        parts = [read_split(source, split, 0.2, 3) for split in ("train", "val", "test")]
        paths = [{sample.path for sample in part.samples} for part in parts]
        assert [len(part) for part in paths] == [6, 2, 2]
        assert len(set.union(*paths)) == 10
        assert parts[0].samples[0].captions[2].startswith("sentence 2 of ")
        assert parts[0].skipped.places == {"line without a tab": [f"{tokens}:31"]}


def coco(file: Path, names: list[str], captions: dict[str, list[str]]) -> None:
    file.parent.mkdir(exist_ok=True)
    images = [{"id": 7 * n, "file_name": name} for n, name in enumerate(names)]
    annotations = [
        {"id": 0, "image_id": 7 * n, "caption": text}
        for n, name in enumerate(names)
        for text in captions.get(name, [])
    ]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))


def test_cocos_folder(tmp_path: Path) -> None:
    names = save_images(tmp_path / "images", 4)
    annotations = tmp_path / "annotations"
    coco(annotations / "captions_train2017.json", names[:3], {"0.png": ["a", "b"], "2.png": ["c"]})
    coco(annotations / "captions_val2017.json", names[3:], {"3.png": ["d"]})
    (annotations / "instances_train2017.json").write_text("{}")
    found = read_split(tmp_path, "train")
    assert [(s.path.name, s.captions) for s in found.samples] == [
        ("0.png", ["a", "b"]),
        ("2.png", ["c"]),
    ]
    assert list(found.skipped.places) == ["image without a caption"]
    assert [s.captions for s in read_split(tmp_path, "val").samples] == [["d"]]
    assert len(read_split(tmp_path, "all").samples) == 3
    # Without a json of its own, the validation is a share of the training images.
    (annotations / "captions_val2017.json").unlink()
    train_, val = read_split(tmp_path, "train", 0.5), read_split(tmp_path, "val", 0.5)
    assert len(train_.samples) == len(val.samples) == 1
    assert train_.samples[0].path != val.samples[0].path


def test_a_csv_with_and_without_splits(tmp_path: Path) -> None:
    names = save_images(tmp_path / "pictures", 4)
    rows = [[f"pictures/{name}", text] for name in names for text in ("one", "two")]
    write_csv(tmp_path / "train.csv", ["Path", "Caption"], rows[:6])
    write_csv(tmp_path / "val.csv", ["path", "caption"], rows[6:])
    assert [len(read_split(tmp_path, s).samples) for s in ("train", "val")] == [3, 1]
    one = tmp_path / "all.csv"
    parts = ["train", "train", "dev", "test"]
    write_csv(
        one, ["path", "caption", "split"], [[*row, parts[n // 2]] for n, row in enumerate(rows)]
    )
    assert [len(read_split(one, s).samples) for s in ("train", "val", "test")] == [2, 1, 1]
    assert read_split(one, "val").samples[0].captions == ["one", "two"]


def test_what_cannot_be_used_is_counted_and_named(tmp_path: Path) -> None:
    save_images(tmp_path / "i", 3)
    rows = [
        ["i/0.png", "Ein Hund läuft"], ["i/gone.png", "one"], ["i/gone.png", "two"],
        ["i/1.png", "  "], ["i/2.png", ""], ["i/2.png", "一只狗 в траве"],
    ]  # fmt: skip
    file = tmp_path / "all.csv"
    write_csv(file, ["path", "caption"], rows)
    found = read_split(file, "all")
    assert [sample.captions for sample in found.samples] == [["Ein Hund läuft"], ["一只狗 в траве"]]
    assert found.skipped.places == {
        "missing image": [f"{tmp_path / 'i/gone.png'} ({file}:3)"],
        "empty caption": [f"{file}:5", f"{file}:6"],
        "image without a caption": [str(tmp_path / "i/1.png")],
    }


def test_listed_images_without_captions_are_named(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "Images").mkdir(parents=True)
    picture(0).save(root / "Images" / "0.png")
    write_csv(root / "captions.txt", ["image", "caption"], [["0.png", "red"]])
    (root / "x.trainImages.txt").write_text("0.png\nother.png\n")
    found = read_split(root, "train", 0.0)
    assert found.skipped.places == {
        "image without a caption": [f"other.png ({root / 'x.trainImages.txt'})"]
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "no such folder or file"),
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "not COCO's captions: no usable 'annotations'"),
        ("a.csv", "path,words\nx,y\n", "no column named caption or captions or text"),
        ("a.csv", "path,caption\nx.png,y\n", "no image of 'all' exists and has a caption"),
        ("a.csv", "path,caption\n", "no captions for the split 'all'"),
        ("folder/", None, "no captions in a known layout"),
    ],
)
def test_data_without_captions_is_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DlkitError, match=message):
        read_split(path, "all")


# ---- captions as ids -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "learned"),
    [
        ("A tri-colored dog 's ball , isn't red !", "a tri-colored dog s ball isn't red"),
        ("Two dogs : `` play ''", "two dogs play"),
        ("Ein Mädchen läuft.", "ein mädchen läuft"),
        ("Собака бежит по траве.", "собака бежит по траве"),
        ("एक कुत्ता दौड़ रहा है।", "एक कुत्ता दौड़ रहा है"),
        ("一只狗在草地上跑。", "一只狗在草地上跑"),
        ("...", ""),
    ],
)
def test_captions_are_learned_without_case_and_punctuation(caption: str, learned: str) -> None:
    assert normalize_caption(caption, keep_case=False) == learned
    assert normalize_caption(caption, keep_case=True) == caption


@pytest.mark.parametrize("tokenizer", ["words", "byte-bpe", "unigram"])
def test_captions_come_back_from_their_ids(
    photos: Path, encoder: Path, tmp_path: Path, tokenizer: str
) -> None:
    size = 60 if tokenizer == "unigram" else 300
    config = settings(tmp_path, photos, encoder, tokenizer=tokenizer, vocab_size=size)
    made = data.load_data(by_arch(config))
    assert (len(made.training), len(made.validation.samples)) == (16, 2)
    texts = [made.vocabulary.decode(ids) for ids in made.training.ids]
    assert texts[2:4] == ["a blue sky above green ground", "blue over green"]
    assert made.training.images == [n // 2 for n in range(16)]


def test_long_captions_and_mere_punctuation_are_left_out(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    save_images(tmp_path / "i", 2)
    rows = [["i/0.png", "one two three"], ["i/0.png", "..."], ["i/1.png", "one two"]]
    write_csv(tmp_path / "all.csv", ["path", "caption", "split"], [[*row, "train"] for row in rows])
    config = settings(tmp_path, tmp_path / "all.csv", encoder, max_tokens=2, val_share=0.0)
    made = data.load_data(by_arch(config))
    assert (made.training.images, len(made.training)) == ([1], 1)
    assert made.skipped.places == {
        "caption of more than 2 tokens": [str(tmp_path / "i/0.png")],
        "caption of punctuation only": [str(tmp_path / "i/0.png")],
    }


def test_captions_whose_words_have_no_spaces_are_noticed(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_images(tmp_path / "i", 3)
    rows = [["i/0.png", "狗在跑"], ["i/1.png", "在跑狗"], ["i/2.png", "狗狗在跑。"]]
    write_csv(tmp_path / "all.csv", ["path", "caption", "split"], [[*row, "train"] for row in rows])
    for tokenizer, noticed in (("words", True), ("char", False)):
        config = settings(tmp_path, tmp_path / "all.csv", encoder, tokenizer=tokenizer, val_share=0)
        config = replace(config, vocab_size=40)
        made = data.load_data(by_arch(config))
        assert ("tokens are not in the vocabulary" in capsys.readouterr().err) is noticed
    assert [len(ids) for ids in made.training.ids] == [5, 5, 6]


@pytest.mark.parametrize("ranks", [1, 3])
def test_an_epoch_of_pictures_has_each_caption_once(
    photos: Path, encoder: Path, tmp_path: Path, ranks: int
) -> None:
    config = by_arch(settings(tmp_path, photos, encoder, batch_size=6))
    made = data.load_data(config)
    inputs = backbones.load(str(encoder))[0].preprocessing
    orders: list[list[str]] = []
    for epoch in (0, 1, 1):
        seen: list[str] = []
        for rank in range(ranks):
            process = Process(rank, ranks, torch.device("cpu"))
            pictures = ImageBatches(made.training, inputs, config, process, epoch, 0)
            for number in range(len(pictures)):
                pixels, target, _, owners = pictures[number]
                assert len(pixels) * 2 == len(target) == len(owners) <= 6
                for owner, ids in zip(owners.tolist(), target, strict=True):
                    upper = made.vocabulary.decode(ids[1:].tolist()).split()
                    color = upper[1] if upper[0] == "a" else upper[0]
                    assert tuple(pixels[owner, :, 0, 0].tolist()) == COLORS[color]
                    seen.append(made.vocabulary.decode(ids[1:].tolist()))
        orders.append(list(seen))
    assert orders[1] == orders[2] != orders[0]
    if ranks == 1:
        expected = [made.vocabulary.decode(ids) for ids in made.training.ids]
        assert sorted(seen) == sorted(expected)


# ---- features ------------------------------------------------------------------------------------


def captioner(encoder: Path, image_size: int = SIDE) -> Any:
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


def test_captions_of_some_images_leave() -> None:
    samples = [CaptionedImage(Path(name)) for name in "abc"]
    ids = [np.array([n]) for n in range(4)]
    left = EncodedCaptions(samples, [0, 1, 1, 2], ids).without({"b": "bad"})
    assert (left.paths, left.images, [int(i[0]) for i in left.ids]) == (["a", "c"], [0, 1], [0, 3])


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "changed"),
    [
        ("nic", {}),
        ("attend", {"penalty": 0.1}),
        ("attend", {"hard_attention": True}),
        ("transformer", {"layers": 1, "encoder_layers": 1}),
        ("transformer", {"patch": 16, "image_size": 32, "layers": 1, "encoder_layers": 1}),
    ],
)
def test_every_architecture_learns(
    photos: Path, encoder: Path, tmp_path: Path, arch: str, changed: dict[str, Any]
) -> None:
    """Six pictures with a caption each, which are also those to validate on."""
    rows = [[str(photos / "Images" / f"{n}.png"), sentences(n)[0]] for n in range(6)]
    for split in ("train", "val"):
        write_csv(tmp_path / f"{split}.csv", ["path", "caption"], rows)
    config = settings(
        tmp_path / "run", tmp_path, encoder, arch=arch, epochs=20, batch_size=2, lr=0.01,
        label_smoothing=0.0, flip=0.0,
    )  # fmt: skip
    if "patch" in changed:
        config = replace(config, backbone="caltech101", grid=7)  # the defaults: it has none
    best = train(replace(config, **changed))
    header = read_header(best, "caption")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    assert log[-1]["val_loss"] < 0.6 * log[0]["val_loss"]
    assert max(entry["bleu_1"] for entry in log) > 0.7
    assert all(entry["score"] == entry["cider_d"] for entry in log)
    assert (header.arch, header.settings["longest"]) == (arch, 7)
    samples = (tmp_path / "run" / "samples.txt").read_text()
    assert samples.count("\n> ") == 3 * len(log)


def test_the_encoder_is_frozen_then_learns_more_slowly(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    shares = []
    real = torch.optim.AdamW.step

    def step(optimizer: Any, *arguments: Any) -> Any:
        shares.append(sorted({group["lr"] for group in optimizer.param_groups}))
        return real(optimizer, *arguments)

    with mock.patch.object(torch.optim.AdamW, "step", step):
        train(settings(tmp_path / "a", photos, encoder, finetune_encoder_after=1, encoder_lr=0.5))
    assert all(low == pytest.approx(high / 2) for low, high in shares)
    before = backbones.load(str(encoder))[0].state_dict()
    train(settings(tmp_path / "b", photos, encoder))
    tuned, frozen = (
        weights(tmp_path / "a/last.safetensors"),
        weights(tmp_path / "b/last.safetensors"),
    )
    assert all(torch.equal(frozen[f"encoder.{name}"], t) for name, t in before.items())
    kernel = next(name for name, tensor in before.items() if tensor.dim() == 4)
    assert not torch.equal(tuned[f"encoder.{kernel}"], before[kernel])
    means = [name for name in before if name.endswith("running_mean")]
    assert all(torch.equal(tuned[f"encoder.{name}"], before[name]) for name in means)


class Stop(Exception):
    """Ends a run in its middle."""


@pytest.mark.parametrize("after", [1, 2], ids=lambda after: f"tuned-from-{after}")
def test_a_resumed_run_is_the_uninterrupted_one(
    photos: Path, encoder: Path, tmp_path: Path, after: int
) -> None:
    """Interrupted in the second epoch, with the encoder already learning, or not yet."""
    changed: dict[str, Any] = {"hard_attention": True, "epochs": 3, "dropout": 0.3, "ema": 0.9,
                               "finetune_encoder_after": after}  # fmt: skip
    whole = train(settings(tmp_path / "whole", photos, encoder, **changed))
    calls = 0

    def scores(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Stop
        return validation_scores(*arguments)

    target = "dlkit.caption.train.validation_scores"
    with mock.patch(target, scores), pytest.raises(Stop):
        train(settings(tmp_path / "parts", photos, encoder, **changed))
    parts = train(settings(tmp_path / "parts", photos, encoder, **changed, resume=True))
    for name in ("best.safetensors", "last.safetensors"):
        both = [weights(path.with_name(name)) for path in (whole, parts)]
        assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())


def test_training_goes_on_from_a_model_with_its_vocabulary(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    first = train(settings(tmp_path / "first", photos, encoder, arch="nic", vocab_size=10))
    start = CaptionTrainConfig(
        data=photos, out=tmp_path / "second", init_from=str(first), epochs=1, lr=0.0, workers=0,
        dropout=0.0, device="cpu", precision="fp32",
    )  # fmt: skip
    second = train(start)
    headers = [read_header(path) for path in (first, second)]
    assert headers[0].settings == headers[1].settings
    both = [weights(path) for path in (first, second)]
    assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())
    with pytest.raises(DlkitError, match="--width comes from the model"):
        train(replace(start, width=32))
    with pytest.raises(DlkitError, match="has --arch nic; do not give --arch transformer"):
        train(replace(start, arch="transformer"))


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


def test_unreadable_images_are_left_out_and_listed(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    rows = [[str(photos / "Images" / f"{n}.png"), sentences(n)[0]] for n in range(8)]
    rows.append([str(tmp_path / "bad.png"), "a red sky"])
    write_csv(tmp_path / "all.csv", ["path", "caption", "split"], [[*row, "train"] for row in rows])
    for after in (None, 0):
        out = tmp_path / f"run-{after}"
        train(
            settings(
                out,
                tmp_path / "all.csv",
                encoder,
                epochs=1,
                val_share=0.3,
                finetune_encoder_after=after,
            )  # fmt: skip
        )
        (line,) = (out / "skipped.txt").read_text().splitlines()
        assert line.startswith(f"unreadable image\t{tmp_path / 'bad.png'}")


def test_zoom_and_recolor_change_images_within_their_limits() -> None:
    config = CaptionTrainConfig(data=Path(), zoom=1.5, finetune_encoder_after=0)
    flat = torch.full((4, 3, 16, 16), 100.0)
    left = torch.zeros(4, 3, 16, 16)
    left[..., :8] = 200.0
    torch.manual_seed(0)
    torch.testing.assert_close(augment(flat, config), flat)  # any part of it is alike
    zoomed = augment(left, config)
    assert not torch.allclose(zoomed, left)
    torch.testing.assert_close(zoomed.mean((1, 2, 3)), left.mean((1, 2, 3)), rtol=0.05, atol=0)
    jitter_color = augment(flat, replace(config, zoom=1.0, color_jitter=0.2))
    assert jitter_color.std() > 1
    assert ((jitter_color >= 64) & (jitter_color <= 144)).all()
    plain = replace(config, zoom=1.0)
    assert torch.equal(augment(left, plain), left)
