"""Selective search: class-agnostic region proposals (Uijlings et al. 2013).

An image is divided into small segments of similar color, and the two most similar neighbors are
merged until one segment remains; the box around each segment on the way is a proposal. Two color
spaces are searched, since they make different mistakes. Of the paper's four similarity measures,
texture is omitted: on the VOC animals it found no more objects and took as long as all the rest.
"""

from itertools import zip_longest

import numpy as np
from PIL import Image

from dlkit.core.numba_tools import compile_notice

with compile_notice("selective search", 10):
    from dlkit.detect.compiled_regions import blur, describe_segments, find_segments, merge_segments

SIDE = 256  # longest side of the searched image, whose pixels are the unit below
SPACES = ("HSV", "YCbCr")
SIGMA, SCALE, SMALLEST = 0.8, 100.0, 50  # of the segments (Felzenszwalb and Huttenlocher 2004)
BINS = 25  # of each channel's histogram
LIMIT = 300  # proposals per image
MIN_SIDE = 8  # of a proposal, in pixels


def propose(pixels: np.ndarray) -> np.ndarray:
    """Propose at most LIMIT different boxes (N, 4) in an image (H, W, 3) of uint8, in its pixels.

    Boxes are in reverse order of merging, alternating between the color spaces.
    """
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    share = min(1.0, SIDE / max(height, width))
    if share < 1:
        size = (max(1, round(width * share)), max(1, round(height * share)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    turns = zip_longest(*(hierarchy(image.convert(space)) for space in SPACES))
    boxes = np.stack([box for turn in turns for box in turn if box is not None])
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= MIN_SIDE]
    _, first = np.unique(boxes, axis=0, return_index=True)
    scales = np.array([width / image.width, height / image.height] * 2)
    proposals: np.ndarray = boxes[np.sort(first)[:LIMIT]] * scales
    return proposals


def hierarchy(image: Image.Image) -> np.ndarray:
    """The boxes (N, 4) of all segments of an image, from the whole image to the initial ones."""
    colors = np.asarray(image)
    smooth = blur(colors.astype(np.float32), gaussian(SIGMA))
    labels, count = find_segments(smooth, SCALE, SMALLEST)
    bins = (colors.astype(np.int64) * BINS // 256).astype(np.uint8)
    boxes: np.ndarray = merge_segments(labels, count, *describe_segments(labels, count, bins, BINS))
    return boxes[::-1]


def gaussian(sigma: float) -> np.ndarray:
    """A Gaussian kernel of four standard deviations to each side; its weights sum to 1."""
    reach = int(np.ceil(4 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel: np.ndarray = (weights / weights.sum()).astype(np.float32)
    return kernel
