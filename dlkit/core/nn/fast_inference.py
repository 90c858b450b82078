"""Fast inference of text models: pre-packed linear layers and CUDA graphs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dlkit.core.nn.activations import ACTIVATIONS

# oneDNN's names of activations that it can compute at the end of a product.
FUSED = {
    ACTIVATIONS["gelu"]: ("gelu", "none"),
    ACTIVATIONS["gelu-tanh"]: ("gelu", "tanh"),
    ACTIVATIONS["relu"]: ("relu", ""),
}
MIN_ROWS = 4  # of a product: fewer take as long, and are summed in another order


class PackedLinear(nn.Module):
    """A linear layer whose weights are stored in oneDNN's own layout.

    The result for a row does not depend on the other rows or on their number, bit for bit.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, activation: tuple[str, str] = ("none", "")
    ) -> None:
        """`activation` is oneDNN's name of an activation on the result, and its variant."""
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self.bias = bias
        self.after: tuple[str, list[float], str] = activation[0], [], activation[1]

    def forward(self, x: Tensor) -> Tensor:
        """x (..., W) -> (..., outputs)."""
        rows = x.numel() // x.shape[-1]
        few = rows < MIN_ROWS
        inputs = x.reshape(1, rows, -1).expand(MIN_ROWS, -1, -1) if few else x
        y: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, *self.after)
        return y[0].view(*x.shape[:-1], -1) if few else y


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN can pack a weight of this device and type."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def pack_linears(network: nn.Module) -> nn.Module:
    """Pack the network's linear layers, where that is possible; for inference only."""
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
        # The output layer shares the embedding, whose rows are still looked up.
        network.head = PackedLinear(network.embedding.weight, None)  # type: ignore
    return network


def as_cuda_graph(
    compute: Callable[[Tensor], Tensor], ids: Tensor, lengths: Tensor
) -> Callable[[Tensor], Tensor]:
    """Capture compute(ids) as a CUDA graph, which saves the time of launching its kernels.

    `compute` advances `lengths` in place, and uses the same memory each time. The first run, which
    prepares the kernels, leaves `lengths` unchanged.
    """
    static_ids, before = ids.clone(), lengths.clone()
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        compute(static_ids)
    torch.cuda.current_stream().wait_stream(warm_up)
    lengths.copy_(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute(static_ids)

    def replay(ids: Tensor) -> Tensor:
        static_ids.copy_(ids)
        graph.replay()
        return result.clone()

    return replay
