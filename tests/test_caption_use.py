"""Captioners in use: searching, drawing, looking, printing and evaluating."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from dlkit.caption import infer
from dlkit.caption.attention import attention_shade, token_attention, word_attention
from dlkit.caption.config import Search
from dlkit.caption.draw import wrap_text
from dlkit.caption.evaluate import EvaluatedCaption, save_sheet, scores
from dlkit.caption.infer import ImageCaptions, Predictor, caption, decode, load
from dlkit.caption.layouts import CaptionedImage
from dlkit.caption.model import build
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.sampling import Sampling
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import DecoderVocabulary
from tests.conftest import run

SIDE = 64
ARCHITECTURES = ("nic", "attend", "transformer", "patches")
COLORS = {"red": (220, 40, 30), "blue": (40, 60, 230), "green": (30, 160, 60)}
PREPROCESSING = {
    "image_size": SIDE, "fit": "squash", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
}  # fmt: skip
BACKBONE = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": SIDE, "width_multiplier": 0.0625},
    "preprocessing": PREPROCESSING,
}


# ---- ten pictures, and captioners that know them by heart ----------------------------------------


def pictures() -> list[tuple[Image.Image, str]]:
    """Ten pictures of a disc or a box, each with its caption."""
    made = []
    for number in range(10):
        name = list(COLORS)[number % 3]
        shape, side = ("disc", "box")[number // 3 % 2], ("left", "right")[number // 6]
        image = Image.new("RGB", (SIDE, SIDE), (235, 235, 225))
        canvas = ImageDraw.Draw(image)
        x = 4 + 30 * (side == "right")
        corners = (x, 14, x + 25, 39 + number)
        draw = canvas.ellipse if shape == "disc" else canvas.rectangle
        draw(corners, fill=COLORS[name])
        made.append((image, f"{number + 1} times a {name} {shape} on the {side}"))
    return made


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten pictures in Flickr8k's layout, each in all splits, five captions an image."""
    root = tmp_path_factory.mktemp("captions") / "photos"
    (root / "Images").mkdir(parents=True)
    names, rows = [], []
    for number, (image, sentence) in enumerate(pictures()):
        names.append(f"{number}.png")
        image.save(root / "Images" / names[-1])
        rows += [[names[-1], sentence], [names[-1], f"This is {sentence} ."]]
    with (root / "captions.txt").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "caption"], *rows])
    for split in ("train", "dev", "test"):
        text = "".join(f"{name}\n" for name in names)
        (root / f"Flickr_8k.{split}Images.txt").write_text(text)
    return root


def network_of(arch: str, vocabulary: DecoderVocabulary) -> tuple[str, dict[str, Any]]:
    """The name and settings of a tiny network."""
    common = {**vocabulary.network_settings(), "image_size": SIDE, "width": 32, "dropout": 0.0}
    if arch == "patches":
        return "transformer", {**common, "patch": 16, "layers": 2, "encoder_layers": 1, "heads": 2}
    with_backbone = {**common, "backbone": BACKBONE, "grid": 4}
    if arch == "transformer":
        return arch, {**with_backbone, "layers": 2, "encoder_layers": 1, "heads": 2}
    return arch, with_backbone


@cache
def vocabulary() -> DecoderVocabulary:
    return DecoderVocabulary.learn(2 * [text for _, text in pictures()], "words", 25)


def untrained(arch: str) -> Predictor:
    torch.manual_seed(0)
    name, settings = network_of(arch, vocabulary())
    network = build(name, **settings).eval().requires_grad_(False)
    return Predictor(arch, network, vocabulary())


