"""Limited-memory BFGS without a line search: one evaluation a step, as style transfer wants it."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_CURVATURE = 1e-10  # of a pair that is kept
WORST = 1.1  # times the least loss so far: a move that ends higher is taken back
MOST_TAKEN_BACK = 4  # moves in a row, before the pairs are given up


@dataclass(frozen=True)
class Point:
    """Where to move on from."""

    x: Tensor
    gradient: Tensor


class LBFGS:
    """Nocedal and Wright 2006, algorithm 7.4 (the two-loop recursion), within bounds.

    `history` pairs of moves and changes of the gradient stand for the Hessian. As long as the loss
    behaves, the moves are those of torch.optim.LBFGS with a closure that clamps. Where it rises,
    the move is taken back; what it told of the curvature is kept, so that the next one from there
    is shorter. Where that does not help either, as the bounds may bring about, the pairs are given
    up. The loss is one that is nowhere negative.
    """

    def __init__(
        self, lr: float = 1.0, history: int = 50, bounds: tuple[float, float] | None = None
    ) -> None:
        self.lr, self.bounds = lr, bounds
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=history)
        self.point: Point | None = None
        self.move = torch.zeros(())  # that led from the point to where the gradient is asked for
        self.least = math.inf
        self.taken_back = 0  # moves in a row

    @torch.no_grad()
    def step(self, x: Tensor, loss: float, gradient: Tensor) -> None:
        """Move `x`, in place, given the loss and its gradient there."""
        if self.point is not None:
            change = gradient - self.point.gradient
            curvature = (change * self.move).sum()
            if curvature > LEAST_CURVATURE:
                self.pairs.append((self.move, change, 1 / curvature))
        if self.point is None or loss <= WORST * self.least:
            self.point, self.taken_back = Point(x.clone(), gradient), 0
            self.least = min(self.least, loss)
        else:
            self.taken_back += 1
            if self.taken_back == MOST_TAKEN_BACK:
                self.pairs.clear()
                self.taken_back = 0
        gradient = self.point.gradient
        if self.pairs:
            direction = self.direction(gradient)
        else:
            # The first scale is unknown: a step of length 1 at most, as in torch.optim.LBFGS.
            direction = -gradient * min(1.0, 1 / max(float(gradient.abs().sum()), 1e-30))
        self.move = self.lr * direction * 0.5**self.taken_back
        x.copy_(self.point.x + self.move)
        if self.bounds is not None:
            x.clamp_(*self.bounds)

    def direction(self, gradient: Tensor) -> Tensor:
        """-H g, H being the inverse Hessian that the pairs imply."""
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
