"""Limited-memory BFGS without a line search: one evaluation a step, as style transfer wants it."""

from collections import deque

import torch
from torch import Tensor

LEAST_CURVATURE = 1e-10  # of a pair that is kept


class LBFGS:
    """Nocedal and Wright 2006, algorithm 7.4 (the two-loop recursion), within bounds.

    `history` pairs of moves and changes of the gradient stand for the Hessian. The moves are those
    that were made, after values were cut off at the `bounds`, so that the pairs stay true, which
    those of torch.optim.LBFGS do not where a closure clamps.
    """

    def __init__(
        self, lr: float = 1.0, history: int = 50, bounds: tuple[float, float] | None = None
    ) -> None:
        self.lr, self.bounds = lr, bounds
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=history)
        self.last: tuple[Tensor, Tensor] | None = None  # move and gradient

    @torch.no_grad()
    def step(self, x: Tensor, gradient: Tensor) -> None:
        """Move `x`, in place, given the gradient there."""
        if self.last is None:
            # The first scale is unknown: a step of length 1 at most, as in torch.optim.LBFGS.
            direction = -gradient * min(1.0, 1 / max(float(gradient.abs().sum()), 1e-30))
        else:
            move, before = self.last
            change = gradient - before
            curvature = (change * move).sum()
            if curvature > LEAST_CURVATURE:
                self.pairs.append((move, change, 1 / curvature))
            direction = self.direction(gradient)
        start = x.clone()
        x += self.lr * direction
        if self.bounds is not None:
            x.clamp_(*self.bounds)
        self.last = (x - start, gradient)

    def direction(self, gradient: Tensor) -> Tensor:
        """-H g, H being the inverse Hessian that the pairs imply."""
        if not self.pairs:
            return -gradient
        q = -gradient
        shares = []
        for move, change, inverse in reversed(self.pairs):
            share = inverse * (move * q).sum()
            q -= share * change
            shares.append(share)
        _, change, inverse = self.pairs[-1]
        q /= inverse * change.square().sum()
        for (move, change, inverse), share in zip(self.pairs, reversed(shares), strict=True):
            q += (share - inverse * (change * q).sum()) * move
        return q