def pixels() -> Tensor:
    arrays = [np.array(image) for image, _ in pictures()]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def learn(model: Predictor) -> None:
    """Train the decoder until it knows the ten captions."""
    network = model.network
    if network.encoder is not None:  # the batch norms see the pictures
        network.encoder.train()
        for _ in range(20):
            model.encode(pixels())
        network.encoder.eval()
    memory = model.encode(pixels()).clone()
    targets = model.vocabulary.encode_targets([text for _, text in pictures()])
    longest = max(map(len, targets))
    target = torch.tensor([[*ids, *[network.pad] * (longest - len(ids))] for ids in targets])
    trained = [p for n, p in network.named_parameters() if not n.startswith("encoder.")]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    for _ in range(400):
        logits = network(memory, target[:, :-1]).logits
        loss = F.cross_entropy(logits.transpose(1, 2), target[:, 1:], ignore_index=network.pad)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if loss.item() < 0.01:
            break
    network.requires_grad_(False)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a captioner that has learned the ten pictures, by its architecture."""
    folder = tmp_path_factory.mktemp("taught")

    @cache
    def made(arch: str) -> Path:
        model = untrained(arch)
        learn(model)
        path = folder / f"{arch}.safetensors"
        name, network = network_of(arch, vocabulary())
        settings = {"network": network, "tokenizer": vocabulary().to_settings()}
        checkpoint.save(path, model.network.state_dict(), Header("caption", name, settings, []))
        return path

    return made


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_was_learned_by_heart_is_said_word_for_word(
    arch: str, photos: Path, taught: Callable[[str], Path]
) -> None:
    done = run("caption", photos / "Images", "-m", taught(arch), "--device", "cpu")
    assert done.code == 0, done.err
    paths = sorted(photos.glob("Images/*.png"))
    expected = [f"{path}\t{pictures()[int(path.stem)][1]}" for path in paths]
    assert done.out.splitlines() == expected


# ---- searching -----------------------------------------------------------------------------------


def greedy(model: Predictor, memory: Tensor, longest: int) -> list[int]:
    """The most probable next token again and again, by teacher forcing from the start each time."""
    network = model.network
    ids = [network.bos]
    for _ in range(longest):
        logits = network(memory, torch.tensor([ids])).logits[0, -1]
        logits[[network.pad, network.bos, network.unk]] = -torch.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == network.eos:
            return ids[1:-1]
    return ids[1:]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_beam_of_one_is_greedy(arch: str, taught: Callable[[str], Path]) -> None:
    """Of pictures that lie over each other, which nobody taught it."""
    model = load(taught(arch), "cpu", "fp32")
    mixed = (pixels().float() + pixels().float().roll(1, dims=0)) / 2
    memory = model.encode(mixed.to(torch.uint8))
    found = decode(memory, range(10), model, Search(beam=1, max_length=9))
    expected = [greedy(model, memory[n : n + 1], 9) for n in range(10)]
    assert [texts[0].ids for texts in found] == expected
    assert len({tuple(ids) for ids in expected}) > 1


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_says_what_single_images_say(
    arch: str, precision: Precision, photos: Path, taught: Callable[[str], Path]
) -> None:
    """All beams and their scores; with the weights as they are shipped, in either precision."""
    model = load(taught(arch), "cpu", precision)
    paths = sorted(map(str, photos.glob("Images/*.png")))
    search = Search(beam=4, count=4, max_length=9)
    together = list(caption(paths, model, search, batch_size=10, workers=0))
    alone = [found for path in paths for found in caption([path], model, search, workers=0)]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, ImageCaptions)
        assert isinstance(other, ImageCaptions)
        assert [s.caption for s in one.captions] == [s.caption for s in other.captions]
        scores = [[s.score for s in found.captions] for found in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3 if precision == "fp32" else 0.05)


def test_the_captions_of_an_image_are_ranked_and_different() -> None:
    model = untrained("attend")
    for texts in decode(model.encode(pixels()), range(10), model, Search(beam=5, count=3)):
        assert len({tuple(text.ids) for text in texts}) == 3
        scores = [infer.score_text(text, model, Search()).score for text in texts]
        assert scores == sorted(scores, reverse=True)


def test_what_is_drawn_depends_on_the_seed_and_the_images_number(photos: Path) -> None:
    model = untrained("nic")
    paths = sorted(map(str, photos.glob("Images/*.png")))
    search = Search(count=2, sampling=Sampling(), seed=3, max_length=8)

    def said(numbers: list[int], search: Search) -> list[list[str]]:
        chosen = [paths[number] for number in numbers]
        found = infer.caption_numbered(chosen, numbers, model, search, batch_size=3, workers=0)
        return [[s.caption for s in of.captions] for of in found if isinstance(of, ImageCaptions)]

    everything = said([*range(10)], search)
    assert said([1, 4, 7], search) == [everything[number] for number in (1, 4, 7)]
    assert said([*range(10)], replace(search, seed=4)) != everything
    assert all(first != second for first, second in everything)
    cold = said([*range(10)], replace(search, sampling=Sampling(temperature=1e-4)))
    best = said([*range(10)], Search(beam=1, no_repeat=0, max_length=8))
    assert cold == [2 * texts for texts in best]


def test_a_search_that_cannot_be_is_refused() -> None:
    with pytest.raises(DlkitError, match="--captions 4: more than --beam 3"):
        Search(beam=3, count=4)


def test_numbers_that_overflow_are_a_failure(photos: Path) -> None:
    model = untrained("nic")
    model.network.get_parameter("embedding.weight").fill_(float("nan"))
    (found,) = caption([str(photos / "Images" / "0.png")], model, workers=0)
    assert isinstance(found, Failure)
    assert "fp32" in found.error


# ---- the command ---------------------------------------------------------------------------------


def test_formats_hold_the_same_captions(photos: Path, taught: Callable[[str], Path]) -> None:
    image = photos / "Images" / "3.png"
    command = ("caption", image, "-m", taught("patches"), "-n", 2, "--device", "cpu")
    text = run(*command, "--scores")
    assert text.code == 0, text.err
    rows = [line.split("\t") for line in text.out.splitlines()]
    assert [path for path, _, _ in rows] == 2 * [str(image)]
    assert rows[0][1] == pictures()[3][1]
    (record,) = json.loads(run(*command, "-f", "json").out)
    assert (record["width"], record["height"]) == (SIDE, SIDE)
    assert [f"{s['score']}" for s in record["captions"]] == [score for _, _, score in rows]
    assert json.loads(run(*command, "-f", "jsonl").out) == record
    table = list(csv.DictReader(io.StringIO(run(*command, "-f", "csv").out)))
    assert list(table[0]) == ImageCaptions.columns
    assert [row["caption"] for row in table] == [sentence for _, sentence, _ in rows]
    data = json.loads(run(*command, "-f", "coco").out)
    assert data["images"] == [{"id": 1, "file_name": str(image), "width": SIDE, "height": SIDE}]
    assert [(a["id"], a["image_id"], a["caption"]) for a in data["annotations"]] == [
        (rank, 1, sentence) for rank, (_, sentence, _) in enumerate(rows, start=1)
    ]


def test_bad_images_do_not_stop_the_others(
    photos: Path, tmp_path: Path, taught: Callable[[str], Path]
) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no image")
    good = photos / "Images" / "1.png"
    command = ("caption", damaged, good, tmp_path / "none.png", "-m", taught("patches"))
    done = run(*command, "--device", "cpu")
    assert done.code == 1
    assert done.out == f"{good}\t{pictures()[1][1]}\n"
    assert len(done.err.splitlines()) == 3
    records = [json.loads(line) for line in run(*command, "-f", "jsonl").out.splitlines()]
    assert ["error" in record for record in records] == [True, False, True]


def test_annotated_pictures_have_their_captions_below(
    photos: Path, tmp_path: Path, taught: Callable[[str], Path]
) -> None:
    image, out = photos / "Images" / "2.png", tmp_path / "out"
    command = ("caption", image, "-m", taught("patches"), "--annotate", out, "--device", "cpu")
    done = run(*command)
    assert done.code == 0, done.err
    drawn = np.array(Image.open(out / "2.png").convert("RGB"))
    left = (drawn.shape[1] - SIDE) // 2
    shown = drawn[:SIDE, left : left + SIDE]
    assert np.array_equal(shown, np.array(pictures()[2][0]))
    assert drawn.shape[0] > SIDE
    assert (drawn[SIDE:] < 128).any()
    refused = run("caption", image, "-m", taught("patches"), "--annotate", image.parent)
    assert refused.code == 2
    assert "choose another" in refused.err


def test_sentences_are_wrapped_between_words() -> None:
    font = ImageFont.load_default(12)
    text = "a man in a red shirt is climbing a steep rock above the sea"
    lines = list(wrap_text(text, 120, font))
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(font.getlength(line) <= 120 for line in lines)
    assert list(wrap_text("incomprehensibilities", 10, font)) == ["incomprehensibilities"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "--beam", "2"], "--beam: has no effect with --sample"),
        (["--sample", "--length-penalty", "1"], "--length-penalty: has no effect with --sample"),
        (["--sample", "--no-repeat", "2"], "--no-repeat: has no effect with --sample"),
        (["--temperature", "2"], "--temperature: has no effect without --sample"),
        (["--seed", "1"], "--seed: has no effect without --sample"),
        (["--sample", "--top-p", "0"], "--top-p 0 is not above 0"),
        (["--scores", "-f", "json"], "--scores: -f json always has the scores"),
        (["-n", "3", "--beam", "2"], "--captions 3: more than --beam 2; give --beam 3"),
        (["-o", "out.png"], "-o out.png: an image's name"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: list[str], message: str) -> None:
    done = run("caption", "photo.jpg", *options)
    assert done.code == 2
    assert message in done.err
    assert not done.out


def test_models_that_cannot_be_used_are_refused_in_a_line(
    tmp_path: Path, taught: Callable[[str], Path]
) -> None:
    header, weights = checkpoint.load(taught("nic"))

    def refusal(settings: dict[str, Any], arch: str = "nic") -> str:
        path = tmp_path / "bad.safetensors"
        checkpoint.save(path, weights, replace(header, settings=settings, arch=arch))
        with pytest.raises(DlkitError) as caught:
            load(path, "cpu")
        return str(caught.value)

    assert "tokenizer" in refusal({"network": header.settings["network"]})
    assert "unknown architecture 'lstm'" in refusal(header.settings, "lstm")
    wider = {**header.settings["network"], "width": 48}
    assert "its weights do not fit the architecture" in refusal(
        {**header.settings, "network": wider}
    )
    fewer = DecoderVocabulary.learn(["a b a b"], "words", 10).to_settings()
    assert "they belong to different models" in refusal({**header.settings, "tokenizer": fewer})


# ---- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["attend", "transformer", "patches"])
def test_attention_sums_to_one_over_the_grid(
    arch: str, photos: Path, taught: Callable[[str], Path]
) -> None:
    model = load(taught(arch), "cpu", "fp32")
    found = word_attention(str(photos / "Images" / "4.png"), model, Search())
    assert found.words == pictures()[4][1].split()
    assert found.grid == model.network.grid
    shares = np.array(found.weights).reshape(len(found.words), *found.grid)
    assert (shares >= 0).all()
    assert shares.sum(axis=(1, 2)) == pytest.approx(1, abs=1e-4)
    for word, row, of_word in zip(found.words, found.rows(), shares, strict=True):
        assert row["word"] == word
        assert row["weight"] == of_word[row["row"], row["column"]] == of_word.max()


def test_attention_is_that_of_teacher_forcing(taught: Callable[[str], Path]) -> None:
    model = load(taught("attend"), "cpu", "fp32")
    memory = model.encode(pixels()[:1])
    ids = model.vocabulary.encode_targets([pictures()[0][1]])[0]
    alphas = model.network(memory, torch.tensor([ids[:-1]])).alphas
    assert alphas is not None
    found = token_attention(memory, ids[1:-1], model)
    assert found == pytest.approx(alphas[0, : len(ids) - 2].numpy(), abs=1e-5)


def test_a_word_of_several_tokens_has_the_mean_of_their_attention(photos: Path) -> None:
    """A vocabulary of characters: each token is a letter, a word is many."""
    letters = DecoderVocabulary.learn([text for _, text in pictures()], "char", 60)
    torch.manual_seed(0)
    name, settings = network_of("patches", letters)
    model = Predictor("letters", build(name, **settings).eval().requires_grad_(False), letters)
    search = Search(beam=1, max_length=20)
    found = word_attention(str(photos / "Images" / "0.png"), model, search)
    memory = model.encode(pixels()[:1])
    ids = decode(memory, [0], model, search)[0][0].ids
    of_tokens = token_attention(memory, ids, model)
    text, start = letters.decode(ids), 0
    assert found.words == text.split()
    for word, shares in zip(found.words, found.weights, strict=True):
        start = text.index(word, start)
        letters_of_word = of_tokens[start : start + len(word)]
        assert shares == pytest.approx(letters_of_word.mean(0), abs=1e-5)
        start += len(word)


def test_the_attention_command_draws_a_panel_for_each_word(
    photos: Path, tmp_path: Path, taught: Callable[[str], Path]
) -> None:
    image, saved = photos / "Images" / "5.png", tmp_path / "panels.png"
    done = run("caption", "attention", image, "-m", taught("attend"), "--save", saved)
    assert done.code == 0, done.err
    assert [line.split("\t")[0] for line in done.out.splitlines()] == pictures()[5][1].split()
    with Image.open(saved) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors() or []) > 20
    records = json.loads(
        run("caption", "attention", image, "-m", taught("attend"), "-f", "json").out
    )
    assert len(records[0]["weights"]) == len(records[0]["words"])


def test_models_without_attention_say_so(photos: Path, taught: Callable[[str], Path]) -> None:
    done = run("caption", "attention", photos / "Images" / "0.png", "-m", taught("nic"))
    assert done.code == 2
    assert "a model without attention" in done.err
    assert len(done.err.splitlines()) == 1
    missing = run("caption", "attention", photos / "none.png", "-m", taught("attend"))
    assert missing.code == 2
    assert "none.png: no such file" in missing.err


def test_a_veil_is_thinnest_where_the_attention_is() -> None:
    shares = [0.0] * 16
    shares[6] = 1.0
    shade = attention_shade(shares, (4, 4), (80, 80))
    assert shade.shape == (80, 80, 4)
    thinnest = np.unravel_index(shade[..., 3].argmin(), (80, 80))
    assert tuple(np.array(thinnest) // 20) == (1, 2)
    assert shade[70:, :10, 3].min() > 0.7
    assert not attention_shade([0.25] * 4, (2, 2), (8, 8)).any()


# ---- evaluating ----------------------------------------------------------------------------------


def test_evaluate_scores_what_was_learned_and_saves_a_sheet(
    photos: Path, tmp_path: Path, taught: Callable[[str], Path]
) -> None:
    command = ("caption", "evaluate", photos, "-m", taught("patches"), "--save", tmp_path)
    done = run(*command, "--device", "cpu", "-f", "json")
    assert done.code == 0, done.err
    records = json.loads(done.out)
    scores = {record["metric"]: record["value"] for record in records}
    assert all(record["definition"] for record in records)
    assert scores["images"] == 10
    assert [scores[f"bleu_{n}"] for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert scores["rouge_l"] == scores["distinct"] == 1
    assert scores["new"] == 0
    said = {word for _, text in pictures() for word in text.split()}
    assert scores["words_used"] == len(said)
    assert scores["words_used_share"] == pytest.approx(len(said) / (len(said) + 2), abs=1e-4)
    with Image.open(tmp_path / "best-and-worst.png") as sheet:
        assert sheet.width == 4 * 240


def test_new_captions_are_those_that_nobody_wrote() -> None:
    known = [
        CaptionedImage(Path("a.jpg"), ["A dog runs ."]),
        CaptionedImage(Path("b.jpg"), ["A cat sits ."]),
    ]
    described = [EvaluatedCaption(known[0], "a dog runs"), EvaluatedCaption(known[1], "a dog sits")]
    found = {s.metric: s.value for s in scores(described, ["A Dog runs !", "Two men walk ."])}
    assert found["new"] == 0.5
    assert found["distinct"] == 1
    assert found["words_used"] == 4
    assert "new" not in {s.metric for s in scores(described, None)}


def test_the_sheet_shows_the_best_first(tmp_path: Path) -> None:
    samples, described = [], []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(path)
        samples.append(
            CaptionedImage(path, [f"picture {number} of word{number} and thing{number}"])
        )
        right = samples[-1].captions[0].split()
        described.append(EvaluatedCaption(samples[-1], " ".join(right[: 6 - number % 6])))
    save_sheet(described, tmp_path / "sheet.png")
    sheet = np.array(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert sheet.shape[1] == 4 * 240
    first = sheet[120, 120]
    assert first[0] % 60 == 0  # the whole reference: pictures 0, 6, 12 and 18
    row = sheet.shape[0] // 4  # of eight and eight
    assert sheet[3 * row + 120, 3 * 240 + 120][0] == 170  # two words of six: the last is 17


def test_images_that_cannot_be_read_are_left_out_of_the_scores(
    photos: Path, tmp_path: Path, taught: Callable[[str], Path]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with (tmp_path / "data.csv").open("w", newline="") as file:
        good = str(photos / "Images" / "0.png")
        rows = [["bad.png", "a thing", "test"], [good, "a disc", "test"]]
        csv.writer(file).writerows([["path", "caption", "split"], *rows])
    command = ("caption", "evaluate", tmp_path / "data.csv", "-m", taught("patches"))
    done = run(*command, "-f", "json")
    assert done.code == 0, done.err
    assert "skipped 1 x failed image" in done.err
    found = {record["metric"]: record["value"] for record in json.loads(done.out)}
    assert found["images"] == 1
    assert "new" not in found
