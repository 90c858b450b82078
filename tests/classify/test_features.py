"""Descriptors and their principal components."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dlkit.classify.features import (
    Description,
    StoredFeatures,
    as_rows,
    describe,
    list_layers,
    make_describer,
    principal_components,
    reduce_descriptors,
    save_features,
)
from dlkit.classify.infer import Classifier
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure


def test_the_default_descriptor_is_the_input_of_the_last_linear_layer(
    classifier: Classifier,
) -> None:
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    found = make_describer(classifier).outputs(pixels)
    head = classifier.network.get_submodule("head.fc")
    assert isinstance(head, nn.Linear)
    assert found.shape == (3, head.in_features)
    with torch.inference_mode():
        torch.testing.assert_close(head(found), classifier.outputs(pixels))


def test_any_layer_and_places_averaged(classifier: Classifier) -> None:
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    inputs = classifier.preprocessing.normalize(pixels)
    first = classifier.network.get_submodule("features.0")
    with torch.no_grad():
        before_relu = nn.Sequential(*list(first.children())[:-1])(inputs)
    # The ReLU after it works in place, which must not show.
    norm = [name for name, m in first.named_children() if isinstance(m, nn.BatchNorm2d)][0]
    found = make_describer(classifier, f"features.0.{norm}").outputs(pixels)
    torch.testing.assert_close(found, before_relu.mean(dim=(2, 3)))
    assert (found != before_relu.relu().mean(dim=(2, 3))).any()

    listed = {layer.name: layer for layer in list_layers(classifier)}
    assert listed["head.fc"].numbers == 4
    assert listed["features"].numbers == listed["head.flat"].numbers
    for name, layer in listed.items():
        assert make_describer(classifier, name).outputs(pixels).shape == (2, layer.numbers)
    with pytest.raises(DlkitError, match=r"unknown layer 'head.f'; choose from head.fc, "):
        make_describer(classifier, "head.f")


def test_a_model_for_metric_learning_describes_by_its_output(classifier: Classifier) -> None:
    trained = replace(classifier, descriptor=True)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(make_describer(trained).outputs(pixels), classifier.outputs(pixels))


@pytest.mark.parametrize(("samples", "numbers"), [(50, 7), (6, 20)])
def test_principal_components_are_numpys(samples: int, numbers: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(samples, numbers)) @ rng.normal(size=(numbers, numbers)) + 3
    projection = principal_components(torch.tensor(data, dtype=torch.float32), 4)
    centered = data - data.mean(axis=0)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    signs = np.sign((components[:4] * projection.components.numpy()).sum(axis=1))
    np.testing.assert_allclose(projection.components, signs[:, None] * components[:4], atol=1e-4)
    np.testing.assert_allclose(projection.variance, singular[:4] ** 2 / (samples - 1), rtol=1e-4)
    np.testing.assert_allclose(
        projection(torch.tensor(data, dtype=torch.float32)),
        centered @ components[:4].T * signs,
        atol=1e-3,
    )
    largest = projection.components.gather(
        1, projection.components.abs().argmax(dim=1, keepdim=True)
    )
    assert (largest > 0).all()


def test_more_components_than_there_are() -> None:
    with pytest.raises(DlkitError, match="--pca 4: 3 descriptors of 8 numbers have at most 3"):
        principal_components(torch.randn(3, 8), 4)


def test_descriptors_are_stored_with_their_paths_and_projection(
    folder: Path, classifier: Classifier, tmp_path: Path
) -> None:
    (folder / "red" / "bad.png").write_bytes(b"no image")
    results = list(describe([str(folder)], classifier, batch_size=5))
    assert [type(result) for result in results].count(Failure) == 1
    described = [result for result in results if isinstance(result, Description)]
    output = tmp_path / "out" / "features.npy"
    projection, short = reduce_descriptors(results, 3)
    failure, stored = save_features(short, output, projection)
    assert isinstance(failure, Failure)
    assert stored == StoredFeatures(str(output), 12, 3)
    names = (tmp_path / "out" / "features.paths.txt").read_text().splitlines()
    assert names == [result.path for result in described]
    whole = torch.stack([result.descriptor for result in described]).numpy()
    with np.load(tmp_path / "out" / "features.pca.npz") as saved:
        expected = (whole - saved["mean"]) @ saved["components"].T
        assert saved["variance"].shape == (3,)
    np.testing.assert_allclose(np.load(output), expected, atol=1e-5)
    assert len(list((tmp_path / "out").iterdir())) == 3

    printed = next(iter(as_rows(described)))
    np.testing.assert_allclose(printed.descriptor, whole[0], rtol=1e-6)  # type: ignore[union-attr]
    with pytest.raises(DlkitError, match=r"none\.npy: not written"):
        list(save_features([Failure("a", "damaged")], tmp_path / "none.npy"))
    assert not (tmp_path / "none.npy").exists()
