"""The Python functions of all tasks: names, types, examples, and no torch before the first call."""

import ast
import doctest
import importlib
import inspect
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dlkit
from dlkit.core.api import Scores
from dlkit.core.io.scores import Score
from dlkit.tasks import TASKS as SUMMARIES
from tests.caption.helpers import classifier, write_photos
from tests.classify.helpers import write_folders as write_stripes
from tests.conftest import scene, voc_xml, write_voc
from tests.gan_sample.helpers import draw as draw_bar
from tests.segment.helpers import folders as write_scenes

ROOT = Path(dlkit.__file__).parent
TASKS = [task.replace("-", "_") for task in SUMMARIES]
# Names that are used from a notebook or a script in every task.
COMMON = ["Config", "evaluate", "load", "train"]
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def write_boxes(folder: Path) -> None:
    """Annotated images for the examples of detect: `shapes`, and the cat in `animals`."""
    write_voc(folder / "shapes", {"train": [*range(4)], "val": [4], "test": [5, 6]})
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / "animals" / name).mkdir(parents=True)
    shutil.copy(ROOT.parent / "data" / "cat.jpg", folder / "animals" / "JPEGImages")
    (folder / "animals/Annotations/cat.xml").write_text(voc_xml([("cat", (3, 3, 451, 297))]))
    (folder / "animals/ImageSets/Main/test.txt").write_text("cat\n")


def write_masks(folder: Path) -> None:
    """Masks for the examples of segment: generated `scenes`, and a frame of `streets`."""
    write_scenes(folder / "scenes")
    for name in ("images/test", "masks/test"):
        (folder / "streets" / name).mkdir(parents=True)
    photo = ROOT.parent / "data" / "astronaut.jpg"
    shutil.copy(photo, folder / "streets" / "images" / "test" / "frame.jpg")
    model = importlib.import_module("dlkit.segment").load("street")
    truth = np.full((512, 512), 255, np.uint8)
    for region in model(photo).segments:
        truth[region.mask] = model.labels.index(region.label)
    Image.fromarray(truth).save(folder / "streets" / "masks" / "test" / "frame.png")
    (folder / "streets" / "classes.txt").write_text("".join(f"{name}\n" for name in model.labels))


def write_text(folder: Path) -> None:
    """A text, and pairs of words with human scores."""
    (folder / "text.txt").write_text("the king and the queen live in a castle\n" * 60)
    (folder / "pairs.csv").write_text("king,queen,9\nking,piano,1\ncup,coffee,5\n")


def write_vocabulary(folder: Path) -> None:
    """A vocabulary as BERT has it."""
    (folder / "vocab.txt").write_text("[UNK]\ntoken\n##izers\nread\ntexts\n")


def write_pairs(folder: Path) -> None:
    """Sentences with translations, to train on and to evaluate on."""
    (folder / "train.en").write_text("A dog runs.\nTwo men talk.\n" * 30)
    (folder / "train.de").write_text("Ein Hund läuft.\nZwei Männer reden.\n" * 30)
    (folder / "test.en").write_text("Two dogs play in the snow.\n")
    (folder / "test.de").write_text("Zwei Hunde spielen im Schnee.\n")


def write_labels(folder: Path) -> None:
    """Labeled images for the examples of classify: generated `stripes`, and the cat of `pets`."""
    write_stripes(folder / "stripes", {"train": 4, "val": 1})
    (folder / "pets" / "test" / "cat").mkdir(parents=True)
    shutil.copy(ROOT.parent / "data" / "cat.jpg", folder / "pets" / "test" / "cat")


def write_captions(folder: Path) -> None:
    """Images with captions for the examples of caption, and an untrained `encoder`."""
    write_photos(folder / "photos")
    classifier(folder / "encoder.safetensors", seed=0)


def write_bars(folder: Path) -> None:
    """Pictures of bars for the examples of gan_sample."""
    for split, count in (("train", 16), ("test", 10)):
        for seed in range(count):
            draw_bar(folder / "bars" / split / f"{seed:02}.png", seed % 2, seed)


def write_photos_to_paint(folder: Path) -> None:
    """Photographs for the examples of style_transfer."""
    (folder / "photos").mkdir()
    for seed in range(4):
        scene(seed)[0].resize((160, 160)).save(folder / "photos" / f"{seed}.png")


# The data that the examples of a task train on and evaluate, beside the folder data/.
DATA: dict[str, Callable[[Path], None]] = {
    "caption": write_captions,
    "classify": write_labels,
    "detect": write_boxes,
    "embed": write_text,
    "gan_sample": write_bars,
    "lm_generate": write_text,
    "segment": write_masks,
    "style_transfer": write_photos_to_paint,
    "tokenize": write_vocabulary,
    "translate": write_pairs,
}


