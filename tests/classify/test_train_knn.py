"""Training of k nearest neighbors."""

from pathlib import Path

from tests.classify.helpers import evaluated, trained


def test_knn_on_a_networks_features(stripes: Path, model: Path, tmp_path: Path) -> None:
    options = ["--arch", "knn", "--features-from", model, "--neighbors", 3]
    neighbors = trained(stripes, tmp_path / "run", *options)
    assert evaluated(stripes, "-m", neighbors)["top1", "all"] == 1.0
