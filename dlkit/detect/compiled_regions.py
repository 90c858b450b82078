"""The compiled loops of selective search: segmentation of an image, and merging of segments.

Shapes: H x W pixels, K color channels, S segments, D bins of a histogram of colors.
"""

import numpy as np

from dlkit.core.numba_tools import njit

LEVELS = 1024  # differences of color are sorted by counting, in steps of 256 * sqrt(3) / 1024
BRIGHTEST = 444.0


@njit(cache=True, nogil=True)
def root(parents, node):
    """The representative of a node's set, halving the path to it."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@njit(cache=True, nogil=True)
def blur(image, weights):
    """The image (H, W, K) convolved down and across with 2R + 1 `weights`; edges are repeated."""
    height, width, channels = image.shape
    reach = len(weights) // 2
    down = np.zeros_like(image)
    for y in range(height):
        for k in range(-reach, reach + 1):
            source = min(max(y + k, 0), height - 1)
            for x in range(width):
                for c in range(channels):
                    down[y, x, c] += weights[k + reach] * image[source, x, c]
    across = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            for k in range(-reach, reach + 1):
                source = min(max(x + k, 0), width - 1)
                for c in range(channels):
                    across[y, x, c] += weights[k + reach] * down[y, source, c]
    return across


@njit(cache=True, nogil=True)
def difference(image, y1, x1, y2, x2):
    total = np.float32(0.0)
    for c in range(image.shape[2]):
        total += (image[y1, x1, c] - image[y2, x2, c]) ** 2
    return np.sqrt(total)


@njit(cache=True, nogil=True)
def find_segments(image, scale, smallest):
    """Graph-based segmentation of an image (H, W, K): numbers (H, W) from 0, and their count.

    Felzenszwalb and Huttenlocher 2004, algorithm 1, on the grid graph of 4 neighbors: two
    segments merge over an edge that is no heavier than the heaviest edge inside each, plus
    `scale` / its size (eq. 4 and 5). Then segments of fewer than `smallest` pixels merge with a
    neighbor, as in the authors' code.
    """
    height, width, _ = image.shape
    count = height * (width - 1) + (height - 1) * width
    first, second = np.empty(count, np.int32), np.empty(count, np.int32)
    weights = np.empty(count, np.float32)
    filled = 0
    for y in range(height):
        for x in range(width):
            if x + 1 < width:
                first[filled], second[filled] = y * width + x, y * width + x + 1
                weights[filled] = difference(image, y, x, y, x + 1)
                filled += 1
            if y + 1 < height:
                first[filled], second[filled] = y * width + x, (y + 1) * width + x
                weights[filled] = difference(image, y, x, y + 1, x)
                filled += 1

    starts = np.zeros(LEVELS + 1, np.int64)
    for edge in range(count):
        starts[min(int(weights[edge] * LEVELS / BRIGHTEST), LEVELS - 1) + 1] += 1
    for level in range(LEVELS):
        starts[level + 1] += starts[level]
    order = np.empty(count, np.int32)
    for edge in range(count):
        level = min(int(weights[edge] * LEVELS / BRIGHTEST), LEVELS - 1)
        order[starts[level]] = edge
        starts[level] += 1

    parents = np.arange(height * width).astype(np.int32)
    sizes = np.ones(height * width, np.int32)
    limits = np.full(height * width, scale, np.float32)  # heaviest edge inside + scale / size
    for edge in order:
        a, b = root(parents, first[edge]), root(parents, second[edge])
        if a != b and weights[edge] <= limits[a] and weights[edge] <= limits[b]:
            parents[b] = a
            sizes[a] += sizes[b]
            limits[a] = weights[edge] + scale / sizes[a]
    for edge in order:
        a, b = root(parents, first[edge]), root(parents, second[edge])
        if a != b and (sizes[a] < smallest or sizes[b] < smallest):
            parents[b] = a
            sizes[a] += sizes[b]

    numbers = np.full(height * width, -1, np.int32)
    labels = np.empty((height, width), np.int32)
    found = 0
    for y in range(height):
        for x in range(width):
            own = root(parents, y * width + x)
            if numbers[own] < 0:
                numbers[own] = found
                found += 1
            labels[y, x] = numbers[own]
    return labels, found


@njit(cache=True, nogil=True)
def describe_segments(labels, count, bins, most):
    """Boxes (2S, 4), sizes (2S) and histograms (2S, D) of segments, with room for merged ones.

    `bins` (H, W, K) are bin numbers below `most`; a histogram sums to 1 over all channels.
    """
    height, width = labels.shape
    channels = bins.shape[2]
    boxes = np.empty((2 * count, 4), np.float32)
    boxes[:, :2], boxes[:, 2:] = max(height, width), 0
    sizes = np.zeros(2 * count, np.float32)
    histograms = np.zeros((2 * count, channels * most), np.float32)
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            boxes[own, 0], boxes[own, 1] = min(boxes[own, 0], x), min(boxes[own, 1], y)
            boxes[own, 2], boxes[own, 3] = max(boxes[own, 2], x + 1), max(boxes[own, 3], y + 1)
            sizes[own] += 1
            for c in range(channels):
                histograms[own, c * most + bins[y, x, c]] += 1
    for own in range(count):
        histograms[own] /= sizes[own] * channels
    return boxes, sizes, histograms


@njit(cache=True, nogil=True)
def similarity(a, b, boxes, histograms, pixels):
    """Similarity of two segments: color + size + fill (Uijlings et al. 2013, eq. 2, 4 and 5)."""
    color = np.float32(0.0)
    for k in range(histograms.shape[1]):
        color += min(histograms[a, k], histograms[b, k])
    width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
    height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
    # size = 1 - both / pixels and fill = 1 - (box - both) / pixels, where `both` cancels out.
    return color + 2 - width * height / pixels


@njit(cache=True, nogil=True)
def merge_segments(labels, count, boxes, sizes, histograms):
    """Boxes (2S - 1, 4) of the segments and of all merged ones, in the order of merging.

    Algorithm 1 of Uijlings et al. 2013: greedily merges the two most similar neighbors until the
    whole image is one segment.
    """
    height, width = labels.shape
    pixels = np.float32(height * width)
    neighbors = np.zeros((2 * count, 2 * count), np.bool_)
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            if x + 1 < width and labels[y, x + 1] != own:
                neighbors[own, labels[y, x + 1]] = neighbors[labels[y, x + 1], own] = True
            if y + 1 < height and labels[y + 1, x] != own:
                neighbors[own, labels[y + 1, x]] = neighbors[labels[y + 1, x], own] = True

    # For each segment, the most similar one among those with lower numbers.
    best = np.full(2 * count, -1, np.int64)
    scores = np.full(2 * count, -1.0, np.float32)
    alike = np.empty((2 * count, 2 * count), np.float32)
    alive = np.zeros(2 * count, np.bool_)
    for new in range(2 * count - 1):
        if new >= count:
            a = -1
            for k in range(new):
                if alive[k] and best[k] >= 0 and (a < 0 or scores[k] > scores[a]):
                    a = k
            b = best[a]
            share = sizes[a] / (sizes[a] + sizes[b])
            sizes[new] = sizes[a] + sizes[b]
            for k in range(histograms.shape[1]):
                histograms[new, k] = share * histograms[a, k] + (1 - share) * histograms[b, k]
            for k in range(2):
                boxes[new, k] = min(boxes[a, k], boxes[b, k])
                boxes[new, k + 2] = max(boxes[a, k + 2], boxes[b, k + 2])
            alive[a] = alive[b] = False
            for k in range(new):
                if alive[k] and (neighbors[a, k] or neighbors[b, k]):
                    neighbors[new, k] = neighbors[k, new] = True
                if alive[k] and (best[k] == a or best[k] == b):
                    best[k], scores[k] = -1, -1.0
                    for other in range(k):
                        if alive[other] and neighbors[k, other] and alike[k, other] > scores[k]:
                            best[k], scores[k] = other, alike[k, other]
        alive[new] = True
        for k in range(new):
            if alive[k] and neighbors[new, k]:
                alike[new, k] = similarity(new, k, boxes, histograms, pixels)
                if alike[new, k] > scores[new]:
                    best[new], scores[new] = k, alike[new, k]
    return boxes[: 2 * count - 1]
