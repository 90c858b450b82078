"""samples.txt: what the model writes after each epoch of its training."""

from typing import Any

import torch

from dlkit.core.training import Run
from dlkit.lm_generate.units import Units


def write_sample(run: Run, epoch: int, units: Units, tokens: int) -> None:
    """Add a text by the model to samples.txt, in place of one of the same epoch."""
    run.add_sample(units.decode(sample(run.evaluated, units, tokens, run.config.seed + epoch)))


@torch.inference_mode()
def sample(model: Any, units: Units, tokens: int, seed: int) -> list[int]:
    """Ids that the model draws one after the other, from a text's start, or from a line end."""
    model.eval()
    draw = torch.Generator().manual_seed(seed)
    first = units.begin if units.begin is not None else (units.encode("\n") or [0])[0]
    room = min(tokens, model.context or tokens)
    state = model.start(1, room)
    weights = next(model.parameters())
    ids = [first]
    for _ in range(room):
        logits = model.next_logits(torch.tensor([ids[-1:]], device=weights.device), state)
        shares = logits[0].double().softmax(0).cpu()
        ids.append(int(torch.multinomial(shares, 1, generator=draw)))
    return ids[1:]
