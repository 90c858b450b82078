"""Rebuilding a network from a checkpoint's header and weights."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header


class skip_init(TorchFunctionMode):
    """Networks that are built within have any numbers as weights: theirs are yet to be loaded.

    The meta device would do, too, but drawing numbers there imports all of torch's compiler.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def rebuild(
    name: str,
    header: Header,
    weights: dict[str, Tensor],
    build: Callable[..., nn.Module],
    read_vocabulary: Callable[[Any], Any],
) -> tuple[Any, Any]:
    """The vocabulary and the network, with its weights, of a model of texts called `name`.

    `build` takes the architecture and the settings of the network, `read_vocabulary` those of the
    tokenizer. Raises DlkitError where they are not what this dlkit knows.
    """
    try:
        vocabulary = read_vocabulary(header.settings["tokenizer"])
        with skip_init():
            network = build(header.arch, **header.settings["network"])
        network.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise DlkitError(f"{name}: not a model that this dlkit can build ({reason})") from error
    return vocabulary, network


def check_tokens(name: str, of_tokenizer: int, of_network: int) -> None:
    """Raise DlkitError unless tokenizer and network have as many tokens."""
    if of_network != of_tokenizer:
        raise DlkitError(
            f"{name}: its tokenizer has {of_tokenizer} tokens and its network {of_network}:"
            " they are not of the same model"
        )
