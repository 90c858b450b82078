"""The report of `dlkit data check`: one HTML file that needs no network."""

import base64
import io
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from dlkit.core.datasets.samples import Sample
from dlkit.core.errors import DlkitError
from dlkit.core.io.colors import Color, label_colors
from dlkit.core.io.files import note_saved, whole_file
from dlkit.data.check import Examination, Examined, Finding
from dlkit.data.draw import draw_sample

Colors = dict[str, Color]  # of labels
FILE = "report.html"
SIDE = 220  # pixels of the longest side of a picture
MAX_EXAMPLES = 24  # findings of a kind that are shown with pictures
MAX_LISTED = 200  # findings of a kind that are listed
MAX_LABELS = 60  # bars of a histogram of labels
SAMPLES = 12  # pictures of a split
BINS = 20
STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #3b82c4; --mark: #c2410c; }
* { box-sizing: border-box; }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
body { overflow-wrap: anywhere; } td, th { overflow-wrap: normal; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: .25rem .7rem; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr + tr { border-top: 1px solid var(--line); }
.pictures { display: grid; gap: .8rem; }
.pictures { grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); }
figure { margin: 0; } figure.wide { grid-column: span 2; }
figure img { width: 100%; height: auto; border: 1px solid var(--line); }
figcaption { font-size: .8rem; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.bars { display: grid; grid-template-columns: fit-content(40%) 1fr max-content; }
.bars { gap: .15rem .6rem; }
.bar { background: var(--bar); height: .9rem; margin-top: .25rem; min-width: 1px; }
svg { max-width: 100%; height: auto; } svg rect { fill: var(--bar); }
svg text { fill: currentColor; font-size: 11px; }
.warning { color: var(--mark); font-weight: 600; }
li { overflow-wrap: anywhere; }
a { color: inherit; }
"""


def save_report(examination: Examination, folder: Path) -> None:
    """Write `report.html` into a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / FILE
    with whole_file(target) as partial:
        partial.write_text(page(examination), encoding="utf-8", errors="backslashreplace")
    note_saved(target)


def page(examination: Examination) -> str:
    """The whole page."""
    name = escape(examination.root.name or str(examination.root))
    kinds = Counter(finding.kind for finding in examination.findings)
    parts = [
        f"<h1>{name}</h1>",
        f"<p>{escape(examination.layout)}, {escape(str(examination.root))}</p>",
        summary_table(examination),
        contents(examination, kinds),
        *(section(examination, kind) for kind in kinds),
        *(split_section(examination, ledger.name) for ledger in examination.ledgers),
    ]
    return document(f"{name}: data check", parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A page of these parts; the title is escaped already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def summary_table(examination: Examination) -> str:
    """A row for each split: images, annotations, labels, skipped."""
    rows = [
        [
            ledger.name,
            f"{ledger.used['images']:,}",
            f"{ledger.used['annotations']:,}",
            f"{len(examination.counts(ledger.name)):,}",
            f"{sum(ledger.skipped(kind) for kind in ledger.kinds()):,}",
        ]
        for ledger in examination.ledgers
    ]
    return table(["split", "images", "annotations", "labels", "skipped"], rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table whose first column is text and whose others are numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = ["", *[' class="number"'] * (len(values) - 1)]
        return "".join(
            f"<{tag}{kind}>{escape(value)}</{tag}>"
            for kind, value in zip(kinds, values, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{cells("th", header)}</tr>{body}</table></div>'


def contents(examination: Examination, kinds: Counter[str]) -> str:
    """Links to the kinds of findings with their numbers."""
    if not kinds:
        return "<p>No findings.</p>"
    levels = {finding.kind: finding.level.value for finding in examination.findings}
    items = "".join(
        f'<li><a href="#{anchor(kind)}"><span class="{levels[kind]}">{count:,}</span>'
        f" {escape(kind)}</a></li>"
        for kind, count in kinds.items()
    )
    return f"<h2>Findings</h2><ul>{items}</ul>"


def anchor(kind: str) -> str:
    """The name of a section."""
    return kind.replace(" ", "-")


def section(examination: Examination, kind: str) -> str:
    """The findings of a kind: the first ones with pictures, the others as a list."""
    findings = [finding for finding in examination.findings if finding.kind == kind]
    by_path = {image.path: image for image in [*examination.others, *examination.images]}
    colors = colors_of(examination)
    figures: list[str] = []
    listed: list[str] = []
    for finding in findings:
        shown = ""
        if len(figures) < MAX_EXAMPLES:
            shown = "".join(map(as_img, pictures_of(finding, by_path, colors)))
        place = finding.path if finding.line is None else f"{finding.path}:{finding.line}"
        text = f"{escape(place)}: {escape(finding.message)}"
        if shown:
            both = '<div class="pair">' + shown + "</div>" if shown.count("<img") > 1 else shown
            wide = ' class="wide"' if both != shown else ""
            figures.append(f"<figure{wide}>{both}<figcaption>{text}</figcaption></figure>")
        else:
            listed.append(f"<li>{text}</li>")
    more = len(listed) - MAX_LISTED
    tail = f"<p>and {more:,} more; dlkit data check -f jsonl lists all.</p>" if more > 0 else ""
    return (
        f'<h2 id="{anchor(kind)}">{escape(kind)}: {len(findings):,}</h2>'
        + (f'<div class="pictures">{"".join(figures)}</div>' if figures else "")
        + (f"<ul>{''.join(listed[:MAX_LISTED])}</ul>" if listed else "")
        + tail
    )


def colors_of(examination: Examination) -> Colors:
    """The color of each label of the data set."""
    labels = {a.label for image in examination.images for a in image.sample.annotations}
    return label_colors([*examination.classes, *sorted(labels - set(examination.classes))])


def pictures_of(
    finding: Finding, by_path: dict[str, Examined], colors: Colors
) -> list[Image.Image]:
    """The pictures of a finding: the annotation that it is about, or both images of a pair."""
    about = by_path.get(finding.other or "")
    first = by_path.get(finding.path)
    if about is not None and first is None:
        where = finding.path if finding.line is None else f"{finding.path}:{finding.line}"
        places = {annotation.where for annotation in about.sample.annotations}
        return drawn(about.sample, colors, where if where in places else None)
    shown = [image.sample for image in (first, about) if image is not None]
    return [picture for sample in shown for picture in drawn(sample, colors)]


def drawn(sample: Sample, colors: Colors, marked: str | None = None) -> list[Image.Image]:
    """The picture of a sample; none if it cannot be read any more."""
    try:
        return [draw_sample(sample, SIDE, colors, marked)]
    except DlkitError:
        return []


def as_img(picture: Image.Image) -> str:
    """An <img> with the picture in it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    content = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img alt="" {size} src="data:image/jpeg;base64,{content}">'


def split_section(examination: Examination, split: str) -> str:
    """Labels, sizes and some samples of a split."""
    found = examination.of_split(split)
    parts = [f"<h2>{escape(split)}</h2>"]
    counts = examination.counts(split)
    if counts:
        parts += ["<h3>Labels</h3>", bars(counts)]
    if found:
        sides = [max(image.width, image.height) for image in found]
        ratios = [image.width / image.height for image in found]
        parts += [
            "<h3>Longest side in pixels</h3>",
            histogram(sides),
            "<h3>Width divided by height</h3>",
            histogram(ratios),
            "<h3>Samples</h3>",
        ]
        chosen = random.Random(0).sample(found, min(SAMPLES, len(found)))
        figures = [
            f"<figure>{as_img(picture)}<figcaption>{escape(caption(image))}</figcaption></figure>"
            for image in chosen
            for picture in drawn(image.sample, colors_of(examination))
        ]
        parts.append(f'<div class="pictures">{"".join(figures)}</div>')
    return "".join(parts)


def caption(image: Examined) -> str:
    """The name of an image with its labels or a caption."""
    about = ", ".join(image.sample.labels) or next(iter(image.sample.captions), "")
    return f"{image.sample.path.name}: {about}" if about else image.sample.path.name


def bars(counts: Counter[str]) -> str:
    """A bar for each label."""
    most = max(counts.values())
    rows = "".join(
        f'<span>{escape(name)}</span><div class="bar" style="width:{100 * count / most:.2f}%">'
        f"</div><span>{count:,}</span>"
        for name, count in counts.most_common(MAX_LABELS)
    )
    rest = len(counts) - MAX_LABELS
    more = f"<p>and {rest:,} more labels</p>" if rest > 0 else ""
    return f'<div class="bars">{rows}</div>{more}'


def histogram(values: Sequence[float]) -> str:
    """An SVG histogram with the least and the largest value below."""
    low, high = min(values), max(values)
    if low == high:
        return f"<p>{low:.4g} for all</p>"
    width = (high - low) / BINS
    heights = Counter(min(int((value - low) / width), BINS - 1) for value in values)
    most = max(heights.values())
    rects = "".join(
        f'<rect x="{12 * number}" y="{100 - 100 * count / most:.1f}" width="11"'
        f' height="{100 * count / most:.1f}"/>'
        for number, count in heights.items()
    )
    return (
        f'<svg viewBox="0 0 {12 * BINS} 118" width="{24 * BINS}" role="img"'
        f' aria-label="histogram from {low:g} to {high:g}">{rects}'
        f'<text x="0" y="114">{low:.4g}</text>'
        f'<text x="{12 * BINS}" y="114" text-anchor="end">{high:.4g}</text></svg>'
    )
