"""Checkpoints: one safetensors file with the weights and a header that describes how to build them.

`__metadata__["dlkit"]` holds the Header as JSON; `__metadata__["sha256"]` the digest of the
weights. Reading a header loads no torch.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from dlkit import __version__
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.store.renamed import upgrade_header

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

STEPS = " steps"  # the suffix of the name of a quantized tensor's steps
MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class Header:
    """The description of a model in its checkpoint; also its model card.

    `settings` describe how to build the model: a TypedDict of its task. `config` are the training
    command's settings, `metrics` the scores, `card` further facts: data, terms, command, ...
    """

    task: str
    arch: str
    settings: Mapping[str, Any]
    labels: list[str]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)
    dlkit: str = __version__


class TextModelSettings(TypedDict):
    """The settings that the header of every neural text model has."""

    network: dict[str, Any]  # the keyword arguments of its architecture
    tokenizer: dict[str, Any]  # the content of its tokenizer's file


def text_model_settings(header: Header) -> TextModelSettings:
    """The settings of a text model's header."""
    return cast(TextModelSettings, header.settings)


def metadata(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The file's `__metadata__` and its table of tensors."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER:
                raise ValueError("its header is too long")
            table = json.loads(file.read(length))
        size = (
            8
            + length
            + max((t["data_offsets"][1] for n, t in table.items() if n != "__metadata__"))
        )
        if path.stat().st_size != size:
            raise ValueError(f"it has {path.stat().st_size} bytes of {size}")
        return table.pop("__metadata__", {}), table
    except FileNotFoundError:
        raise DlkitError("no such file", path) from None
    except OSError as error:
        raise DlkitError(f"{error.strerror}", path) from error
    except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise DlkitError(f"not a model file, or a damaged one ({error})", path) from error


def read_header(path: Path, task: str | None = None) -> Header:
    """Read the header of a checkpoint without its weights, or that of a .json model, as `header`.

    Raises DlkitError if it is a model for another task than `task`.
    """
    try:
        if path.suffix == ".json":
            header = Header(**upgrade_header(json.loads(path.read_bytes())["header"]))
        else:
            header = Header(**upgrade_header(json.loads(metadata(path)[0]["dlkit"])))
    except (KeyError, TypeError, ValueError) as error:
        raise DlkitError("a safetensors file, but not a model of dlkit", path) from error
    if task is not None and header.task != task:
        raise DlkitError(f"a model for `dlkit {header.task}`, not for `dlkit {task}`", path)
    return header


def digest(header: str, weights: "Mapping[str, Tensor | np.ndarray]") -> str:
    """SHA-256 over the header, and names, types, shapes and bytes of the weights in any order.

    A NumPy array has the digest of the tensor with the same content.
    """
    import hashlib

    sha = hashlib.sha256(header.encode())
    for name, tensor in sorted(weights.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        sha.update(f"{name} torch.{dtype} {tuple(tensor.shape)}".encode())
        sha.update(raw(tensor))
    return sha.hexdigest()


def raw(tensor: "Tensor | np.ndarray") -> memoryview:
    """The bytes of a tensor or array."""
    import numpy as np

    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def save(path: Path, weights: dict[str, "Tensor"], header: Header, bits: int = 32) -> None:
    """Write weights and header to `path`, whole or not at all.

    `bits` are those of a stored number of a matrix or kernel: 16 is half precision, 8 an integer
    share of the largest number of its row (`quantize_int8`). Vectors (norms, biases) keep theirs.
    """
    import safetensors.torch

    stored = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu()
        if bits == 32 or tensor.dim() < 2 or not tensor.is_floating_point():
            stored[name] = tensor.contiguous()
        elif bits == 16:
            stored[name] = tensor.half().contiguous()
        else:
            stored[name], stored[name + STEPS] = quantize_int8(tensor)
    described = json.dumps(asdict(header))
    about = {"dlkit": described, "sha256": digest(described, stored)}
    with whole_file(path) as partial:
        partial.write_bytes(safetensors.torch.save(stored, about))


def quantize_int8(tensor: "Tensor") -> "tuple[Tensor, Tensor]":
    """Symmetric quantization of a tensor (N, ...): integers from -127 to 127, and row steps (N,).

    A step is a 127th of the largest number of its row, so the error is at most half a step.
    """
    import torch

    steps = tensor.float().flatten(1).abs().amax(1) / 127
    shape = (-1, *[1] * (tensor.dim() - 1))
    counts = (tensor.float() / steps.clamp(min=1e-30).view(shape)).round()
    return counts.to(torch.int8).contiguous(), steps


def load(path: Path, task: str | None = None) -> tuple[Header, dict[str, "Tensor"]]:
    """Header and weights of a checkpoint for `task`; weights of fewer bits are returned as fp32.

    Raises DlkitError for a damaged file, and for a model of another task.
    """
    import safetensors.torch
    import torch

    about, _ = metadata(path)
    header = read_header(path, task)
    try:
        weights = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise DlkitError(f"a damaged model file ({error})", path) from error
    if digest(about["dlkit"], weights) != about.get("sha256"):
        raise DlkitError("a damaged model file (its checksum is wrong); get it again", path)
    for name in [name for name in weights if name.endswith(STEPS)]:
        steps, counts = weights.pop(name), weights[name.removesuffix(STEPS)]
        shape = (-1, *[1] * (counts.dim() - 1))
        weights[name.removesuffix(STEPS)] = counts.float() * steps.view(shape)
    return header, {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in weights.items()
    }
