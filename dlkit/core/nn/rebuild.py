"""Networks rebuilt from a checkpoint's header and weights, with errors that keep their cause."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header, text_model_settings

N = TypeVar("N", bound=nn.Module)
V = TypeVar("V")


SPARE_NUMBERS = 1 << 26  # of a network beyond those in its file: positions, masks, unused parts
SPARE_TENSORS = 10_000


class Building(TorchFunctionMode):
    """The context in which the network is built that a file describes.

    With `skips_init`, initialization is skipped, since the weights are loaded next. (The meta
    device would do the same, but random numbers there import all of torch's compiler.) Raises
    DlkitError for a network that is much larger than its weights, which are in `weights`.
    """

    def __init__(
        self, weights: Mapping[str, Tensor] | None = None, skips_init: bool = True
    ) -> None:
        super().__init__()
        self.skips_init = skips_init
        known = weights is not None
        values = [] if weights is None else weights.values()
        self.numbers = 8 * sum(w.numel() for w in values) + SPARE_NUMBERS if known else math.inf
        self.tensors = 8 * len([*values]) + SPARE_TENSORS if known else math.inf

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.skips_init and getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if function in FACTORIES and str(kwargs.get("device")) != "meta":
            self.tensors -= 1
            self.numbers -= numbers_in(args, kwargs)
            if min(self.tensors, self.numbers) < 0:
                raise DlkitError("the network that it describes is larger than its weights")
        return function(*args, **kwargs)


FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


def numbers_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The size of the tensor that one of FACTORIES makes with these arguments."""
    size = kwargs.get("size", args[0] if args and isinstance(args[0], tuple | list) else args)
    sides = size if isinstance(size, tuple | list) else [size]
    return math.prod(side for side in sides if isinstance(side, int) and side > 0)


def restore(
    path: Path,
    task: str,
    build: Callable[[Header], N],
    name: str | None = None,
    initialize: bool = False,
) -> tuple[Header, N]:
    """Header and network of a checkpoint for `task`, on the CPU in fp32.

    `build` makes the network that the header describes. With `initialize` it draws random weights
    first, so that networks which are built next get the same random numbers as ever. Errors are
    about `name`, by default the path. Raises DlkitError as `build_network` and `load_weights` do.
    """
    header, weights = checkpoint.load(path, task)
    name = name or str(path)
    network = build_network(name, header, build, weights, initialize)
    load_weights(name, network, weights, header.arch)
    return header, network


def build_network(
    name: str,
    header: Header,
    build: Callable[[Header], V],
    weights: Mapping[str, Tensor] | None = None,
    initialize: bool = False,
) -> V:
    """`build(header)`, by default without initialization.

    Raises DlkitError that names the setting which is missing, unknown or unusable, and for a
    network that is larger than its `weights`.
    """
    try:
        with Building(weights, not initialize):
            return build(header)
    except KeyError as error:
        cause = f"it has no setting {error}"
        raise unbuildable(name, header, cause) from error
    except DlkitError as error:
        raise unbuildable(name, header, str(error)) from error
    except Exception as error:  # of any layer: its arguments come from the file
        cause = "its settings do not fit each other"
        raise unbuildable(name, header, cause) from error


def unbuildable(name: str, header: Header, cause: str) -> DlkitError:
    """The error for a header from which no network can be built."""
    return DlkitError(
        f"the architecture {header.arch} cannot be built from its header: {cause} (written by dlkit"
        f" {header.dlkit})",
        name,
    )


def load_weights(
    name: str, network: nn.Module, weights: Mapping[str, Tensor], arch: str, assign: bool = False
) -> None:
    """Load all weights into the network; with `assign` they replace its own tensors.

    Raises DlkitError that names the first weight which is missing, unknown or of another shape.
    """
    own = network.state_dict()
    if misfit := first_misfit(own, weights):
        raise DlkitError(f"its weights do not fit the architecture {arch}: {misfit}", name)
    network.load_state_dict(weights, assign=assign)


def first_misfit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    """The first difference between the weights a network needs and those found; None if none."""
    for weight, tensor in own.items():
        if misfit := find_misfit(weight, tensor, weights):
            return misfit
    unknown = next((weight for weight in weights if weight not in own), None)
    return None if unknown is None else f"{unknown} is not part of it"


def find_misfit(weight: str, needed: Tensor, weights: Mapping[str, Tensor]) -> str | None:
    """Why the weight of that name cannot be loaded from `weights`; None if it can."""
    if weight not in weights:
        return f"{weight} is missing"
    if weights[weight].shape != needed.shape:
        found = tuple(weights[weight].shape)
        return f"{weight} needs the shape {tuple(needed.shape)} and has {found}"
    return None


def rebuild(
    name: str,
    header: Header,
    weights: Mapping[str, Tensor],
    build: Callable[..., N],
    read_vocabulary: Callable[[Any], V],
) -> tuple[V, N]:
    """Vocabulary and network of a text model called `name`.

    `build` takes the architecture and the settings of the network, `read_vocabulary` those of the
    tokenizer. Raises DlkitError as `build_network` and `load_weights` do.
    """

    def build_both(header: Header) -> tuple[V, N]:
        settings = text_model_settings(header)
        network = settings["network"]
        size = network.get("vocab_size")
        for token in ("pad", "bos", "eos", "unk"):
            if isinstance(size, int) and not 0 <= network.get(token, 0) < size:
                raise DlkitError(f"{token} is not one of the {size} tokens")
        vocabulary = read_vocabulary(settings["tokenizer"])
        return vocabulary, build(header.arch, **settings["network"])

    vocabulary, network = build_network(name, header, build_both, weights)
    load_weights(name, network, weights, header.arch, assign=True)
    return vocabulary, network


def check_vocabulary_size(name: str, tokenizer_size: int, network_size: int) -> None:
    """Raise DlkitError unless tokenizer and network have the same number of tokens."""
    if network_size != tokenizer_size:
        raise DlkitError(
            f"its tokenizer has {tokenizer_size} tokens, but its network {network_size}; they"
            " belong to different models",
            name,
        )
