"""Findings about data sets with one fault each, and the report."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dlkit.core.datasets.samples import Annotation, Classes, Sample
from dlkit.data.check import Examination, examine, overlap, spelled_alike
from dlkit.data.report import page, save_report
from tests.data.helpers import MemorySource, paint


def sample(path: Path, *boxes: tuple[float, float, float, float], label: str = "cat") -> Sample:
    annotations = tuple(
        Annotation(label, f"{path.with_suffix('.xml')}:{number}", box)
        for number, box in enumerate(boxes, 1)
    )
    return Sample(path, str(path), annotations=annotations)


def examined(tmp_path: Path, splits: dict[str, list[Sample]], *classes: str) -> Examination:
    source = MemorySource(splits, tmp_path, classes=Classes(classes))
    return examine(source, list(splits), workers=2)


def kinds(examination: Examination) -> list[str]:
    return [finding.kind for finding in examination.findings]


def test_a_good_data_set_has_no_findings(tmp_path: Path) -> None:
    good = [sample(paint(tmp_path / f"{k}.png", k), (4, 4, 40, 30)) for k in range(6)]
    examination = examined(tmp_path, {"train": good[:4], "val": good[4:]}, "cat")
    assert kinds(examination) == []
    train = examination.ledgers[0]
    assert (train.used["images"], train.used["annotations"]) == (4, 4)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((10, 10, 10, 20), "box without area"),
        ((30, 10, 20, 20), "box without area"),
        ((64, 10, 90, 20), "box outside the image"),
        ((-30, 10, 0, 20), "box outside the image"),
        ((50, 10, 70, 20), "box past the edge"),
        ((50, 10, 51, 20), "tiny box"),
    ],
)
def test_a_bad_box_is_named_with_its_line(
    tmp_path: Path, box: tuple[float, float, float, float], kind: str
) -> None:
    path = paint(tmp_path / "a.png", 0)
    examination = examined(tmp_path, {"train": [sample(path, (4, 4, 40, 30), box)]})
    (finding,) = examination.findings
    assert (finding.kind, finding.path, finding.line) == (kind, str(tmp_path / "a.xml"), 2)


def test_a_box_that_is_there_twice_is_found(tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png", 0)
    twice = sample(path, (4, 4, 40, 30), (4, 4, 40, 30.5), (10, 4, 46, 30))
    assert kinds(examined(tmp_path, {"train": [twice]})) == ["box twice"]
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)


def test_unreadable_and_missing_images_are_named_and_counted(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [paint(tmp_path / "a.png", 0), tmp_path / "bad.png", tmp_path / "none.png"]
    examination = examined(tmp_path, {"train": [sample(path) for path in paths]})
    assert kinds(examination) == ["unreadable image", "missing image"]
    ledger = examination.ledgers[0]
    assert (ledger.used["images"], ledger.skipped("images")) == (1, 2)


def test_doubled_images_leaks_and_contradicting_labels(tmp_path: Path) -> None:
    for k in range(5):
        paint(tmp_path / f"{k}.png", k)
    paint(tmp_path / "again.png", 0, (128, 96))

    def labeled(name: str, label: str) -> Sample:
        return Sample(tmp_path / name, name, labels=(label,))

    others = [labeled(f"{k}.png", "cat") for k in range(5)]
    for split, label, kind in (
        ("train", "cat", "duplicate"),
        ("train", "dog", "different labels"),
        ("val", "cat", "leak between splits"),
    ):
        splits: dict[str, list[Sample]] = {"train": list(others), "val": []}
        splits[split].append(labeled("again.png", label))
        found = [f for f in examined(tmp_path, splits).findings if f.other]
        assert [finding.kind for finding in found] == [kind]
        assert {found[0].path, found[0].other} == {
            str(tmp_path / "0.png"),
            str(tmp_path / "again.png"),
        }


def test_labels_that_are_spelled_alike_empty_classes_and_imbalance(tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png", 0)
    boxes = [(float(k), 0.0, k + 4.0, 8.0) for k in range(0, 60, 3)]
    many = sample(path, *boxes)
    one = sample(paint(tmp_path / "b.png", 1), (4, 4, 40, 30), label="Cat")
    examination = examined(tmp_path, {"train": [many, one]}, "cat", "Cat", "bird")
    assert kinds(examination) == ["labels spelled alike", "empty class", "imbalance"]
    examination = examined(tmp_path, {"train": [many, one]}, "cat")
    assert "label not listed" in kinds(examination)
    assert spelled_alike(["traffic light", "traffic-light", "gas", "ga", "dogs", "dog"]) == [
        ("traffic light", "traffic-light"),
        ("dogs", "dog"),
    ]


def test_small_and_long_images_are_notes(tmp_path: Path) -> None:
    sizes = [(64, 48)] * 4 + [(10, 10), (200, 40)]
    paths = [paint(tmp_path / f"{k}.png", k, size) for k, size in enumerate(sizes)]
    found = examined(tmp_path, {"train": [Sample(path, "") for path in paths]}).findings
    assert [(f.level.value, f.kind) for f in found] == [
        ("note", "small image"),
        ("note", "long image"),
    ]


class Tags(HTMLParser):
    """The tags that are open at the end, and the addresses that a page needs."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "rect", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_well_formed_page_that_needs_nothing_else(tmp_path: Path) -> None:
    path = paint(tmp_path / "<b>&.png", 0)
    twice = sample(path, (4, 4, 40, 30), (4, 4, 40, 30), label="<i>cat")
    again = sample(paint(tmp_path / "again.png", 0, (128, 96)), (8, 8, 80, 60))
    others = [sample(paint(tmp_path / f"{k}.png", k + 5), (4, 4, 40, 30)) for k in range(4)]
    examination = examined(tmp_path, {"train": [twice, *others], "val": [again]})
    assert kinds(examination) == ["box twice", "leak between splits"]
    text = page(examination)
    tags = Tags()
    tags.feed(re.sub(r"<rect[^>]*/>", "<rect>", text.removeprefix("<!doctype html>")))
    assert tags.open == []
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in tags.addresses)
    assert "<i>cat" not in text
    assert "&lt;i&gt;cat" in text
    pictures = [address for address in tags.addresses if address.startswith("data:")]
    assert len(pictures) == 1 + 2 + 6  # the box, both of the pair, the samples

    save_report(examination, tmp_path / "report")
    assert (tmp_path / "report" / "report.html").read_text(encoding="utf-8") == text


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [375, 1200])
def test_the_report_fits_the_window_of_a_browser(tmp_path: Path, width: int) -> None:
    name = "a-name-without-any-space-in-it" * 4
    samples = [
        sample(paint(tmp_path / f"{name}{k}.png", k), (4, 4, 40, 30), label=f"{name}{k % 3}")
        for k in range(4)
    ]
    twice = sample(paint(tmp_path / "again.png", 1, (128, 96)), (8, 8, 80, 60), (8, 8, 80, 60))
    text = page(examined(tmp_path, {"train": samples, "val": [twice]}))
    script = "<script>document.title = document.documentElement.scrollWidth</script></body>"
    (tmp_path / "report.html").write_text(text.replace("</body>", script))
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={width},900", "--dump-dom", f"file://{tmp_path}/report.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(\d+)</title>", done.stdout)
    assert found is not None
    assert int(found[1]) <= max(width, 500)  # no window of Chromium is narrower
