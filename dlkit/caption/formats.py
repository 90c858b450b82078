"""Output formats of captions: a line of text each, and COCO's json. Loads no torch."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from dlkit.core.failures import Failure
from dlkit.core.io.writers import WRITERS, Writer, write_text

if TYPE_CHECKING:
    from dlkit.caption.infer import ImageCaptions


@dataclass(frozen=True)
class TextRows:
    """The printed columns of an image's captions."""

    path: str
    columns: list[dict[str, Any]]

    def rows(self) -> list[dict[str, Any]]:
        return self.columns


def write_lines(
    results: "Iterable[ImageCaptions | Failure]", file: TextIO, scores: bool = False
) -> None:
    """Path and caption, and with `scores` the score; tab-separated, in columns on a terminal."""
    names = ["path", "caption", *(["score"] if scores else [])]

    def select_columns() -> Iterator[TextRows | Failure]:
        for result in results:
            if isinstance(result, Failure):
                yield result
            else:
                rows = [{name: row[name] for name in names} for row in result.rows()]
                yield TextRows(result.path, rows)

    write_text(select_columns(), file)


def write_coco(results: "Iterable[ImageCaptions | Failure]", file: TextIO) -> None:
    """One COCO data set: images, and their captions with scores as annotations."""
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for result in results:
        if isinstance(result, Failure):
            continue
        image = len(content["images"]) + 1
        size = {"width": result.width, "height": result.height}
        content["images"].append({"id": image, "file_name": result.path, **size})
        for found in result.captions:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image,
                    "caption": found.caption,
                    "score": found.score,
                }
            )
    print(json.dumps(content, ensure_ascii=False), file=file)


FORMATS: dict[str, Writer] = {**WRITERS, "text": write_lines, "coco": write_coco}
