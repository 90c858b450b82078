"""The images that Python functions take, as sources of `images.read`. Loads no torch until called.

Shapes: H x W pixels, C channels: 1 (gray), 3 (RGB) or 4 (RGB and alpha, shown on white).
"""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, Union

from dlkit.core.errors import DlkitError
from dlkit.core.io.image_files import ImageSource

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", "Image.Image", "np.ndarray", "Tensor"]
Images: TypeAlias = list[Any] | tuple[Any, ...] | Iterator[Any]

CHANNELS = (1, 3, 4)
ACCEPTED = (
    "give a path, a URL, a PIL image, an array (H x W, H x W x 3 or H x W x 4) or a tensor"
    " (C x H x W); pixels are uint8 from 0 to 255 or floats from 0 to 1"
)


def as_sources(images: ImageLike | Images) -> tuple[Iterator[ImageSource], bool]:
    """The sources of one image or many, and whether there are many.

    Many are a list, a tuple, another iterable, or a tensor N x C x H x W. An object that is no
    image becomes a source whose reading fails, in its place among the others.
    """
    if is_many(images):
        return (as_source(image, f"image {n}") for n, image in enumerate(images)), True
    return iter([as_source(images, "image")]), False


def is_many(images: Any) -> TypeGuard[Iterable[Any]]:
    """Whether these are many images, not one."""
    if is_tensor(images):
        return bool(images.ndim == 4)
    if isinstance(images, str | os.PathLike) or hasattr(type(images), "__array_interface__"):
        return False  # a path, an array or a PIL image
    return isinstance(images, Iterable)


def is_tensor(image: Any) -> TypeGuard["Tensor"]:
    """Whether this is a tensor of torch."""
    import torch

    return isinstance(image, torch.Tensor)


def as_source(image: Any, name: str) -> ImageSource:
    """The source of one image; `name` is that of an image without a file."""
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        return ImageSource(path if isinstance(path, str) else os.fsdecode(path))
    source = ImageSource(getattr(image, "filename", "") or name)
    try:
        source.image = as_pillow(image)
    except DlkitError as error:
        source.image = error
    return source


def as_pillow(image: Any) -> "Image.Image":
    """A PIL image of a PIL image, an array or a tensor. Raises DlkitError for anything else."""
    import numpy as np
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    if is_tensor(image):
        return array_to_pillow(rows_of_tensor(image))
    if isinstance(image, np.ndarray):
        check_array(image)
        return array_to_pillow(image)
    raise DlkitError(f"{type(image).__name__}: not an image; {ACCEPTED}")


def rows_of_tensor(tensor: "Tensor") -> "np.ndarray":
    """The array (H, W, C) of a tensor (C, H, W)."""
    shape = " x ".join(map(str, tensor.shape))
    if tensor.ndim != 3 or tensor.shape[0] not in CHANNELS:
        last = tensor.ndim == 3 and tensor.shape[2] in CHANNELS
        advice = "use tensor.permute(2, 0, 1)" if last else ACCEPTED
        raise DlkitError(f"a tensor {shape}, where C x H x W is needed; {advice}")
    pixels = tensor.detach().cpu().permute(1, 2, 0)
    return (pixels.float() if pixels.is_floating_point() else pixels).numpy()


def check_array(array: "np.ndarray") -> None:
    """Raise DlkitError unless the array is H x W, or H x W x C and nothing else."""
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        if array.ndim == 3 and array.shape[0] in CHANNELS:
            raise DlkitError(f"an array {shape}, whose channels may be first or last; {ACCEPTED}")
        return
    if array.ndim == 3 and array.shape[0] in CHANNELS:
        advice = "use array.transpose(1, 2, 0)"
    elif array.ndim == 4:
        advice = "for many images use list(array)"
    else:
        advice = ACCEPTED
    raise DlkitError(f"an array {shape}, where H x W or H x W x C is needed; {advice}")


def array_to_pillow(array: "np.ndarray") -> "Image.Image":
    """A PIL image of an array (H, W) or (H, W, C), uint8 or floats from 0 to 1."""
    import numpy as np
    from PIL import Image

    if not array.size:
        raise DlkitError(f"{' x '.join(map(str, array.shape))}, which is empty")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise DlkitError(
                f"floats from {array.min():.4g} to {array.max():.4g}, where 0 to 1 is needed; use"
                " uint8 for 0 to 255"
            )
        array = (array.astype(np.float64) * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise DlkitError(f"pixels of type {array.dtype}; use uint8 from 0 to 255, or floats 0 to 1")
    return Image.fromarray(np.ascontiguousarray(array.squeeze(2) if is_gray(array) else array))


def is_gray(array: "np.ndarray") -> bool:
    """Whether an array (H, W, C) has one channel."""
    return array.ndim == 3 and array.shape[2] == 1
