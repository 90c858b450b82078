"""Fast inference of text models: pre-packed linear layers and CUDA graphs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dlkit.core.nn.activations import ACTIVATIONS

# What oneDNN computes at the end of a product, by what follows the layer `up` otherwise.
FUSED = {
    ACTIVATIONS["gelu"]: ("gelu", "none"),
    ACTIVATIONS["gelu-tanh"]: ("gelu", "tanh"),
    ACTIVATIONS["relu"]: ("relu", ""),
}


FEWEST = 4  # rows of a product: fewer take as long, and are added up in another order


class PackedLinear(nn.Module):
    """A linear layer whose weights lie in oneDNN's own order, where they need no reordering.

    Its results for a row are the same bit by bit, whatever the other rows are, and how many.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, activation: tuple[str, str] = ("none", "")
    ) -> None:
        """`activation` is oneDNN's name of what is computed on the result, and its variant."""
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self.bias = bias
        self.after: tuple[str, list[float], str] = activation[0], [], activation[1]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if rows >= FEWEST:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *self.after)
        several = x.reshape(1, rows, -1).expand(FEWEST, -1, -1)
        y = torch.ops.mkldnn._linear_pointwise(several, self.weight, self.bias, *self.after)
        return y[0].view(*x.shape[:-1], -1)


def can_pack(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def pack_linears(network: nn.Module) -> nn.Module:
    """The network with its linear layers packed, where that is possible; for inference only."""
    if not can_pack(next(network.parameters())):
        return network
    for module in list(network.modules()):
        activation, up = getattr(module, "activation", None), getattr(module, "up", None)
        if activation in FUSED and type(up) is nn.Linear:
            module.up = PackedLinear(up.weight, up.bias, FUSED[activation])
            module.activation = nn.Identity()
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child.weight, child.bias))
    if getattr(network, "head", network) is None:
        # The output shares the embedding, which is also looked up by rows.
        network.head = PackedLinear(network.embedding.weight, None)  # type: ignore
    return network


def as_cuda_graph(
    compute: Callable[[Tensor], Tensor], ids: Tensor, lengths: Tensor
) -> Callable[[Tensor], Tensor]:
    """compute(ids) as a CUDA graph: to launch its kernels one by one takes longer than they do.

    `compute` moves `lengths` on in place, and reads and writes the same memory each time. The
    first run, which prepares the kernels, leaves `lengths` as they were.
    """
    given, before = ids.clone(), lengths.clone()
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        compute(given)
    torch.cuda.current_stream().wait_stream(beside)
    lengths.copy_(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute(given)

    def replay(ids: Tensor) -> Tensor:
        given.copy_(ids)
        graph.replay()
        return result.clone()

    return replay
