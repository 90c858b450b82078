"""Image search by example: nearest neighbors of the descriptors of a network.

The index of a folder is a memory-mapped safetensors file of descriptors. Search is exhaustive, so
results are exact. Shapes: N images of the folder, Q queries, D dimensions of a descriptor.
"""

import hashlib
import json
import math
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import safetensors.numpy
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dlkit.classify.features import make_describer
from dlkit.classify.infer import Classifier, predict
from dlkit.core.environment import cache, is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, next_window
from dlkit.core.io import image_files
from dlkit.core.io.files import exists, is_dir, note_saved, resolved, safe_name, whole_file
from dlkit.core.io.walk import Ignored, walk
from dlkit.core.ledger import Ledger
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.parallel.sharding import Shard
from dlkit.core.progress import log, track
from dlkit.core.store import checkpoint, schema
from dlkit.core.vision import images

Distance = Literal["cosine", "euclidean"]
Stamp = tuple[int, int]  # size of a file in bytes, and its modification time in ns

QUERY_BATCH = 16  # queries in one matrix product
ROW_BATCH = 65_536  # rows whose exact distances are computed together
UNIT_ROUNDOFF = 2.0**-24  # relative error of one fp32 operation
TILE, COLUMNS = 200, 6  # pixels per side; tiles per row
TEXT, CAPTION = 13, 42  # font size; height in pixels of the two lines below a tile
MAX_SHEET_QUERIES = 40


@dataclass(frozen=True)
class Hit:
    """A found image, with its distance from the query."""

    path: str
    distance: float


@dataclass(frozen=True)
class Hits:
    """The images most similar to the query `path`, nearest first."""

    columns: ClassVar = ["query", "rank", "path", "distance"]

    path: str
    hits: list[Hit]

    def rows(self) -> list[dict[str, Any]]:
        return [{"query": self.path, "rank": i, **vars(h)} for i, h in enumerate(self.hits, 1)]


@dataclass(frozen=True)
class Index:
    """Descriptors of a folder's images, sorted by their paths (relative to the folder).

    `descriptors` (N, D) in fp32 are memory-mapped; `norms` (N,) are their lengths. `stamps` (N, 2)
    are the stamps of the files; `failed` has the stamp and the reason of each unreadable image.
    """

    descriptors: np.ndarray
    norms: np.ndarray
    paths: list[str]
    stamps: np.ndarray
    failed: dict[str, tuple[Stamp, str]]

    def check(self) -> None:
        """Raise DlkitError unless there is a descriptor, a norm and a stamp for each path."""
        rows = len(self.paths)
        shapes = self.descriptors.shape[:1], self.norms.shape, self.stamps.shape
        kinds = self.descriptors.dtype.kind, self.norms.dtype.kind, self.stamps.dtype.kind
        if (
            shapes != ((rows,), (rows,), (rows, 2))
            or kinds != ("f", "f", "i")
            or self.descriptors.ndim != 2
            or not np.isfinite(self.norms).all()
        ):
            raise DlkitError("its rows do not fit its paths")


def search(
    queries: Iterable[str],
    folder: Path,
    classifier: Classifier,
    index_path: Path | None = None,
    layer: str | None = None,
    top: int = 10,
    distance: Distance = "cosine",
    update: bool = True,
    batch_size: int = 64,
    workers: int = 2,
    shard: Shard | None = None,
) -> Iterator[Hits | Failure]:
    """Yield the `top` images of the folder nearest to each query, in the order of the queries.

    A query inside the folder is not among its own hits. Ties are sorted by path. The index is
    created or updated first, unless `update` is false; by default it is in dlkit's cache. Only the
    queries of `shard` are answered; without one, the processes under torchrun share them, as well
    as the images to index.
    """
    if not is_dir(folder):
        raise DlkitError("no such folder", folder)
    chosen = make_describer(classifier, layer)

    def gather_hits() -> Iterator[Hits | Failure]:
        with distributed.launch(str(classifier.device)) as process:
            model_hash = fingerprint(classifier, layer)
            path = index_path or default_index(folder, model_hash)
            if update:
                index = update_index(path, model_hash, folder, chosen, process, batch_size, workers)
            else:
                index = checked_index(path, model_hash)
            report_failed(index, folder)
            own = shard or Shard(process.rank, process.world_size)
            described = predict(chosen, own.select(image_files.files(queries)), batch_size, workers)
            yield from process.gather(answer_windows(described, index))

    def answer_windows(
        described: Iterator[tuple[str, Tensor | Failure]], index: Index
    ) -> Iterator[Hits | Failure]:
        while window := next_window(described, QUERY_BATCH):
            yield from answer_queries(window, index, folder, top, distance)

    return gather_hits()


