"""Files of masks, and their images. Loads no torch."""

from collections import Counter
from pathlib import Path

from dlkit.core.datasets.pictures import by_stem, find_images
from dlkit.core.datasets.samples import Sample
from dlkit.core.io.files import is_file
from dlkit.core.ledger import Ledger

# JPEG last, which is refused with its reason.
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg")
# Behind an image's name in that of its mask, as some tools write it.
ENDINGS = ("_mask", "-mask", "_masks", "_seg", "_label", "_labels", "_gt", "_L")


def by_name(stem: Path) -> Path | None:
    """The mask of that name with any suffix, also in capitals."""
    suffixes = (spelling for suffix in MASK_SUFFIXES for spelling in (suffix, suffix.upper()))
    paths = (stem.with_name(stem.name + suffix) for suffix in suffixes)
    return next((path for path in paths if is_file(path)), None)


def pair_files(images: Path, masks: Path, objects: Path | None, ledger: Ledger) -> list[Sample]:
    """The images of a folder with the masks of the same names; both may be alone, and are skipped.

    Where no mask has an image's name, the names may all have one of the usual endings.
    """
    pictures = find_images(images, ledger)
    files = by_stem(masks, find_images(masks, ledger))
    ending = find_ending([*by_stem(images, pictures)], files, ledger, masks)
    samples, used = [], set()
    for image in pictures:
        stem = image.relative_to(images).with_suffix("").as_posix()
        found = files.get(stem + ending, [])
        used.add(stem + ending)
        if not found:
            ledger.skip("images", "image without a mask", str(image))
        elif len(found) > 1:
            ledger.skip("images", "several masks of one name", ", ".join(map(str, found)))
        else:
            number = None if objects is None else by_name(objects / (stem + ending))
            samples.append(Sample(image, str(found[0]), mask=found[0], object_mask=number))
    for stem, paths in files.items():
        if stem not in used:
            ledger.skip("images", "mask without an image", str(paths[0]))
    return samples


def find_ending(stems: list[str], masks: dict[str, list[Path]], ledger: Ledger, where: Path) -> str:
    """The ending that the names of masks have behind those of the images; none by default."""
    if any(stem in masks for stem in stems):
        return ""
    counts = Counter({e: sum(stem + e in masks for stem in stems) for e in ENDINGS})
    ending, count = counts.most_common(1)[0]
    if not count:
        return ""
    ledger.note(f"folders of masks with the ending {ending}", str(where))
    return ending