def public(task: str) -> list[str]:
    """The public names of a task."""
    return [*importlib.import_module(f"dlkit.{task}").__all__]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_the_same_names(task: str) -> None:
    package = importlib.import_module(f"dlkit.{task}")
    assert {*COMMON, task} <= {*public(task)} <= {*dir(package)}
    assert public(task) == sorted(public(task))
    for name in public(task):
        assert getattr(package, name) is not None
    assert getattr(package, task).__module__ == f"dlkit.{task}.api"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("task", TASKS)
def test_names_for_mypy_are_those_at_run_time(task: str) -> None:
    """The imports under TYPE_CHECKING, which editors read, are the names of __all__."""
    tree = ast.parse((ROOT / task / "__init__.py").read_text())
    names = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for line in node.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    }
    assert names == {*public(task)}


@pytest.mark.parametrize("task", TASKS)
def test_load_has_the_same_arguments(task: str) -> None:
    package = importlib.import_module(f"dlkit.{task}")
    parameters = inspect.signature(package.load).parameters
    assert [*parameters][:3] == ["model", "device", "precision"]
    assert all(p.default is not p.empty for p in parameters.values())
    trained = [*inspect.signature(package.train).parameters]
    assert trained == (
        ["corpus", "config", "distributed", "settings"] if task == "tokenize" else ["config"]
    )
    wanted = {"translate": ["source", "ref"], "embed": ["data"], "tokenize": ["data"]}
    evaluated = [*inspect.signature(package.evaluate).parameters]
    before = wanted.get(task, ["data", "split"])
    assert evaluated[: len(before) + 1] == [*before, "model"]


@pytest.mark.parametrize("task", TASKS)
def test_a_function_is_not_hidden_by_a_module_of_its_name(task: str) -> None:
    for name in ("train", "evaluate"):
        importlib.import_module(f"dlkit.{task}.{name}")
        assert inspect.isfunction(getattr(importlib.import_module(f"dlkit.{task}"), name))


def test_no_torch_before_the_first_call() -> None:
    lines = [
        f"import dlkit.{task}\nfrom dlkit.{task} import load, {task}, Config" for task in TASKS
    ]
    script = "\n".join(
        ["import sys, dlkit", *lines, "assert callable(dlkit.detect) and dir(dlkit)"]
        + [
            "heavy = {'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)",
            "assert not heavy, heavy",
        ]
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_dlkit_has_the_tasks() -> None:
    assert {*TASKS} <= {*dir(dlkit)}
    with pytest.raises(AttributeError, match="module 'dlkit' has no attribute 'nothing'"):
        _ = dlkit.nothing


# ---- Examples ------------------------------------------------------------------------------------


def examples() -> Iterator[tuple[str, str, str]]:
    """The name, the task and the text of each docstring of a public function or package."""
    yield "dlkit", "", dlkit.__doc__ or ""
    for task in TASKS:
        package = importlib.import_module(f"dlkit.{task}")
        yield f"dlkit.{task}", task, package.__doc__ or ""
        for name in public(task):
            if inspect.isfunction(function := getattr(package, name)):
                yield f"dlkit.{task}.{name}", task, function.__doc__ or ""


# A training takes a few seconds.
EXAMPLES = [
    pytest.param(*one, id=one[0], marks=pytest.mark.slow if one[0].endswith("train") else ())
    for one in examples()
]


class LooseChecker(doctest.OutputChecker):
    """Compares output with numbers to within 2 %: they depend a little on the processor."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        numbers = [*zip(NUMBER.findall(want), NUMBER.findall(got), strict=False)]
        near = all(math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=0.01) for a, b in numbers)
        same = super().check_output(NUMBER.sub("#", want), NUMBER.sub("#", got), optionflags)
        return near and same


@pytest.mark.parametrize(("name", "task", "text"), EXAMPLES)
def test_examples_of_docstrings_run(
    name: str, task: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a folder of its own with data/, and with the data of the task's examples."""
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert example.examples, "no example"
    (tmp_path / "data").symlink_to(ROOT.parent / "data")
    if task in DATA:
        DATA[task](tmp_path)
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(LooseChecker(), verbose=False, optionflags=flags)
    printed: list[str] = []
    assert runner.run(example, out=printed.append).failed == 0, "".join(printed)


# ---- Scores --------------------------------------------------------------------------------------


def test_scores_are_found_by_metric_and_label() -> None:
    scores = Scores([Score("ap", "all", 0.5, ""), Score("ap", "cat", 0.25, "")])
    assert scores["ap"] == 0.5
    assert scores["ap", "cat"] == 0.25
    assert len(scores) == 2
    assert scores[1].label == "cat"
    assert [score.value for score in scores] == [0.5, 0.25]
    assert scores.rows() == [{"label": "all", "ap": 0.5}, {"label": "cat", "ap": 0.25}]
    assert scores._repr_html_().count("<tr>") == 3
    assert repr(scores) == "<scores: ap 0.5; 1 labels>"
    with pytest.raises(KeyError, match="choose from ap"):
        _ = scores["ap50"]