def answer_queries(
    window: Sequence[tuple[str, Tensor | Failure]],
    index: Index,
    folder: Path,
    top: int,
    distance: Distance,
) -> Iterator[Hits | Failure]:
    """Yield the hits of a batch of queries."""
    descriptors = [found.numpy() for _, found in window if not isinstance(found, Failure)]
    # One more than requested, because the query itself may be among them.
    nearest_rows = iter(
        nearest(index, np.stack(descriptors), top + 1, distance) if descriptors else []
    )
    for query, found in window:
        if isinstance(found, Failure):
            yield found
            continue
        own = row_of_query(query, folder, index.paths)
        rows, distances = next(nearest_rows)
        hits = [
            Hit(os.path.join(folder, index.paths[row]), round(value, 4))
            for row, value in zip(rows.tolist(), distances.tolist(), strict=True)
            if row != own
        ]
        yield Hits(query, hits[:top])


def row_of_query(query: str, folder: Path, paths: list[str]) -> int | None:
    """Return the row of the query itself, if it is in the folder."""
    image, root = resolved(query), resolved(folder)
    if not image.is_relative_to(root):
        return None
    name = str(image.relative_to(root))
    row = bisect_left(paths, name)
    return row if row < len(paths) and paths[row] == name else None


def nearest(
    index: Index, queries: np.ndarray, top: int, distance: Distance = "cosine"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the nearest rows of the index and their distances, for each query of (Q, D) in fp32.

    Cosine distance is 1 - cos(angle), from 0 to 2, and 1 to a zero descriptor. Results are those
    of fp64: an fp32 product selects all rows that can be among the `top` given its rounding error,
    and their distances are recomputed. Ties are sorted by row.
    """
    top = min(top, len(index.paths))
    products = queries @ index.descriptors.T
    if not np.isfinite(products).all():
        raise DlkitError("the index has numbers that are not finite; remove it (see --index)")
    norms = index.norms
    # Bound on the rounding error of a product relative to both lengths, with a margin.
    rounding = 2 * (index.descriptors.shape[1] + 8) * UNIT_ROUNDOFF
    results = []
    for query, product in zip(queries, products, strict=True):
        length = np.linalg.norm(query)
        if distance == "cosine":
            with np.errstate(over="ignore"):  # of norms that are 0 for other descriptors
                keys = -product / np.maximum(norms, np.finfo(np.float32).tiny)
            error: Any = rounding * length
        else:
            keys = norms**2 - 2 * product
            error = rounding * norms * (norms + 2 * length)
        farthest = np.partition(keys + error, top - 1)[top - 1]
        rows = np.flatnonzero(keys - error <= farthest)
        exact = np.concatenate(
            [
                exact_distances(index.descriptors[rows[start : start + ROW_BATCH]], query, distance)
                for start in range(0, len(rows), ROW_BATCH)
            ]
        )
        order = np.argsort(exact, kind="stable")[:top]
        results.append((rows[order], exact[order]))
    return results


def exact_distances(descriptors: np.ndarray, query: np.ndarray, distance: Distance) -> np.ndarray:
    """Return the distances (N,) of descriptors (N, D) to one query (D,), in fp64."""
    wide, goal = descriptors.astype(np.float64), query.astype(np.float64)
    if distance == "euclidean":
        return np.asarray(np.sqrt(np.square(wide - goal).sum(axis=1)))
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(np.square(goal).sum())
    cosines = (wide * goal).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return np.asarray(np.maximum(1 - cosines, 0))


def fingerprint(classifier: Classifier, layer: str | None) -> str:
    """Hash what a descriptor depends on: weights, layers, preprocessing, precision."""
    about = [repr(classifier.network), asdict(classifier.preprocessing), layer]
    weights = {name: part.cpu() for name, part in classifier.network.state_dict().items()}
    return checkpoint.digest(json.dumps(about), weights)


def default_index(folder: Path, model_hash: str) -> Path:
    """Return the path of a folder's index in dlkit's cache."""
    place = resolved(folder)
    key = hashlib.sha256(os.fsencode(place) + model_hash.encode()).hexdigest()[:16]
    return cache() / "search" / f"{safe_name(place.name)}-{key}.safetensors"


def report_failed(index: Index, folder: Path) -> None:
    """Log the images that are not in the index because they are unreadable."""
    ledger = Ledger(str(folder))
    ledger.use("images", len(index.paths))
    for name, (_, reason) in index.failed.items():
        ledger.skip("images", "unreadable image", f"{os.path.join(folder, name)} ({reason})")
    if index.failed:
        ledger.report()


def scan_folder(folder: Path) -> dict[str, Stamp]:
    """Find the images in a folder and its subfolders: sorted relative paths with their stamps.

    Reports what was ignored.
    """
    found = {}
    ignored = Ignored()
    start = 0 if str(folder) == os.curdir else len(os.path.join(folder, ""))
    for path in walk(str(folder), image_files.has_suffix, ignored):
        status = os.stat(path)
        found[path[start:]] = (status.st_size, status.st_mtime_ns)
    ignored.report()
    return dict(sorted(found.items()))


def update_index(
    path: Path,
    model_hash: str,
    folder: Path,
    describing: Classifier,
    process: Process,
    batch_size: int = 64,
    workers: int = 2,
) -> Index:
    """Bring the index in the file `path` up to date with the folder, and return it.

    Removed images are dropped; new and changed ones are described. Unreadable ones are retried only
    when they change. An interruption keeps the descriptors computed so far.
    """
    files = scan_folder(folder)
    if not files:
        raise DlkitError("no images to search", folder)
    old = checked_index(path, model_hash) if exists(path) else None
    failed = {}
    known: dict[str, int] = {}
    if old is not None:
        if old.paths == list(files) and not old.failed and same_stamps(old.stamps, files):
            return old
        failed = {name: entry for name, entry in old.failed.items() if files.get(name) == entry[0]}
        stamps = old.stamps.tolist()
        for row, (name, stamp) in enumerate(zip(old.paths, stamps, strict=True)):
            if files.get(name) == tuple(stamp):
                known[name] = row
        if len(known) == len(old.paths) and len(known) + len(failed) == len(files):
            return old
    missing = [name for name in files if name not in known and name not in failed]
    fresh: dict[str, np.ndarray] = {}
    shared = track(process.share([os.path.join(folder, name) for name in missing]), "indexing")
    described = process.gather(predict(describing, shared, batch_size, workers))
    try:
        for name, (_, found) in zip(missing, described, strict=True):
            if isinstance(found, Failure):
                failed[name] = (files[name], found.error)
            else:
                fresh[name] = found.numpy()
    finally:
        if process.is_main and (fresh or known):
            write_index(path, model_hash, files, old, known, fresh, failed)
    if not (fresh or known):
        name, (_, reason) = next(iter(failed.items()))
        raise DlkitError(f"none of its images is readable ({name}: {reason})", folder)
    process.barrier()
    return open_index(path, model_hash)


def same_stamps(stamps: np.ndarray, files: dict[str, Stamp]) -> bool:
    """Whether the stamps of the index are those of the files."""
    return bool((stamps == np.array(list(files.values()), dtype=np.int64)).all())


def write_index(
    path: Path,
    model_hash: str,
    files: dict[str, Stamp],
    old: Index | None,
    known: dict[str, int],
    fresh: dict[str, np.ndarray],
    failed: dict[str, tuple[Stamp, str]],
) -> None:
    """Write an index of the `known` rows of `old` and the `fresh` ones, in the order of `files`."""
    names = [name for name in files if name in known or name in fresh]
    kept = [(row, known[name]) for row, name in enumerate(names) if name not in fresh]
    like = next(iter(fresh.values())) if old is None else old.descriptors[0]
    descriptors = np.empty((len(names), len(like)), dtype=np.float32)
    if old is not None and kept:
        to, rows = np.array(kept).T
        descriptors[to] = old.descriptors[rows]
    for row, name in enumerate(names):
        if name in fresh:
            descriptors[row] = fresh[name]
    log(f"indexed {len(fresh)} images: {len(names)} are in {path}")
    arrays = {
        "descriptors": descriptors,
        "norms": np.linalg.norm(descriptors, axis=1),
        "paths": np.frombuffer(os.fsencode("\0".join(names)), dtype=np.uint8),
        "stamps": np.array([files[name] for name in names], dtype=np.int64),
    }
    about = {"made_by": model_hash, "failed": json.dumps(failed)}
    with whole_file(path) as partial:
        safetensors.numpy.save_file(arrays, partial, about)


def checked_index(path: Path, model_hash: str) -> Index:
    """Open an index of this model. Raises DlkitError if its parts do not fit each other."""
    index = open_index(path, model_hash)
    try:
        index.check()
    except DlkitError as error:
        raise DlkitError(f"{error}; remove it or give another --index", path) from error
    return index


def open_index(path: Path, model_hash: str | None = None) -> Index:
    """Open an index. Raises DlkitError if `model_hash` is given and differs."""
    if not exists(path):
        raise DlkitError("no such index; remove --no-update to create it", path)
    try:
        about, table = checkpoint.metadata(path)
        failed = schema.read_json(about["failed"])
        schema.check(failed, dict[str, tuple[tuple[Any, Any], str]], "failed")
        made_by = about["made_by"]
        # Offsets of tensors are relative to the header's end.
        start = path.stat().st_size - max(entry["data_offsets"][1] for entry in table.values())
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            mapped.madvise(mmap.MADV_SEQUENTIAL)
        kinds = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}
        arrays = {
            name: np.frombuffer(
                mapped,
                kinds[entry["dtype"]],
                math.prod(entry["shape"]),
                start + entry["data_offsets"][0],
            ).reshape(entry["shape"])
            for name, entry in table.items()
        }
        index = Index(
            arrays["descriptors"],
            np.array(arrays["norms"]),
            os.fsdecode(arrays["paths"].tobytes()).split("\0"),
            np.array(arrays["stamps"]),
            {name: (tuple(stamp), reason) for name, (stamp, reason) in failed.items()},
        )
    except (DlkitError, LookupError, TypeError, ValueError, OSError) as error:
        raise DlkitError(
            "not an index of dlkit, or damaged; remove it or give another --index", path
        ) from error
    if model_hash is not None and made_by != model_hash:
        raise DlkitError(
            f"{path}: an index of another model, layer or precision; remove it or give another"
            " --index"
        )
    return index


def save_sheet(results: Iterable[Hits | Failure], path: Path) -> Iterator[Hits | Failure]:
    """Yield the results, then save a picture of them to the file `path`.

    Each row is a framed query followed by its hits with their distances.
    """
    tiles: list[Image.Image] = []
    queries = 0
    for result in results:
        if isinstance(result, Hits):
            queries += 1
            if queries <= MAX_SHEET_QUERIES:
                tiles.append(tile(result.path, "query", framed=True))
                tiles += [tile(hit.path, f"{hit.distance:.4f}") for hit in result.hits]
                blank = Image.new("RGB", (TILE - 4, TILE - 4), "white")
                tiles += [blank] * (-len(tiles) % COLUMNS)
        yield result
    if queries > MAX_SHEET_QUERIES:
        log(f"{path} shows the first {MAX_SHEET_QUERIES} of {queries} queries")
    if tiles and is_main_process():
        images.save(images.grid(tiles, COLUMNS, TILE), path)
        note_saved(path)


def tile(path: str, caption: str, framed: bool = False) -> Image.Image:
    """Draw an image with a caption and the end of its path; blank if it is unreadable."""
    side = TILE - 4
    drawn = Image.new("RGB", (side, side), "white")
    canvas = ImageDraw.Draw(drawn)
    try:
        thumbnail = images.as_pillow(images.read(path, side - CAPTION))
    except DlkitError:
        thumbnail = Image.new("RGB", (side - CAPTION, side - CAPTION), "lightgray")
    left, top = (side - thumbnail.width) // 2, (side - CAPTION - thumbnail.height) // 2
    drawn.paste(thumbnail, (left, top))
    if framed:
        canvas.rectangle(
            (left, top, left + thumbnail.width - 1, top + thumbnail.height - 1),
            outline="red",
            width=4,
        )
    font = ImageFont.load_default(TEXT)
    name = path
    while canvas.textlength(name, font) > side:
        name = "..." + name.removeprefix("...")[1:]
    for line, text in enumerate((caption, name)):
        middle = (side / 2, side - CAPTION + TEXT * (line + 0.5) * 1.25)
        canvas.text(middle, text, fill="black", font=font, anchor="mm")
    return drawn
