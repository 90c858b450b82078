"""The files that `segment` writes for each image. Loads no torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlkit.core.io.files import FileNames, check_free, keeps_existing, note_saved

SaveAs = Literal["both", "masks", "overlays"]


@dataclass(frozen=True)
class Outputs:
    """The files to write for one image; None: not written."""

    mask: Path | None = None
    overlay: Path | None = None
    probabilities: Path | None = None

    @property
    def files(self) -> list[Path]:
        """The files that are written."""
        return [p for p in (self.mask, self.overlay, self.probabilities) if p is not None]

    def note_saved(self) -> None:
        """Note that the files are written now."""
        for path in self.files:
            note_saved(path)


@dataclass(frozen=True)
class OutputFolders:
    """The folders to write to: `save` as masks, overlays or both, and `probabilities`."""

    save: Path | None = None
    save_as: SaveAs = "both"
    probabilities: Path | None = None

    def name(self, paths: Iterable[str]) -> Iterator[tuple[str, Outputs]]:
        """Each path with the files to write for it: NAME.png, NAME-overlay.jpg, NAME.npz."""
        maps = None if self.save is None else FileNames(self.save)
        arrays = None if self.probabilities is None else FileNames(self.probabilities)
        for path in paths:
            mask = None if maps is None else maps.reserve(path, ".png")
            overlay = None if mask is None else mask.with_name(f"{mask.stem}-overlay.jpg")
            array = None if arrays is None else arrays.reserve(path, ".npz")
            yield (
                path,
                Outputs(
                    mask if self.save_as != "overlays" else None,
                    overlay if self.save_as != "masks" else None,
                    array,
                ),
            )

    def check_free(self, paths: Iterable[str]) -> None:
        """Raise DlkitError if one of the files exists and the command keeps files that exist."""
        # Those that are listed on stdin are checked when they are written.
        on_stdin = isinstance(paths, list | tuple) and "-" in paths
        if keeps_existing() and not on_stdin:
            for _, outputs in self.name(paths):
                for path in outputs.files:
                    check_free(path)


NO_OUTPUTS = OutputFolders()
