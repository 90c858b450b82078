"""Limited-memory BFGS with bounds and without line search: one evaluation per step."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_CURVATURE = 1e-10  # of a stored pair
MAX_INCREASE = 1.1  # relative to the best loss: larger increases are rejected
MAX_REJECTED = 4  # consecutive rejections before the pairs are discarded


@dataclass(frozen=True)
class Iterate:
    """An accepted point and the gradient there."""

    x: Tensor
    gradient: Tensor


class LBFGS:
    """Nocedal and Wright 2006, algorithm 7.4 (the two-loop recursion), within bounds.

    `history` pairs of steps and gradient differences approximate the Hessian. Steps are those of
    torch.optim.LBFGS with a clamping closure until one increases the loss too much. Such a step is
    rejected; its curvature pair is kept, so that the next step from the same point is shorter.
    After several rejections in a row, which the bounds may cause, the pairs are discarded. The loss
    must not be negative.
    """

    def __init__(
        self, lr: float = 1.0, history: int = 50, bounds: tuple[float, float] | None = None
    ) -> None:
        self.lr, self.bounds = lr, bounds
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=history)
        self.point: Iterate | None = None
        self.move = torch.zeros(())  # from the accepted point to the current one
        self.best_loss = math.inf
        self.rejected = 0  # consecutive steps

    @torch.no_grad()
    def step(self, x: Tensor, loss: float, gradient: Tensor) -> None:
        """Update `x` in place, given the loss and its gradient at `x`."""
        if self.point is not None:
            change = gradient - self.point.gradient
            curvature = (change * self.move).sum()
            if curvature > MIN_CURVATURE:
                self.pairs.append((self.move, change, 1 / curvature))
        if self.point is None or loss <= MAX_INCREASE * self.best_loss:
            self.point, self.rejected = Iterate(x.clone(), gradient), 0
            self.best_loss = min(self.best_loss, loss)
        else:
            self.rejected += 1
            if self.rejected == MAX_REJECTED:
                self.pairs.clear()
                self.rejected = 0
        gradient = self.point.gradient
        if self.pairs:
            direction = self.direction(gradient)
        else:
            # The scale is unknown at first: an L1 norm of at most 1, as in torch.optim.LBFGS.
            direction = -gradient * min(1.0, 1 / max(float(gradient.abs().sum()), 1e-30))
        self.move = self.lr * direction * 0.5**self.rejected
        x.copy_(self.point.x + self.move)
        if self.bounds is not None:
            x.clamp_(*self.bounds)

    def direction(self, gradient: Tensor) -> Tensor:
        """-H g, where H is the inverse Hessian that the pairs approximate."""
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
