"""Query by example: the images of a folder that are most like one, by a network's descriptors.

The descriptors are kept in an index, a safetensors file that is memory-mapped; every answer is
exact, for all rows are compared. Shapes: N images of the folder, Q queries, D numbers of a
descriptor.
"""

import hashlib
import json
import math
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import safetensors.numpy
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dlkit.classify.features import describer
from dlkit.classify.infer import Classifier, predict
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, Skipped
from dlkit.core.io.download import cache
from dlkit.core.io.files import whole_file
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.parallel.sharding import Shard
from dlkit.core.progress import log, track
from dlkit.core.store import checkpoint
from dlkit.core.vision import images

Distance = Literal["cosine", "euclidean"]
Stamp = tuple[int, int]  # size of a file in bytes, and its time of change in ns

QUERIES_AT_ONCE = 16  # compared in one product
ROWS_AT_ONCE = 65_536  # whose exact distances are worked out together
ROUNDING = 2.0**-24  # of one operation in fp32, as a share
TILE, COLUMNS = 200, 6  # pixels a side; tiles in a row
TEXT, CAPTION = 13, 42  # pixels of a line, and of a tile for its two lines
MOST_ON_SHEET = 40  # queries


@dataclass(frozen=True)
class Hit:
    path: str
    distance: float


@dataclass(frozen=True)
class Hits:
    """The images most like the query `path`, nearest first."""

    columns: ClassVar = ["query", "rank", "path", "distance"]

    path: str
    hits: list[Hit]

    def rows(self) -> list[dict[str, Any]]:
        return [{"query": self.path, "rank": i, **vars(h)} for i, h in enumerate(self.hits, 1)]


@dataclass(frozen=True)
class Index:
    """Descriptors of a folder's images, in the order of their paths (relative to the folder).

    `descriptors` (N, D) in fp32 stay on the disk; `norms` (N,) are their lengths. `stamps` (N, 2)
    are sizes and times of the files; `failed` has the stamp and the reason of those that could
    not be read.
    """

    descriptors: np.ndarray
    norms: np.ndarray
    paths: list[str]
    stamps: np.ndarray
    failed: dict[str, tuple[Stamp, str]]


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
    """The `top` images of the folder nearest to each query, in the order of the queries.

    A query that lies in the folder is not among its own hits. Equally near images come in the
    order of their paths. The index is made or brought up to date first, unless `update` is false;
    it is in dlkit's cache unless `index_path` says where. Only the `shard` of the queries is
    answered; without one, the processes under torchrun share them, and the images to be indexed.
    """
    if not folder.is_dir():
        raise DlkitError(f"{folder}: no such folder to search in")
    chosen = describer(classifier, layer)

    def gathered() -> Iterator[Hits | Failure]:
        with distributed.launch(str(classifier.device)) as process:
            made_by = fingerprint(classifier, layer)
            path = index_path or default_index(folder, made_by)
            if update:
                index = up_to_date(path, made_by, folder, chosen, process, batch_size, workers)
            else:
                index = open_index(path, made_by)
            report(index, folder)
            mine = shard or Shard(process.rank, process.world_size)
            described = predict(chosen, mine.select(images.files(queries)), batch_size, workers)
            yield from process.gather(answered(described, index))

    def answered(
        described: Iterator[tuple[str, Tensor | Failure]], index: Index
    ) -> Iterator[Hits | Failure]:
        while window := list(islice(described, QUERIES_AT_ONCE)):
            yield from answers(window, index, folder, top, distance)

    return gathered()


def answers(
    window: Sequence[tuple[str, Tensor | Failure]],
    index: Index,
    folder: Path,
    top: int,
    distance: Distance,
) -> Iterator[Hits | Failure]:
    """The hits of some queries, which are compared together."""
    good = [found.numpy() for _, found in window if not isinstance(found, Failure)]
    # One more than asked for: the query itself may be among them.
    found_rows = iter(nearest(index, np.stack(good), top + 1, distance) if good else [])
    for query, found in window:
        if isinstance(found, Failure):
            yield found
            continue
        own = own_row(query, folder, index.paths)
        rows, distances = next(found_rows)
        hits = [
            Hit(os.path.join(folder, index.paths[row]), round(value, 4))
            for row, value in zip(rows.tolist(), distances.tolist(), strict=True)
            if row != own
        ]
        yield Hits(query, hits[:top])


def own_row(query: str, folder: Path, paths: list[str]) -> int | None:
    """The row of the query's own file, if it is in the folder."""
    resolved, root = Path(query).resolve(), folder.resolve()
    if not resolved.is_relative_to(root):
        return None
    name = str(resolved.relative_to(root))
    row = bisect_left(paths, name)
    return row if row < len(paths) and paths[row] == name else None


