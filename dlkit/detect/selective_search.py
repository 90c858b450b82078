"""Regions that may hold an object, whatever it is: selective search (Uijlings et al. 2013).

A picture is cut into small segments of one color, and the two neighbors most alike are merged
until one is left; the box around each segment that was there on the way is a proposal. Done in two
color spaces, which make different mistakes. Of the paper's four measures of likeness, texture is
left out: on the VOC animals it found no more of the objects and took as long as all the rest.
"""

from itertools import zip_longest

import numpy as np
from PIL import Image

from dlkit.core.numba_tools import loading

with loading("selective search", 10):
    from dlkit.detect.compiled_regions import blurred, described, merged, segments

SIDE = 256  # longest side searched, in pixels: the rest is measured in these
SPACES = ("HSV", "YCbCr")
SIGMA, SCALE, SMALLEST = 0.8, 100.0, 50  # of the segments (Felzenszwalb and Huttenlocher 2004)
BINS = 25  # of each channel's histogram
LIMIT = 300  # proposals an image
THINNEST = 8  # pixels; a narrower box is no proposal


def propose(pixels: np.ndarray) -> np.ndarray:
    """At most LIMIT different boxes (N, 4) in an image (H, W, 3) of uint8, in its pixels.

    Those merged last come first, the color spaces taking turns.
    """
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    share = min(1.0, SIDE / max(height, width))
    if share < 1:
        size = (max(1, round(width * share)), max(1, round(height * share)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    turns = zip_longest(*(hierarchy(image.convert(space)) for space in SPACES))
    boxes = np.stack([box for turn in turns for box in turn if box is not None])
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= THINNEST]
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)[:LIMIT]] * np.array(
        [width / image.width, height / image.height] * 2
    )


def hierarchy(image: Image.Image) -> np.ndarray:
    """The boxes (N, 4) of all segments of an image, from the whole of it to the first ones."""
    colors = np.asarray(image)
    smooth = blurred(colors.astype(np.float32), gaussian(SIGMA))
    labels, count = segments(smooth, SCALE, SMALLEST)
    bins = (colors.astype(np.int64) * BINS // 256).astype(np.uint8)
    return merged(labels, count, *described(labels, count, bins, BINS))[::-1]


def gaussian(sigma: float) -> np.ndarray:
    """Weights that sum to 1, as far as four deviations."""
    reach = int(np.ceil(4 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)
