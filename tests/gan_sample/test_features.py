"""Descriptors of pictures, from classifiers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.gan_sample import features


def test_the_feature_network_suits_the_pictures() -> None:
    assert features.load("auto", 28, 1, "cpu").name == "digits"
    assert features.load("auto", 32, 3, "cpu").name == "cifar10"
    assert features.load("auto", 64, 3, "cpu").name == "caltech101"


def test_descriptors_are_those_of_dlkit_classify(tmp_path: Path) -> None:
    """A picture's descriptor and label are what the classifier itself has for its file."""
    from PIL import Image

    from dlkit.classify import infer
    from dlkit.classify.features import LayerDescriber

    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (3, 1, 28, 28), dtype=np.uint8))
    network = features.load("digits", 28, 1, "cpu")
    found, labels = network.describe(pixels)
    assert found.shape == (3, 84)
    classifier = infer.load("digits", "cpu", "fp32")
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture[0].numpy()).save(path)
    outputs = torch.stack([out for _, out in infer.predict(classifier, map(str, paths))])  # type: ignore[misc]
    assert labels.tolist() == outputs.argmax(dim=1).tolist()
    inputs = classifier.preprocessing.normalize(pixels)
    with torch.inference_mode():
        assert torch.allclose(found, LayerDescriber(classifier.network)(inputs), atol=1e-5)


def test_pictures_are_fitted_to_the_classifier() -> None:
    digits, photos = features.load("digits", 28, 1, "cpu"), features.load("cifar10", 32, 3, "cpu")
    colored = torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 56, 56)
    small = digits.preprocess(colored)
    assert small.shape == (1, 1, 28, 28)
    assert float(small.mean()) == pytest.approx(0.299 * 255, rel=1e-4)
    gray = photos.preprocess(torch.full((2, 1, 28, 28), 7.0))
    assert gray.shape == (2, 3, 32, 32)
    assert torch.allclose(gray, torch.tensor(7.0))
