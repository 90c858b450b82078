"""Checkpoints: one safetensors file with the weights and a header that describes how to build them.

`__metadata__["dlkit"]` holds the Header as JSON; `__metadata__["sha256"]` the digest of the
weights. Reading a header loads no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

from dlkit import __version__
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io.files import whole_file
from dlkit.core.store import schema
from dlkit.core.store.renamed import upgrade_header

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

STEPS = " steps"  # the suffix of the name of a quantized tensor's steps
MAX_HEADER = 100_000_000  # the format's own limit
MAX_BYTES = 2**53  # of a file's data


@dataclass(frozen=True)
class Header:
    """The description of a model in its checkpoint; also its model card.

    `settings` describe how to build the model: a TypedDict of its task. `config` are the training
    command's settings, `metrics` the scores, `card` further facts: data, terms, command, ...
    `thresholds` are the least scores at which labels are printed, chosen on validation data.
    """

    task: str
    arch: str
    settings: Mapping[str, Any]
    labels: list[str]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    dlkit: str = __version__


class HeaderFields(TypedDict):
    """The types of a Header's fields in a file."""

    task: str
    arch: str
    settings: dict[str, Any]  # which the task checks
    labels: list[str]
    config: NotRequired[dict[str, Any]]
    metrics: NotRequired[dict[str, schema.Score | None]]
    card: NotRequired[dict[str, str]]
    thresholds: NotRequired[dict[str, schema.Share]]
    dlkit: NotRequired[str]


class ReadSettings(TypedDict):
    """The settings of the training that using a model reads; others are only printed."""

    val_share: NotRequired[schema.Share | None]
    seed: NotRequired[int | None]
    image_size: NotRequired[schema.Side | None]


class TensorEntry(TypedDict):
    """A tensor in the table of a safetensors file."""

    dtype: str
    shape: list[Annotated[int, schema.Within(0, MAX_BYTES)]]
    data_offsets: tuple[
        Annotated[int, schema.Within(0, MAX_BYTES)], Annotated[int, schema.Within(0, MAX_BYTES)]
    ]


class TextModelSettings(TypedDict):
    """The settings that the header of every neural text model has."""

    network: dict[str, Any]  # the keyword arguments of its architecture
    tokenizer: dict[str, Any]  # the content of its tokenizer's file


def text_model_settings(header: Header) -> TextModelSettings:
    """The settings of a text model's header."""
    settings: TextModelSettings = schema.fit(TextModelSettings, header.settings, foreign=True)
    return settings


def metadata(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The file's `__metadata__` and its table of tensors, which fit the file's size.

    Raises DlkitError for a file that cannot be read, or is no safetensors file, or a damaged one.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
                raise damaged(path, "the length of its header does not fit its size")
            text = file.read(length)
    except (OSError, ValueError) as error:
        raise DlkitError(os_reason(error), path) from error
    try:
        table = schema.read_json(text)
        schema.check(table, dict, "its table of tensors")
        about = table.pop("__metadata__", {})
        schema.check(about, dict[str, str], "its metadata")
        schema.check(table, dict[str, TensorEntry], "its table")
    except DlkitError as error:
        raise damaged(path, str(error)) from error
    end = max((entry["data_offsets"][1] for entry in table.values()), default=0)
    if not table or size != 8 + length + end:
        raise damaged(path, f"it has {size} bytes of {8 + length + end}")
    return about, table


def damaged(path: Path, reason: str) -> DlkitError:
    """The error for a file that is no model, or a damaged one."""
    return DlkitError(f"not a model file, or a damaged one ({reason})", path)


def read_header(path: Path, task: str | None = None) -> Header:
    """Read the header of a checkpoint without its weights, or that of a .json model, as `header`.

    Raises DlkitError if it is a model for another task than `task`, and for a header whose fields
    have wrong types.
    """
    if path.suffix == ".json":
        try:
            content = schema.read_json(path.read_bytes(), path)
        except (OSError, ValueError) as error:
            raise DlkitError(os_reason(error), path) from error
        if not isinstance(content, dict) or not isinstance(content.get("header"), dict):
            raise DlkitError("a JSON file, but not a model of dlkit", path)
        header = as_header(content["header"], path)
    else:
        about, _ = metadata(path)
        if "dlkit" not in about:
            raise DlkitError("a safetensors file, but not a model of dlkit", path)
        header = as_header(schema.read_json(about["dlkit"], path), path)
    if task is not None and header.task != task:
        raise DlkitError(f"a model for `dlkit {header.task}`, not for `dlkit {task}`", path)
    return header


def as_header(fields: Any, path: Path | None = None) -> Header:
    """The header in the value of a JSON text. Raises DlkitError for fields of wrong types."""
    try:
        schema.check(fields, HeaderFields, "")
        schema.check(fields.get("config", {}), ReadSettings, "config", foreign=True)
    except DlkitError as error:
        reason = "not a model of dlkit, or a damaged one"
        raise DlkitError(f"{reason}: {error}", path) from error
    return Header(**upgrade_header(fields))


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
    stored = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu()
        if bits == 32 or tensor.dim() < 2 or not tensor.is_floating_point():
            stored[name] = tensor.contiguous()
        elif bits == 16:
            stored[name] = tensor.half().contiguous()
        else:
            stored[name], stored[name + STEPS] = quantize_int8(tensor)
    save_stored(path, stored, header)


def save_stored(path: Path, stored: dict[str, "Tensor"], header: Header) -> None:
    """Write tensors as they are stored, with the header, to `path`, whole or not at all."""
    import safetensors.torch

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


def dequantize_int8(counts: "Tensor", steps: "Tensor") -> "Tensor":
    """The tensor (N, ...) in fp32 of integers and their row steps (N,)."""
    return counts.float() * steps.view(-1, *[1] * (counts.dim() - 1))


def load(path: Path, task: str | None = None) -> tuple[Header, dict[str, "Tensor"]]:
    """Header and weights of a checkpoint for `task`; weights of fewer bits are returned as fp32.

    Raises DlkitError for a damaged file, and for a model of another task.
    """
    import torch

    header, weights = load_stored(path, task)
    for name in [name for name in weights if name.endswith(STEPS)]:
        steps, counts = weights.pop(name), weights.get(name.removesuffix(STEPS))
        if counts is None or not counts.dim() or steps.shape != counts.shape[:1]:
            raise DlkitError(f"a damaged model file ({name} fits no tensor)", path)
        weights[name.removesuffix(STEPS)] = dequantize_int8(counts, steps)
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise DlkitError(f"its weights {name} are not all finite; train or get it again", path)
        if name.endswith("running_var") and (tensor < 0).any():
            raise DlkitError(f"its variances {name} are not all 0 or more; get it again", path)
    return header, {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in weights.items()
    }


def load_stored(path: Path, task: str | None = None) -> tuple[Header, dict[str, "Tensor"]]:
    """Header and tensors of a checkpoint as they are stored. Raises DlkitError as `load` does."""
    import safetensors.torch

    about, _ = metadata(path)
    header = read_header(path, task)
    try:
        weights = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, RuntimeError, LookupError) as error:
        reason = "its table of tensors does not fit its data"
        raise DlkitError(f"a damaged model file ({reason})", path) from error
    if digest(about["dlkit"], weights) != about.get("sha256"):
        raise DlkitError("a damaged model file (its checksum is wrong); get it again", path)
    return header, weights
