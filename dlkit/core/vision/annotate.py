"""Pictures with their results drawn into them, saved as the results pass by."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from PIL import Image

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames, note_saved, picture_suffix
from dlkit.core.vision import images


class HasPath(Protocol):
    """Any result for one image."""

    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=HasPath)


def with_pictures(
    results: Iterable[R | Failure], use: Callable[[Image.Image, R], None]
) -> Iterator[R | Failure]:
    """Yield the results unchanged, and call `use` with each image at full size and its result.

    A result for which `use` raises a DlkitError, as for a file that cannot be written, becomes a
    Failure.
    """
    for result in results:
        if not isinstance(result, Failure) and is_main_process():
            try:
                use(images.as_pillow(images.read(result.path)), result)
            except DlkitError as error:  # also of a URL that fails the second time
                yield Failure(result.path, error.reason_for(result.path))
                continue
        yield result


def save_pictures(
    results: Iterable[R | Failure],
    names: FileNames,
    draw: Callable[[Image.Image, R], Image.Image],
) -> Iterator[R | Failure]:
    """Yield the results unchanged, and save each image with its result drawn into it."""

    def save(picture: Image.Image, result: R) -> None:
        path = names.path_for(result.path, picture_suffix(result.path))
        images.save(draw(picture, result), path)
        note_saved(path)

    return with_pictures(results, save)
