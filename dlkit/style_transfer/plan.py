"""Plans of paintings: the combinations of photographs and styles, and their files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import (
    check_free,
    draw_beside,
    exists,
    is_dir,
    keeps_existing,
    note_saved,
    picture_suffix,
    resolved,
    safe_name,
)
from dlkit.core.io.image_files import WRITABLE
from dlkit.core.parallel.sharding import remaining_jobs
from dlkit.style_transfer.contact_sheet import Cell, save_sheet


@dataclass(frozen=True)
class Style:
    """A style, by path or name, and its share of a painting."""

    name: str
    share: float = 1.0


@dataclass(frozen=True)
class PlannedPainting:
    """A painting to make: the photograph, the styles, and the file."""

    photo: str
    styles: tuple[Style, ...]
    target: Path


def join_names(styles: Sequence[Style]) -> str:
    """The names of the styles of a painting, as results print them."""
    return "+".join(style.name for style in styles)


def stem(source: str) -> str:
    """The name of a file or URL without folder and suffix."""
    return Path(source.partition("?")[0]).stem or "input"


def group_styles(styles: Sequence[str], blend: str | None) -> list[tuple[Style, ...]]:
    """Group styles into paintings: one each, or all in one with shares such as 0.7,0.3."""
    if blend is None:
        return [(Style(name),) for name in styles]
    try:
        shares = [float(share) for share in blend.split(",")]
    except ValueError:
        raise DlkitError(f"--blend {blend}: not numbers; give numbers, as in 0.7,0.3") from None
    if len(shares) != len(styles):
        raise DlkitError(
            f"--blend {blend}: {len(shares)} shares for {len(styles)} styles; give one for each"
        )
    if min(shares) < 0 or not sum(shares):
        raise DlkitError(f"--blend {blend}: negative or all 0; give positive shares")
    total = sum(shares)
    pairs = zip(styles, shares, strict=True)
    return [tuple(Style(name, share / total) for name, share in pairs)]


def plan_paintings(
    photos: Sequence[str], styles: Sequence[tuple[Style, ...]], output: Path
) -> list[PlannedPainting]:
    """Plan each photograph in each style.

    `output` is the file of a single painting, or a folder for PHOTO-STYLE.jpg. Raises DlkitError if
    a painting would overwrite an input.
    """
    is_file = output.suffix.lower() in WRITABLE and not is_dir(output)
    if is_file and len(photos) * len(styles) > 1:
        raise DlkitError(
            f"-o {output}: one file for {len(photos) * len(styles)} paintings; give a folder"
        )
    inputs = {resolved(name) for name in [*photos, *(s.name for g in styles for s in g)]}
    taken: set[Path] = set()
    planned = []
    for photo in photos:
        suffix = picture_suffix(photo)
        for group in styles:
            name = safe_name("-".join([stem(photo), *(stem(style.name) for style in group)]))
            target, number = output if is_file else output / f"{name}{suffix}", 1
            while target in taken:
                number += 1
                target = output / f"{name}-{number}{suffix}"
            taken.add(target)
            if resolved(target) in inputs:
                raise DlkitError(f"{target}: would overwrite an input; choose another -o")
            planned.append(PlannedPainting(photo, group, target))
    return planned


def select_remaining(
    planned: Sequence[PlannedPainting], group_size: int, shard: str | None, resume: bool
) -> list[PlannedPainting]:
    """Select the paintings of a shard, in groups of `group_size`, one for each photograph.

    `resume` skips groups whose files all exist.
    """

    def is_made(group: Sequence[PlannedPainting]) -> bool:
        return all(exists(item.target) for item in group)

    groups = (planned[start : start + group_size] for start in range(0, len(planned), group_size))
    remaining = remaining_jobs(groups, shard, resume, is_made)
    selected = [item for group in remaining for item in group]
    check_targets(selected)
    return selected


def check_targets(planned: Sequence[PlannedPainting]) -> None:
    """Raise DlkitError, before the work, if a file of a painting exists and is kept."""
    if keeps_existing():
        for item in planned:
            check_free(item.target)


def note_paintings(results: Iterable[Any]) -> Iterator[Any]:
    """Pass results through, and note the files of the paintings as saved."""
    for result in results:
        if not isinstance(result, Failure):
            note_saved(Path(result.output))
        yield result


def write_grid_after(
    results: Iterable[Any],
    photos: Sequence[str],
    styles: Sequence[tuple[Style, ...]],
    path: Path | None,
) -> Iterator[Any]:
    """Pass results through, whose files are noted as saved.

    After the last, the contact sheet of all is written to `path`, if given.
    """
    results = note_paintings(results)
    if path is None:
        yield from results
        return
    outputs: dict[tuple[str, str], str] = {}
    for result in results:
        if not isinstance(result, Failure):
            outputs[result.path, result.style] = result.output
        yield result
    if is_main_process():
        columns = [Cell(g[0].name, " + ".join(stem(style.name) for style in g)) for g in styles]
        rows = [
            (Cell(p, stem(p)), [outputs.get((p, join_names(g)), "") for g in styles])
            for p in photos
        ]
        yield from draw_beside(path, save_sheet, columns, rows, path)
