"""A linear support vector machine, compiled.

Shapes: N samples, D features.
"""

import numpy as np

from dlkit.core.numba_tools import njit


@njit(cache=True, nogil=True)
def dual_descent(features, signs, costs, tolerance, max_passes, seed):
    """The w (D) that minimizes |w|^2 / 2 + sum of costs * max(0, 1 - signs * features @ w).

    Features (N, D), signs (N) of -1 or 1, costs (N). Coordinate descent in the dual (Hsieh et al.
    2008, algorithm 1), until its gradient's projections differ by less than `tolerance`.
    """
    np.random.seed(seed)
    count, size = features.shape
    w = np.zeros(size)
    alphas = np.zeros(count)
    squares = np.empty(count)
    for i in range(count):
        squares[i] = (features[i] * features[i]).sum()  # np.dot would need scipy
    order = np.arange(count)
    for _ in range(max_passes):
        np.random.shuffle(order)
        highest, lowest = -np.inf, np.inf
        for i in order:
            gradient = -1.0
            for k in range(size):
                gradient += signs[i] * features[i, k] * w[k]
            projected = gradient
            if alphas[i] == 0.0:
                projected = min(gradient, 0.0)
            elif alphas[i] == costs[i]:
                projected = max(gradient, 0.0)
            highest, lowest = max(highest, projected), min(lowest, projected)
            if projected != 0.0 and squares[i] > 0.0:
                before = alphas[i]
                alphas[i] = min(max(before - gradient / squares[i], 0.0), costs[i])
                step = (alphas[i] - before) * signs[i]
                for k in range(size):
                    w[k] += step * features[i, k]
        if highest - lowest < tolerance:
            break
    return w
