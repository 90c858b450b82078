"""What is painted: which photographs in which styles, and the files that come of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import picture_suffix
from dlkit.core.parallel.sharding import remaining_jobs
from dlkit.core.vision import images

CELL = 256  # pixels a side, of the grid
BLANK = Image.new("RGB", (CELL, CELL), "white")


@dataclass(frozen=True)
class Style:
    """A style: a picture's path or a name, and its share among those painted together."""

    name: str
    share: float = 1.0


@dataclass(frozen=True)
class Job:
    """One painting: a photograph, the styles in it, and the file to write."""

    photo: str
    styles: tuple[Style, ...]
    target: Path


def spoken(styles: Sequence[Style]) -> str:
    """Styles that are painted together, as results name them."""
    return "+".join(style.name for style in styles)


def stem(source: str) -> str:
    """The name of a file or URL without folder and suffix."""
    return Path(source.partition("?")[0]).stem or "input"


def together(styles: Sequence[str], blend: str | None) -> list[tuple[Style, ...]]:
    """The styles of each painting: one by one, or with shares such as 0.7,0.3 all together."""
    if blend is None:
        return [(Style(name),) for name in styles]
    try:
        shares = [float(share) for share in blend.split(",")]
    except ValueError:
        raise DlkitError(f"--blend {blend}: give numbers, as in 0.7,0.3") from None
    if len(shares) != len(styles):
        raise DlkitError(
            f"--blend {blend} has {len(shares)} shares for {len(styles)} styles: give one for each"
        )
    if min(shares) < 0 or not sum(shares):
        raise DlkitError(f"--blend {blend}: shares are not negative, and not all 0")
    total = sum(shares)
    pairs = zip(styles, shares, strict=True)
    return [tuple(Style(name, share / total) for name, share in pairs)]


def plan(photos: Sequence[str], styles: Sequence[tuple[Style, ...]], output: Path) -> list[Job]:
    """Each photograph in each style; `output` is the picture's file if there is one only, or else
    a folder for PHOTO-STYLE.jpg.

    A DlkitError if a painting would overwrite one of the inputs.
    """
    is_file = output.suffix.lower() in images.SUFFIXES and not output.is_dir()
    if is_file and len(photos) * len(styles) > 1:
        raise DlkitError(
            f"-o {output} is one picture, and {len(photos) * len(styles)} are painted: give a"
            " folder"
        )
    inputs = {Path(name).resolve() for name in [*photos, *(s.name for g in styles for s in g)]}
    taken: set[Path] = set()
    jobs = []
    for photo in photos:
        suffix = picture_suffix(photo)
        for group in styles:
            name = "-".join([stem(photo), *(stem(style.name) for style in group)])
            target, number = output if is_file else output / f"{name}{suffix}", 1
            while target in taken:
                number += 1
                target = output / f"{name}-{number}{suffix}"
            taken.add(target)
            if target.resolve() in inputs:
                raise DlkitError(f"{target} would overwrite an input: choose another -o")
            jobs.append(Job(photo, group, target))
    return jobs


def left_to_do(jobs: Sequence[Job], together: int, shard: str | None, resume: bool) -> list[Job]:
    """This shard's jobs, of which so many are done together: those of one photograph.

    With `resume` without those whose paintings are all there.
    """

    def is_made(group: Sequence[Job]) -> bool:
        return all(job.target.exists() for job in group)

    groups = (jobs[start : start + together] for start in range(0, len(jobs), together))
    return [job for group in remaining_jobs(groups, shard, resume, is_made) for job in group]


def save_grid(
    results: Iterable[Any],
    photos: Sequence[str],
    styles: Sequence[tuple[Style, ...]],
    path: Path | None,
) -> Iterator[Any]:
    """The results unchanged; in the end, the grid of all is written to `path`, if there is one."""
    if path is None:
        yield from results
        return
    outputs: dict[tuple[str, str], str] = {}
    for result in results:
        if not isinstance(result, Failure):
            outputs[result.path, result.style] = result.output
        yield result
    if is_main_process():
        images.save(sheet(photos, styles, outputs), path)


def sheet(
    photos: Sequence[str],
    styles: Sequence[tuple[Style, ...]],
    outputs: Mapping[tuple[str, str], str],
) -> Image.Image:
    """A row for each photograph and a column for each style, with these in the margins.

    `outputs` has the files of paintings by photograph and styles; what is missing stays white.
    """
    cells, captions = [BLANK], [""]
    for group in styles:
        cells.append(shown(group[0].name))
        captions.append(" + ".join(stem(style.name) for style in group))
    for photo in photos:
        cells.append(shown(photo))
        captions.append(stem(photo))
        for group in styles:
            cells.append(shown(outputs.get((photo, spoken(group)), "")))
            captions.append("")
    return images.grid(cells, 1 + len(styles), CELL, captions)


def shown(path: str) -> Image.Image:
    """A picture for the grid; white where there is none, as for a style that is a name."""
    try:
        return images.as_pillow(images.read(path, CELL, true_colors=True))
    except DlkitError:
        return BLANK