def nearest(
    index: Index, queries: np.ndarray, top: int, distance: Distance = "cosine"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the index and their distances, nearest first, for each query of (Q, D) in fp32.

    Cosine distance is 1 - cos(angle), from 0 to 2, and 1 from a descriptor of zeros. The answer is
    that of fp64: a product in fp32 finds all rows that can be among the `top` given its rounding,
    and these are compared again. Of equally near rows the first come first.
    """
    top = min(top, len(index.paths))
    products = queries @ index.descriptors.T
    norms = index.norms
    # Bound on the rounding of a product, as a share of both lengths, with some to spare.
    rounding = 2 * (index.descriptors.shape[1] + 8) * ROUNDING
    results = []
    for query, product in zip(queries, products, strict=True):
        length = np.linalg.norm(query)
        if distance == "cosine":
            keys = -product / np.maximum(norms, np.finfo(np.float32).tiny)
            error: Any = rounding * length
        else:
            keys = norms**2 - 2 * product
            error = rounding * norms * (norms + 2 * length)
        farthest = np.partition(keys + error, top - 1)[top - 1]
        rows = np.flatnonzero(keys - error <= farthest)
        exact = np.concatenate(
            [
                exact_distances(
                    index.descriptors[rows[start : start + ROWS_AT_ONCE]], query, distance
                )
                for start in range(0, len(rows), ROWS_AT_ONCE)
            ]
        )
        order = np.argsort(exact, kind="stable")[:top]
        results.append((rows[order], exact[order]))
    return results


def exact_distances(descriptors: np.ndarray, query: np.ndarray, distance: Distance) -> np.ndarray:
    """Distances (N,) of descriptors (N, D) from one query (D,), in fp64."""
    wide, goal = descriptors.astype(np.float64), query.astype(np.float64)
    if distance == "euclidean":
        return np.sqrt(np.square(wide - goal).sum(axis=1))
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(np.square(goal).sum())
    cosines = (wide * goal).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return np.maximum(1 - cosines, 0)


def fingerprint(classifier: Classifier, layer: str | None) -> str:
    """What a descriptor depends on beside the image: weights, layers, preprocessing, precision."""
    about = [repr(classifier.network), asdict(classifier.preprocessing), layer]
    weights = {name: part.cpu() for name, part in classifier.network.state_dict().items()}
    return checkpoint.digest(json.dumps(about), weights)


def default_index(folder: Path, made_by: str) -> Path:
    """Where the index of a folder is kept: in the cache, not among the user's images."""
    resolved = folder.resolve()
    key = hashlib.sha256(os.fsencode(resolved) + made_by.encode()).hexdigest()[:16]
    return cache() / "search" / f"{resolved.name}-{key}.safetensors"


def report(index: Index, folder: Path) -> None:
    """Count and name on stderr what is left out of the search."""
    skipped = Skipped()
    for name, (_, reason) in index.failed.items():
        skipped.add("unreadable image", f"{os.path.join(folder, name)} ({reason})")
    skipped.report()


def scan(folder: Path) -> dict[str, Stamp]:
    """The images in a folder and its folders, as paths relative to it, in their order."""
    found = {}
    suffixes = tuple(images.SUFFIXES)
    start = len(os.path.join(folder, ""))
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name.lower().endswith(suffixes) and entry.is_file():
                    status = entry.stat()
                    found[entry.path[start:]] = (status.st_size, status.st_mtime_ns)
    return dict(sorted(found.items()))


def up_to_date(
    path: Path,
    made_by: str,
    folder: Path,
    describing: Classifier,
    process: Process,
    batch_size: int = 64,
    workers: int = 2,
) -> Index:
    """The index in the file `path`, with what changed in the folder described anew.

    Images that are gone leave it; new ones, and ones of another size or time, are described.
    Those that could not be read are not tried again until they change. When this is interrupted,
    what is done is kept.
    """
    there = scan(folder)
    if not there:
        raise DlkitError(f"{folder}: no images to search in")
    old = open_index(path, made_by) if path.exists() else None
    failed = {}
    known: dict[str, int] = {}
    if old is not None:
        if old.paths == list(there) and not old.failed and same(old.stamps, there):
            return old
        failed = {name: entry for name, entry in old.failed.items() if there.get(name) == entry[0]}
        stamps = old.stamps.tolist()
        for row, (name, stamp) in enumerate(zip(old.paths, stamps, strict=True)):
            if there.get(name) == tuple(stamp):
                known[name] = row
        if len(known) == len(old.paths) and len(known) + len(failed) == len(there):
            return old
    missing = [name for name in there if name not in known and name not in failed]
    fresh: dict[str, np.ndarray] = {}
    shared = track(process.share([os.path.join(folder, name) for name in missing]), "indexing")
    described = process.gather(predict(describing, shared, batch_size, workers))
    try:
        for name, (_, found) in zip(missing, described, strict=True):
            if isinstance(found, Failure):
                failed[name] = (there[name], found.error)
            else:
                fresh[name] = found.numpy()
    finally:
        if process.is_main and (fresh or known):
            write_index(path, made_by, there, old, known, fresh, failed)
    if not (fresh or known):
        name, (_, reason) = next(iter(failed.items()))
        raise DlkitError(f"{folder}: none of its images can be read ({name}: {reason})")
    process.barrier()
    return open_index(path, made_by)


def same(stamps: np.ndarray, there: dict[str, Stamp]) -> bool:
    return bool((stamps == np.array(list(there.values()), dtype=np.int64)).all())


def write_index(
    path: Path,
    made_by: str,
    there: dict[str, Stamp],
    old: Index | None,
    known: dict[str, int],
    fresh: dict[str, np.ndarray],
    failed: dict[str, tuple[Stamp, str]],
) -> None:
    """Write the rows of `old` that are `known` and the `fresh` ones, in the order of `there`."""
    names = [name for name in there if name in known or name in fresh]
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
        "stamps": np.array([there[name] for name in names], dtype=np.int64),
    }
    about = {"made_by": made_by, "failed": json.dumps(failed)}
    with whole_file(path) as partial:
        safetensors.numpy.save_file(arrays, partial, about)


def open_index(path: Path, made_by: str | None = None) -> Index:
    """The index in a file. Raises DlkitError for one that was not `made_by` the same network."""
    if not path.exists():
        raise DlkitError(f"{path}: no such index: leave out --no-update, and it is made")
    try:
        about, table = checkpoint.metadata(path)
        failed = json.loads(about["failed"])
        # The tensors' places are relative to the header's end.
        start = path.stat().st_size - max(entry["data_offsets"][1] for entry in table.values())
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            mapped.madvise(mmap.MADV_SEQUENTIAL)  # all rows are read, in order
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
    except (DlkitError, KeyError, ValueError) as error:
        raise DlkitError(
            f"{path}: not an index of dlkit, or a damaged one: remove it, or give another --index"
        ) from error
    if made_by is not None and about["made_by"] != made_by:
        raise DlkitError(
            f"{path} is an index of another model, layer or precision: remove it, or give"
            " another --index"
        )
    return index


def save_sheet(results: Iterable[Hits | Failure], path: Path) -> Iterator[Hits | Failure]:
    """The results unchanged, and in the end a picture of them in the file `path`.

    Each query begins a row, framed, and its hits follow, with their distances below.
    """
    tiles: list[Image.Image] = []
    queries = 0
    for result in results:
        if isinstance(result, Hits):
            queries += 1
            if queries <= MOST_ON_SHEET:
                tiles.append(tile(result.path, "query", framed=True))
                tiles += [tile(hit.path, f"{hit.distance:.4f}") for hit in result.hits]
                blank = Image.new("RGB", (TILE - 4, TILE - 4), "white")
                tiles += [blank] * (-len(tiles) % COLUMNS)
        yield result
    if queries > MOST_ON_SHEET:
        log(f"{path} shows the first {MOST_ON_SHEET} of {queries} queries")
    if tiles and is_main_process():
        images.save(images.grid(tiles, COLUMNS, TILE), path)


def tile(path: str, caption: str, framed: bool = False) -> Image.Image:
    """A picture with its caption and the end of its path below it; blank if it cannot be read."""
    side = TILE - 4
    drawn = Image.new("RGB", (side, side), "white")
    canvas = ImageDraw.Draw(drawn)
    try:
        shown = images.as_pillow(images.read(path, side - CAPTION))
    except DlkitError:
        shown = Image.new("RGB", (side - CAPTION, side - CAPTION), "lightgray")
    left, top = (side - shown.width) // 2, (side - CAPTION - shown.height) // 2
    drawn.paste(shown, (left, top))
    if framed:
        canvas.rectangle(
            (left, top, left + shown.width - 1, top + shown.height - 1), outline="red", width=4
        )
    font = ImageFont.load_default(TEXT)
    name = path
    while canvas.textlength(name, font) > side:
        name = "..." + name.removeprefix("...")[1:]
    for line, text in enumerate((caption, name)):
        middle = (side / 2, side - CAPTION + TEXT * (line + 0.5) * 1.25)
        canvas.text(middle, text, fill="black", font=font, anchor="mm")
    return drawn
